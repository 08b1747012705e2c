"""Both ends of Dask: a task makes one shard or says why not, and the client shows what happens."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kill_sweep import NAMES, finished_shards
from processes import wait_until
from video_samples import extract_config, fake_ffmpeg, plan_extraction, write_source

from fvar.errors import ConfigError, StoppedError
from fvar.extraction import budget
from fvar.extraction.decode import Decoded, Decoder
from fvar.extraction.estimate import Estimate
from fvar.extraction.on_dask import client as on_dask
from fvar.extraction.on_dask.client import DaskClient
from fvar.extraction.on_dask.task import make_shard
from fvar.extraction.run import Extraction
from fvar.extraction.shards import discard, finished
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract

distributed = pytest.importorskip("distributed", reason="wants the extra fvar[dask]")


def _plan(samples: Path, folder: Path, **settings: Any) -> Extraction:
    return plan_extraction(folder, NAMES[:1], extract_config(samples, **settings))


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


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
def test_two_makers_of_one_shard(samples: Path, tmp_path: Path) -> None:
    """Both return the same record, and the one file that they leave is what it says; a third keeps it."""
    plan = _plan(samples, tmp_path)
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


@pytest.mark.slow
@pytest.mark.parametrize("what", ["canceled", "forgotten", "closing"])
def test_a_task_that_is_not_wanted(
    samples: Path,
    tmp_path: Path,
    worker: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """If it is canceled or its worker closes, it stops, leaves no file, and has not failed."""
    plan = _plan(samples, tmp_path)
    decode = Decoder.decode

    def meanwhile(decoder: Decoder, *video: Any, **hashed: Any) -> list[Decoded]:
        if what == "canceled":
            worker.state.tasks["key"].state = "cancelled"
        elif what == "forgotten":
            worker.state.tasks.clear()
        else:
            worker.status.name = "closing"
        wait_until(lambda: decoder.probes.running.stopped)
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
    program = fake_ffmpeg(tmp_path, "")
    plan = _plan(samples, tmp_path, ffmpeg=str(program))
    monkeypatch.setattr(budget, "free_bytes", lambda _: 1_000_000_000)
    with pytest.raises(StoppedError, match="1 GB is free") as full:
        make_shard(plan.work, plan.shards[0])
    program.write_text("#!/bin/sh\necho ffmpeg version 8.0\n")
    with pytest.raises(StoppedError, match=r"its version is 8\.0") as other:
        make_shard(plan.work, plan.shards[0])
    (plan.work.out_dir / "shards").rmdir()
    with pytest.raises(StoppedError, match="is not a folder") as absent:
        make_shard(plan.work, plan.shards[0])
    for error in (full, other, absent):
        assert error.value.thing == f"Dask worker on {socket.gethostname()}"


@pytest.mark.slow
def test_no_scheduler(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that does not answer, or a missing package, is one line, and nothing is written."""
    monkeypatch.setattr(on_dask, "_CONNECT_SECONDS", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = write_source(tmp_path, NAMES[:1])
    config = extract_config(samples, dask=f"tcp://127.0.0.1:{port}")
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
