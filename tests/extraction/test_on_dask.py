"""Extraction on Dask: the same store as on one machine, whichever process dies."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio_ffmpeg
import pytest
from kill_sweep import NAMES, content, finished_shards, write_source

from fvar.config import ExtractConfig
from fvar.errors import ConfigError, StoppedError
from fvar.extraction import budget
from fvar.extraction.decode import Decoded, Decoder
from fvar.extraction.estimate import Estimate
from fvar.extraction.on_dask import client as on_dask
from fvar.extraction.on_dask.client import DaskClient, connect
from fvar.extraction.on_dask.task import make_shard
from fvar.extraction.run import Extraction, open_extraction
from fvar.extraction.shards import discard, finished
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract

distributed = pytest.importorskip("distributed", reason="wants the extra fvar[dask]")

_WAIT_SECONDS = 120

Content = dict[str, str]  # a hash by id


class _Dask:
    """A scheduler and two workers on loopback.

    While a file `hold` exists, an ffmpeg of `_config` does nothing on the workers.
    """

    def __init__(self, folder: Path) -> None:
        self.hold, self._folder, self._log = folder / "hold", folder, (folder / "log").open("w")
        self._file = folder / "scheduler.json"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start("scheduler", "--port", "0")
        _wait(self._file.exists)
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


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Dask]:
    running = _Dask(tmp_path_factory.mktemp("dask"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def here(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Content:
    """Return the content of the store that one machine makes."""
    folder = tmp_path_factory.mktemp("here")
    config = ExtractConfig(videos=str(samples), short_side=16, workers=1)
    extract(write_source(folder, NAMES), folder / "out", config, SilentReporter())
    return content(folder / "out")


def _config(samples: Path, folder: Path, **settings: Any) -> ExtractConfig:
    """Return settings with an ffmpeg that leaves time to kill a process."""
    program = _slow_ffmpeg(folder)
    flags = {"videos": str(samples), "short_side": 16, "videos_per_shard": 1, "workers": 1}
    return ExtractConfig.model_validate(flags | {"ffmpeg": str(program)} | settings)


def _slow_ffmpeg(folder: Path) -> Path:
    """Write an ffmpeg that on a worker notes its process, takes longer, and waits while it is held."""
    program = folder / "ffmpeg"
    program.write_text(
        '#!/bin/sh\n[ "$1" = -version ] || {\n'
        f'[ -z "$HOLD" ] || {{ echo $$ >> "{folder}/pids"; sleep 0.3 >&- 2>&-; }}\n'
        'while [ -e "$HOLD" ]; do sleep 0.05 >&- 2>&-; done\n}\n'
        f'exec "{imageio_ffmpeg.get_ffmpeg_exe()}" "$@"\n'
    )
    program.chmod(0o755)
    return program


def _running(folder: Path) -> list[int]:
    """Return the processes of that ffmpeg that have not ended."""
    pids = folder / "pids"
    noted = map(int, pids.read_text().split()) if pids.exists() else []
    return [pid for pid in noted if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
def test_dask_makes_the_same_store(
    samples: Path, tmp_path: Path, dask: _Dask, here: Content
) -> None:
    """If a worker is killed midway, the other makes its shard, and the store equals the local one."""
    source = write_source(tmp_path, NAMES)
    config = _config(samples, tmp_path, dask=dask.address)
    killer = _AtFirstShard(dask.workers[0].kill)
    extract(source, tmp_path / "there", config, killer)
    assert dask.workers[0].wait() == -signal.SIGKILL
    assert content(tmp_path / "there") == here
    assert not list(tmp_path.rglob("*.partial"))
    _too_much_is_deleted(samples, tmp_path, dask)
    _a_replaced_shard_is_an_error(samples, tmp_path, dask)


class _AtFirstShard(SilentReporter):
    """Calls a function when a shard is made."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.advance = lambda *_, **__: call()

    @contextmanager
    def progress(self, *_: object, **__: object) -> Iterator[Any]:
        yield self


