"""Extraction on a Dask cluster: the same store as on one machine, whoever dies."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
from kill_sweep import NAMES, content, finished_shards, write_source

from fvar.config import ExtractConfig
from fvar.errors import ConfigError, StoppedError
from fvar.extraction.estimate import Estimate
from fvar.extraction.on_dask import client as cluster
from fvar.extraction.on_dask.client import Cluster
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract

_WAIT_SECONDS = 120

Content = dict[str, str]  # a hash by id


class _Dask:
    """A scheduler and two workers on loopback.

    While a file `hold` is there, an ffmpeg of `_config` does nothing on the workers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self.hold = folder, folder / "hold"
        self._log = (folder / "log").open("a")
        self._processes: list[subprocess.Popen[str]] = []
        self.start()

    def start(self) -> None:
        self._file = self._folder / f"scheduler-{len(self._processes)}.json"
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"
        )
        _wait(self._file.exists)
        self.address = str(json.loads(self._file.read_text())["address"])
        self.workers = [self.start_worker() for _ in range(2)]

    def start_worker(self) -> "subprocess.Popen[str]":
        flags = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
        return self._start("worker", *flags, "--local-directory", str(self._folder))

    def _start(self, what: str, *flags: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "dask", what, "--scheduler-file", str(self._file), *flags]
        environment = os.environ | {"HOLD": str(self.hold)}
        process = subprocess.Popen(
            command, stdout=self._log, stderr=self._log, text=True, env=environment
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._log.close()


def _wait(condition: Any) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Dask]:
    pytest.importorskip("distributed", reason="wants the extra fvar[dask]")
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
    """Return settings with an ffmpeg that leaves time to kill somebody."""
    program = _slow_ffmpeg(folder)
    flags = {"videos": str(samples), "short_side": 16, "videos_per_shard": 1, "workers": 1}
    return ExtractConfig.model_validate(flags | {"ffmpeg": str(program)} | settings)


def _slow_ffmpeg(folder: Path) -> Path:
    """Write an ffmpeg that on a worker notes its process and takes longer, for ever while it is held."""
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
def test_a_cluster_makes_the_same_store(
    samples: Path, tmp_path: Path, dask: _Dask, here: Content
) -> None:
    """With a worker killed midway its shard is made by the other, and the store equals the local one."""
    source = write_source(tmp_path, NAMES)
    command = [sys.executable, "-c", _CHILD, str(source), str(tmp_path / "there")]
    command.append(_config(samples, tmp_path, dask=dask.address).model_dump_json())
    with subprocess.Popen(command) as process:
        _wait(lambda: finished_shards(tmp_path / "there") or process.poll() is not None)
        dask.workers[0].send_signal(signal.SIGKILL)
        assert process.wait(_WAIT_SECONDS) == 0
    assert content(tmp_path / "there") == here
    assert not list((tmp_path / "there").rglob("*.partial"))
    _too_much_is_deleted(samples, tmp_path, dask)


_CHILD = """
import sys
from pathlib import Path
from fvar.config import ExtractConfig
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract
source, out, config = sys.argv[1:]
extract(Path(source), Path(out), ExtractConfig.model_validate_json(config), SilentReporter())
"""


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
    assert "if the cluster's 2 threads are as fast as this machine" in out
    assert content(folder / "there") == here


@pytest.mark.slow
def test_the_command_ends(samples: Path, tmp_path: Path, dask: _Dask, here: Content) -> None:
    """Ctrl-C, SIGTERM: code 3, one line. Even after SIGKILL the workers end their ffmpeg and are free."""
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = _held(samples, tmp_path, dask)
        process.send_signal(ending)
        _, err = process.communicate(timeout=_WAIT_SECONDS)
        if ending == signal.SIGKILL:
            _wait(lambda: not _running(tmp_path))
            _wait(lambda: not list(tmp_path.rglob("*.partial")))
        else:
            assert process.returncode == 3
            assert err.startswith("fvar: interrupted: ")
            assert err.count("\n") == 1
        assert not _running(tmp_path)
        assert not list(tmp_path.rglob("*.partial"))
    _completes(samples, tmp_path, dask, here)


@pytest.mark.slow
def test_the_scheduler_dies(samples: Path, tmp_path: Path, dask: _Dask, here: Content) -> None:
    """Code 3 and one line at once, and the workers end; with another cluster the command goes on."""
    process = _held(samples, tmp_path, dask)
    dask.scheduler.kill()
    began = time.monotonic()
    _, err = process.communicate(timeout=_WAIT_SECONDS)
    assert process.returncode == 3
    assert time.monotonic() - began < 10
    assert err.startswith(f"fvar: --dask {dask.address}: the connection to its scheduler is lost; ")
    assert err.count("\n") == 1
    _wait(lambda: not _running(tmp_path))
    for worker in dask.workers:
        worker.wait(_WAIT_SECONDS)
    assert not list(tmp_path.rglob("*.partial"))
    dask.start()
    _completes(samples, tmp_path, dask, here)


@pytest.mark.slow
def test_all_workers_die(samples: Path, tmp_path: Path, dask: _Dask, here: Content) -> None:
    """The command says so and waits; a worker that is asked to end gives its shard back to the next."""
    process = _held(samples, tmp_path, dask)
    for worker in dask.workers:
        worker.kill()
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("warning"))
    assert (
        line
        == f"warning: Dask {dask.address} has no worker: waiting for one; Ctrl-C ends the waiting\n"
    )
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


