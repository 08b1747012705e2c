"""Extraction on a Dask cluster: the same store as on one machine, whoever dies."""

import json
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
from fvar.data import cluster
from fvar.errors import ConfigError, StoppedError
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract

_WAIT_SECONDS = 120


class _Dask:
    """A scheduler and two workers on loopback."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "scheduler.json"
        self._log = (folder / "log").open("w")
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        _wait(self._file.exists)
        self.address = str(json.loads(self._file.read_text())["address"])
        flags = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
        local = ["--local-directory", str(folder)]
        self.workers = [self._start("worker", *flags, *local) for _ in range(2)]

    def _start(self, what: str, *flags: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "dask", what, "--scheduler-file", str(self._file), *flags]
        process = subprocess.Popen(command, stdout=self._log, stderr=self._log, text=True)
        self.processes = [*getattr(self, "processes", []), process]
        return process

    def close(self) -> None:
        for process in self.processes:
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


def _config(samples: Path, folder: Path, **settings: Any) -> ExtractConfig:
    """Return settings with an ffmpeg that leaves time to kill somebody."""
    program = folder / "ffmpeg"
    if not program.exists():
        program.write_text(
            f'#!/bin/sh\n[ "$1" = -version ] || sleep 0.5\nexec "{imageio_ffmpeg.get_ffmpeg_exe()}" "$@"\n'
        )
        program.chmod(0o755)
    flags = {"videos": str(samples), "short_side": 16, "videos_per_shard": 1, "workers": 1}
    return ExtractConfig.model_validate(flags | {"ffmpeg": str(program)} | settings)


@pytest.mark.slow
def test_a_cluster_makes_the_same_store(samples: Path, tmp_path: Path, dask: _Dask) -> None:
    """With a worker killed midway its shard is made by the other, and the store equals the local one."""
    source = write_source(tmp_path, NAMES)
    extract(source, tmp_path / "here", _config(samples, tmp_path), SilentReporter())
    command = [sys.executable, "-c", _CHILD, str(source), str(tmp_path / "there")]
    command.append(_config(samples, tmp_path, dask=dask.address).model_dump_json())
    with subprocess.Popen(command) as process:
        _wait(lambda: finished_shards(tmp_path / "there") or process.poll() is not None)
        dask.workers[0].send_signal(signal.SIGKILL)
        assert process.wait(_WAIT_SECONDS) == 0
    assert content(tmp_path / "there") == content(tmp_path / "here")
    assert not list((tmp_path / "there").rglob("*.json.*"))
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