def _too_much_is_deleted(samples: Path, tmp_path: Path, dask: _Dask) -> None:
    """--max-gb holds over all workers: a shard beyond it is not kept."""
    config = _config(samples, tmp_path, dask=dask.address, max_gb=6e-5)
    source = write_source(tmp_path, NAMES)
    with pytest.raises(StoppedError, match="more than --max-gb 6e-05"):
        extract(source, tmp_path / "less", config, SilentReporter())
    kept = finished_shards(tmp_path / "less")
    assert 0 < len(kept) < len(NAMES)


def _a_replaced_shard_is_an_error(samples: Path, tmp_path: Path, dask: _Dask) -> None:
    """A shard that another extraction replaced since never gets into a manifest."""
    plan = _plan(samples, tmp_path, NAMES)
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
    _wait(lambda: list(folder.glob("there/shards/.*.partial")) or process.poll() is not None)
    _wait(lambda: _running(folder) or process.poll() is not None)
    return process


def _completes(samples: Path, folder: Path, dask: _Dask, here: Content) -> None:
    """Run the command to its end, and compare the store with that of one machine."""
    dask.hold.unlink(missing_ok=True)
    process = _command(samples, folder, dask)
    out, err = process.communicate(timeout=_WAIT_SECONDS)
    assert (process.returncode, err) == (0, "")
    assert "with 1 Dask threads as fast as this machine" in out
    assert content(folder / "there") == here


@pytest.mark.slow
def test_the_command_ends(samples: Path, tmp_path: Path, dask: _Dask, here: Content) -> None:
    """Ctrl-C and SIGTERM: code 3, one line. Even after SIGKILL the workers stop what they are doing."""
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = _held(samples, tmp_path, dask)
        process.send_signal(ending)
        _, err = process.communicate(timeout=_WAIT_SECONDS)
        if ending != signal.SIGKILL:
            assert (process.returncode, err.count("\n")) == (3, 1)
            assert err.startswith("fvar: interrupted")
        _wait(lambda: not _running(tmp_path))
        _wait(lambda: not list(tmp_path.rglob("*.partial")))
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
        worker.wait(_WAIT_SECONDS)
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
    _wait(lambda: len((tmp_path / "pids").read_text().split()) > held)
    asked_to_end.send_signal(signal.SIGTERM)
    asked_to_end.wait(_WAIT_SECONDS)
    dask.start_worker()
    dask.hold.unlink()
    _, err = process.communicate(timeout=_WAIT_SECONDS)
    assert (process.returncode, err) == (0, "")
    assert content(tmp_path / "there") == here
    assert not list(tmp_path.rglob("*.partial"))  # though the killed one left its own


