"""Extraction on Dask: the same store as on one machine, whichever process dies."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kill_sweep import NAMES, content, finished_shards
from processes import TIMEOUT_SECONDS, lives, wait_until
from video_samples import Recorder, extract_config, fake_ffmpeg, plan_extraction, write_source

from fvar.errors import StoppedError
from fvar.extraction.on_dask.client import connect
from fvar.extraction.run import Extraction
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract

pytest.importorskip("distributed", reason="wants the extra fvar[dask]")

Content = dict[str, str]  # a hash by id


class _Dask:
    """A scheduler and two workers on loopback.

    While a file `hold` exists, an ffmpeg of `_slow_ffmpeg` does nothing on the workers.
    """

    def __init__(self, folder: Path) -> None:
        self.hold, self._folder, self._log = folder / "hold", folder, (folder / "log").open("w")
        self._file = folder / "scheduler.json"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start("scheduler", "--port", "0")
        wait_until(self._file.exists)
        self.address = str(json.loads(self._file.read_text())["address"])
        self.workers = [self.start_worker() for _ in range(2)]

    def start_worker(self) -> "subprocess.Popen[bytes]":
        flags = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self._folder))
        return self._start("worker", *flags)

    def _start(self, what: str, *flags: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "dask", what, "--scheduler-file", str(self._file)]
        command += ["--host", "127.0.0.1", "--no-dashboard", *flags]
        environment = os.environ | {"HOLD": str(self.hold)}
        process = subprocess.Popen(command, stdout=self._log, stderr=self._log, env=environment)
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._log.close()


@pytest.fixture
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Dask]:
    running = _Dask(tmp_path_factory.mktemp("dask"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def here(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Content:
    """Return the content of the store that one machine makes."""
    folder = tmp_path_factory.mktemp("here")
    source = write_source(folder, NAMES)
    extract(source, folder / "out", extract_config(samples), SilentReporter())
    return content(folder / "out")


def _slow_ffmpeg(folder: Path) -> str:
    """Write an ffmpeg that on a worker notes its process, takes longer, and waits while it is held."""
    body = f'[ -z "$HOLD" ] || {{ echo $$ >> "{folder}/pids"; sleep 0.3 >&- 2>&-; }}\n'
    body += 'while [ -e "$HOLD" ]; do sleep 0.05 >&- 2>&-; done'
    return str(fake_ffmpeg(folder, body))


def _running(folder: Path) -> list[int]:
    """Return the processes of that ffmpeg that have not ended."""
    pids = folder / "pids"
    return list(filter(lives, map(int, pids.read_text().split()))) if pids.exists() else []


@pytest.mark.slow
def test_dask_makes_the_same_store(
    samples: Path, tmp_path: Path, dask: _Dask, here: Content
) -> None:
    """If a worker is killed midway, the other makes its shard, and the store equals the local one."""
    source = write_source(tmp_path, NAMES)
    config = extract_config(samples, ffmpeg=_slow_ffmpeg(tmp_path), dask=dask.address)
    killer = _AtFirstShard(dask.workers[0].kill)
    extract(source, tmp_path / "there", config, killer)
    assert dask.workers[0].wait() == -signal.SIGKILL
    assert content(tmp_path / "there") == here
    assert not list(tmp_path.rglob("*.partial"))
    _too_much_is_deleted(samples, tmp_path, dask)
    _a_replaced_shard_is_an_error(plan_extraction(tmp_path, NAMES, config), dask)


class _AtFirstShard(Recorder):
    """Calls a function when a shard is made."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__()
        self.advance = lambda *_, **__: call()


def _too_much_is_deleted(samples: Path, tmp_path: Path, dask: _Dask) -> None:
    """--max-gb holds over all workers: a shard beyond it is not kept."""
    config = extract_config(samples, ffmpeg=_slow_ffmpeg(tmp_path), dask=dask.address, max_gb=6e-5)
    source = write_source(tmp_path, NAMES)
    with pytest.raises(StoppedError, match="more than --max-gb 6e-05"):
        extract(source, tmp_path / "less", config, SilentReporter())
    kept = finished_shards(tmp_path / "less")
    assert 0 < len(kept) < len(NAMES)