def _too_much_is_deleted(samples: Path, tmp_path: Path, dask: _Dask) -> None:
    """--max-gb holds over all workers: what is beyond it is not kept."""
    config = _config(samples, tmp_path, dask=dask.address, max_gb=6e-5)
    source = write_source(tmp_path, NAMES)
    with pytest.raises(StoppedError, match="more than --max-gb 6e-05"):
        extract(source, tmp_path / "less", config, SilentReporter())
    kept = finished_shards(tmp_path / "less")
    assert 0 < len(kept) < len(NAMES)
    shards = tmp_path / "less" / "shards"
    assert sorted(path.name for path in shards.glob("*.h5")) == sorted(kept)


def test_nobody_answers(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that is not there is one line, and nothing is written."""
    pytest.importorskip("distributed", reason="wants the extra fvar[dask]")
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = write_source(tmp_path, NAMES[:1])
    config = _config(samples, tmp_path, dask=f"tcp://127.0.0.1:{port}")
    with pytest.raises(ConfigError, match=r"no scheduler answers within 0.5 s .*; start one"):
        extract(source, tmp_path / "out", config, SilentReporter())
    assert not (tmp_path / "out").exists()


def test_without_dask(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra is one line that says what to install."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    source = write_source(tmp_path, NAMES[:1])
    config = _config(samples, tmp_path, dask="tcp://127.0.0.1:8786")
    with pytest.raises(ConfigError, match=r"needs Dask .*; pip install 'fvar\[dask\]'"):
        extract(source, tmp_path / "out", config, SilentReporter())
    assert not (tmp_path / "out").exists()


class _Client:
    """Stands in for Dask's: `workers` has the threads of each, look by look."""

    def __init__(self, *workers: list[int], status: str = "running") -> None:
        self.status, self._workers = status, list(workers)

    def nthreads(self) -> dict[str, int]:
        return dict(enumerate(self._workers.pop(0)))


class _Listener(SilentReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)

    def warning(self, message: str) -> None:
        self.lines.append(f"warning: {message}")


def test_waiting_for_workers_is_said() -> None:
    """Once when the last is gone, and once when there are some again."""
    listener = _Listener()
    client = _Client([1], [], [], [2, 2], [2, 2], [2, 2], [])
    look = Cluster(client, "tcp://h:1", listener)._watch()
    for _ in range(6):
        look()
    gone = "warning: Dask tcp://h:1 has no worker: waiting for one; Ctrl-C ends the waiting"
    assert listener.lines == [gone, "Dask tcp://h:1: 2 workers, 4 shards at once", gone]


@pytest.mark.parametrize(
    ("workers", "shards", "told"),
    [
        ([8, 8], 100, "38 min if the cluster's 16 threads are as fast as this machine"),
        ([8, 8], 4, "2.5 h if the cluster's 16 threads are as fast as this machine"),
        ([], 100, "10.0 h for one thread as fast as this machine"),
    ],
)
def test_time_on_a_cluster(workers: list[int], shards: int, told: str) -> None:
    """It is the time measured here over the shards made at once, and says on what it rests."""
    guess = Estimate(frames=1, num_bytes=1, seconds=36_000.0)
    assert Cluster(_Client(workers), "tcp://h:1", SilentReporter()).duration(guess, shards) == told


class _Future:
    def __init__(self, status: str, error: Exception) -> None:
        self.status, self._error, self.asked = status, error, 0

    def result(self, *, timeout: float) -> Any:
        assert timeout > 0
        self.asked += 1
        raise self._error


@pytest.mark.parametrize(
    ("client", "future", "told"),
    [
        (
            _Client(status="connecting"),
            _Future("cancelled", RuntimeError("lost")),
            "the connection to its scheduler is lost; see that a scheduler and workers run",
        ),
        (
            _Client(),
            _Future("error", TimeoutError("the disk")),
            r"the cluster failed \(TimeoutError: the disk\); see the logs",
        ),
        (
            _Client(),
            _Future("pending", TimeoutError("nothing yet")),
            "Ctrl-C",
        ),
    ],
)
def test_what_a_task_ends_with(client: Any, future: _Future, told: str) -> None:
    """A task's own error and a lost scheduler stop the run; what only takes longer is waited for."""
    pytest.importorskip("distributed", reason="wants the extra fvar[dask]")
    looks = iter([None, None, StoppedError("user", "pressed Ctrl-C", fix="rerun")])

    def look() -> None:
        if (error := next(looks)) is not None:
            raise error

    with pytest.raises(StoppedError, match=told):
        Cluster(client, "tcp://h:1", SilentReporter())._result(future, look)
    assert future.asked == (3 if future.status == "pending" else 1)


def test_no_log_of_dask_is_seen() -> None:
    """What Dask logs of a lost scheduler is not beside our one line; afterwards it logs as before."""
    pytest.importorskip("distributed", reason="wants the extra fvar[dask]")
    log = logging.getLogger("distributed.client")
    assert log.isEnabledFor(logging.ERROR)
    with cluster._silenced():
        assert not log.isEnabledFor(logging.ERROR)
    assert log.isEnabledFor(logging.ERROR)