def _plan(samples: Path, folder: Path, names: list[str]) -> Extraction:
    """Plan an extraction whose folder exists."""
    source, out = write_source(folder, names), folder / "planned"
    flags = {"label": "", "overwrite": False, "update": False}
    with open_extraction(source, out, _config(samples, folder), SilentReporter(), **flags) as plan:
        (out / "shards").mkdir(parents=True)
        return plan


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Pretend that this thread is one of a Dask worker, with a task that is wanted."""
    worker = SimpleNamespace(
        state=SimpleNamespace(tasks={"key": SimpleNamespace(state="executing")}),
        status=SimpleNamespace(name="running"),
        get_current_task=lambda: "key",
    )
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    return worker


@pytest.mark.usefixtures("worker")
def test_two_makers_of_one_shard(samples: Path, tmp_path: Path) -> None:
    """Both return the same record, and the one file that they leave is what it says; a third keeps it."""
    plan = _plan(samples, tmp_path, NAMES[:1])
    (shard,) = plan.shards
    make = partial(make_shard, plan.work)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            records = list(pool.map(make, [shard, shard]))
            assert records[0] == records[1] == finished(plan.work.out_dir, shard)
            before = finished_shards(plan.work.out_dir)
            assert make(shard) == records[0]
            assert finished_shards(plan.work.out_dir) == before
            discard(plan.work.out_dir, [shard])
    assert not list((plan.work.out_dir / "shards").iterdir())


@pytest.mark.parametrize("what", ["canceled", "forgotten", "closing"])
def test_a_task_that_is_not_wanted(
    samples: Path,
    tmp_path: Path,
    worker: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """If it is canceled or its worker closes, it stops, leaves no file, and has not failed."""
    plan = _plan(samples, tmp_path, NAMES[:1])
    decode = Decoder.decode

    def meanwhile(decoder: Decoder, *video: Any, **hashed: Any) -> list[Decoded]:
        if what == "canceled":
            worker.state.tasks["key"].state = "cancelled"
        elif what == "forgotten":
            worker.state.tasks.clear()
        else:
            worker.status.name = "closing"
        _wait(lambda: decoder.probes.running.stopped)
        return decode(decoder, *video, **hashed)

    monkeypatch.setattr(Decoder, "decode", meanwhile)
    with pytest.raises(distributed.Reschedule):
        make_shard(plan.work, plan.shards[0])
    assert not list((plan.work.out_dir / "shards").iterdir())


@pytest.mark.usefixtures("worker")
def test_an_error_on_a_worker(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, another ffmpeg or a folder that is not shared: the error names the worker's machine."""
    plan = _plan(samples, tmp_path, NAMES[:1])
    monkeypatch.setattr(budget, "free_bytes", lambda _: 1_000_000_000)
    with pytest.raises(StoppedError, match="1 GB is free") as full:
        make_shard(plan.work, plan.shards[0])
    Path(plan.work.program.path).write_text("#!/bin/sh\necho ffmpeg version 9.0\n")
    with pytest.raises(StoppedError, match=r"its version is 9\.0") as other:
        make_shard(plan.work, plan.shards[0])
    (plan.work.out_dir / "shards").rmdir()
    with pytest.raises(StoppedError, match="is not a folder") as absent:
        make_shard(plan.work, plan.shards[0])
    for error in (full, other, absent):
        assert error.value.thing == f"Dask worker on {socket.gethostname()}"


def test_no_scheduler(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that does not answer, or a missing package, is one line, and nothing is written."""
    monkeypatch.setattr(on_dask, "_CONNECT_SECONDS", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = write_source(tmp_path, NAMES[:1])
    config = _config(samples, tmp_path, dask=f"tcp://127.0.0.1:{port}")
    with pytest.raises(ConfigError, match=r"no scheduler answers within 0.5 s"):
        extract(source, tmp_path / "out", config, SilentReporter())
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'fvar\[dask\]'"):
        extract(source, tmp_path / "out", config, SilentReporter())
    assert not (tmp_path / "out").exists()


class _Client:
    """Stands in for Dask's client: `workers` are the threads of each."""

    def __init__(self, workers: list[int], status: str = "running") -> None:
        self.status, self._workers = status, workers

    def nthreads(self) -> dict[str, int]:
        return {str(number): threads for number, threads in enumerate(self._workers)}


@pytest.mark.parametrize(
    ("workers", "shards", "duration"),
    [([8, 8], 100, "38 min with 16"), ([8, 8], 4, "2.5 h with 4"), ([], 100, "10.0 h with 1")],
)
def test_time_on_dask(workers: list[int], shards: int, duration: str) -> None:
    """The time measured here is divided by the number of shards that are made at once."""
    estimate = Estimate(frames=1, num_bytes=1, seconds=36_000.0)
    client = DaskClient(_Client(workers), "tcp://h:1", SilentReporter())
    assert client.duration(estimate, shards).startswith(duration)


@pytest.mark.parametrize(
    ("status", "error", "kind", "problem"),
    [
        ("connecting", distributed.CancelledError(), StoppedError, "the connection is lost"),
        ("running", distributed.CancelledError(), StoppedError, "Dask failed"),
        ("running", TimeoutError("the disk"), StoppedError, "TimeoutError: the disk"),
        ("running", StoppedError("v.mp4", "is bad", fix="x"), StoppedError, "v.mp4: is bad"),
        ("running", KeyError("a bug"), KeyError, "a bug"),
    ],
)
def test_what_a_task_ends_with(
    status: str, error: Exception, kind: type[Exception], problem: str
) -> None:
    """A task's own error is raised as it is, a failure of Dask in one line, a bug as a bug."""
    client = DaskClient(_Client([], status), "tcp://h:1", SilentReporter())
    with pytest.raises(kind, match=problem), client._failures():
        raise error