def _a_replaced_shard_is_an_error(plan: Extraction, dask: _Dask) -> None:
    """A shard that another extraction replaced since never gets into a manifest."""
    with connect(dask.address, SilentReporter()) as client:
        assert client is not None
        records = client.make(
            plan.work, plan.shards, budget=plan.budget, on_progress=lambda *_: None
        )
        replaced = plan.work.out_dir / next(records).shard.path
        replaced.write_bytes(b"other")
        with pytest.raises(StoppedError, match="was replaced after it was made") as caught:
            list(records)
    assert caught.value.thing == str(replaced)


def _command(samples: Path, folder: Path, dask: _Dask) -> "subprocess.Popen[str]":
    """Start the command of a user, one shard of all videos."""
    source, program = write_source(folder, NAMES), _slow_ffmpeg(folder)
    command = [sys.executable, "-m", "cli", "extract", source, "--videos", samples, "--out"]
    command += [folder / "there", "--short-side", "16", "--ffmpeg", program, "--dask", dask.address]
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _held(samples: Path, folder: Path, dask: _Dask) -> "subprocess.Popen[str]":
    """Start the command, and wait until a worker decodes without end."""
    dask.hold.touch()
    process = _command(samples, folder, dask)
    wait_until(lambda: list(folder.glob("there/shards/.*.partial")) or process.poll() is not None)
    wait_until(lambda: _running(folder) or process.poll() is not None)
    return process


def _completes(samples: Path, folder: Path, dask: _Dask, here: Content) -> None:
    """Run the command to its end, and compare the store with that of one machine."""
    dask.hold.unlink(missing_ok=True)
    process = _command(samples, folder, dask)
    out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, err) == (0, "")
    assert "with 1 Dask threads as fast as this machine" in out
    assert content(folder / "there") == here


@pytest.mark.slow
def test_the_command_ends(samples: Path, tmp_path: Path, dask: _Dask, here: Content) -> None:
    """Ctrl-C and SIGTERM: code 3, one line. Even after SIGKILL the workers stop what they are doing."""
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = _held(samples, tmp_path, dask)
        process.send_signal(ending)
        _, err = process.communicate(timeout=TIMEOUT_SECONDS)
        if ending != signal.SIGKILL:
            assert (process.returncode, err.count("\n")) == (3, 1)
            assert err.startswith("fvar: interrupted")
        wait_until(lambda: not _running(tmp_path))
        wait_until(lambda: not list(tmp_path.rglob("*.partial")))
    _completes(samples, tmp_path, dask, here)


@pytest.mark.slow
def test_the_scheduler_dies(samples: Path, tmp_path: Path, dask: _Dask) -> None:
    """Code 3 and one line soon, and the workers end and leave nothing behind."""
    process = _held(samples, tmp_path, dask)
    dask.scheduler.kill()
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err.count("\n")) == (3, 1)
    assert err.startswith(f"fvar: --dask {dask.address}: the connection is lost")
    for worker in dask.workers:
        worker.wait(TIMEOUT_SECONDS)
    assert not _running(tmp_path)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.slow
def test_all_workers_die(samples: Path, tmp_path: Path, dask: _Dask, here: Content) -> None:
    """The command says so and waits; a worker that is asked to end gives its shard back to the next."""
    process = _held(samples, tmp_path, dask)
    for worker in dask.workers:
        worker.kill()
    assert process.stdout is not None
    assert any("has no worker" in line for line in process.stdout)
    held = len((tmp_path / "pids").read_text().split())
    asked_to_end = dask.start_worker()
    wait_until(lambda: len((tmp_path / "pids").read_text().split()) > held)
    asked_to_end.send_signal(signal.SIGTERM)
    asked_to_end.wait(TIMEOUT_SECONDS)
    dask.start_worker()
    dask.hold.unlink()
    _, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, err) == (0, "")
    assert content(tmp_path / "there") == here
    assert not list(tmp_path.rglob("*.partial"))  # though the killed one left its own
