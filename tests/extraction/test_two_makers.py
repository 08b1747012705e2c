"""Two workers at the same shard: Dask has a task done again where it thinks a worker lost that still runs."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kill_sweep import write_source

from fvar.config import ExtractConfig
from fvar.errors import StoppedError
from fvar.extraction import make_shards as making
from fvar.extraction import shards
from fvar.extraction.budget import Budget
from fvar.extraction.decode import Decoded, Decoder
from fvar.extraction.ffmpeg import find_ffmpeg
from fvar.extraction.make_shards import Work
from fvar.extraction.on_dask import task as cluster_task
from fvar.extraction.on_dask.client import _check_untouched
from fvar.extraction.on_dask.task import Made, mark_of
from fvar.extraction.probe.pool import ProbePool
from fvar.extraction.shards import Shard, ShardRecord, finished, plan_shards
from fvar.processes import ChildProcesses
from fvar.sources.source_csv import read_source
from fvar.store.encoded_video import EncodedVideo

_STEPS = 4  # unlink an old record | write the shard | hash it | write the record


class _Turns:
    """Lets two threads take their steps in a given order."""

    def __init__(self, order: list[int]) -> None:
        self._order, self._changed = order, threading.Condition()
        self._maker = threading.local()

    def become(self, maker: int) -> None:
        """Say who this thread is; its first step begins."""
        self._maker.number = maker
        self.wait()

    def wait(self) -> None:
        maker = self._maker.number
        with self._changed:
            assert self._changed.wait_for(lambda: self._order[:1] == [maker], timeout=60)

    def next(self) -> None:
        """End this step; wait for the turn of the next."""
        with self._changed:
            self._order.pop(0)
            self._changed.notify_all()
        self.wait()

    def end(self) -> None:
        with self._changed:
            self._order.pop(0)
            self._changed.notify_all()

    def gate(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def gated(*arguments: Any, **options: Any) -> Any:
            self.next()
            return function(*arguments, **options)

        return gated


@pytest.fixture
def work(samples: Path, tmp_path: Path) -> tuple[Work, Shard]:
    """Return an extraction of one shard of one video."""
    source = write_source(tmp_path, ["plain.mp4"])
    config = ExtractConfig(videos=str(samples), short_side=16, workers=1, reserve_gb=0)
    program = find_ffmpeg()
    rows = read_source(source)
    (shard,) = plan_shards(
        rows, [samples / "plain.mp4"], config=config, ffmpeg_version=program.version
    )
    return Work(tmp_path / "out", config, program), shard


def _make(work: Work, shard: Shard) -> ShardRecord:
    budget = Budget(work.out_dir, max_gb=None, reserve_gb=0)
    with ProbePool(ChildProcesses()) as probes:
        (record,) = work.make([shard], probes=probes, budget=budget, on_progress=lambda *_: None)
    return record


def _orders() -> Iterator[list[int]]:
    """Yield every order of the steps of two makers, of whom maker 0 begins."""
    for others in combinations(range(1, 2 * _STEPS), _STEPS - 1):
        yield [0 if step in (0, *others) else 1 for step in range(2 * _STEPS)]


def _interleave(
    work: tuple[Work, Shard], order: list[int], patch: pytest.MonkeyPatch
) -> list[ShardRecord]:
    """Make the shard in two threads that take their steps in this order."""
    turns = _Turns(list(order))
    patch.setattr(making, "write_shard", turns.gate(making.write_shard))
    patch.setattr(shards, "output_file", turns.gate(shards.output_file))
    patch.setattr(shards, "write_json", turns.gate(shards.write_json))
    made: dict[int, ShardRecord] = {}

    def run(maker: int) -> None:
        turns.become(maker)
        made[maker] = _make(*work)
        turns.end()

    threads = [threading.Thread(target=run, args=(maker,), name=str(maker)) for maker in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [made[0], made[1]]


def test_a_shard_is_a_function_of_its_videos(work: tuple[Work, Shard], tmp_path: Path) -> None:
    """Two machines write the same bytes: nothing in a shard tells when or where it was made."""
    one, shard = work
    other = replace(one, out_dir=tmp_path / "other")
    records = [_make(one, shard), _make(other, shard)]
    assert records[0] == records[1]
    assert (one.out_dir / shard.name).read_bytes() == (other.out_dir / shard.name).read_bytes()


def test_two_makers_of_a_shard(work: tuple[Work, Shard], monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever order their steps come, both return the same record and what is there is whole."""
    _make_canned(work, monkeypatch)
    for order in _orders():
        with monkeypatch.context() as patch:
            records = _interleave(work, order, patch)
        assert records[0] == records[1] == finished(work[0].out_dir, work[1]), order


def test_two_makers_whose_bytes_differ(
    work: tuple[Work, Shard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where processors encode otherwise, no record that is accepted tells of other bytes than are there."""
    _make_canned(work, monkeypatch)
    write = making.write_shard

    def write_otherwise(path: Path, videos: Iterable[tuple[str, EncodedVideo]]) -> None:
        if threading.current_thread().name == "1":
            videos = ((name, replace(video, ffmpeg_version="other")) for name, video in videos)
        write(path, videos)

    monkeypatch.setattr(making, "write_shard", write_otherwise)
    outcomes = set()
    for order in _orders():
        with monkeypatch.context() as patch:
            records = _interleave(work, order, patch)
        accepted = finished(work[0].out_dir, work[1])
        assert accepted in (None, *records), order
        outcomes.add(accepted is None)
        file = shards.output_file(work[0].out_dir, work[1].name)
        assert accepted is None or accepted.shard == file
        # Of the records that were returned, the one of other bytes than are there is told.
        mark = mark_of(work[0].out_dir / work[1].name)
        for record in records:
            early = Made(record, (mark[0], mark[1] - 1))
            if record.shard == file:
                _check_untouched(work[0].out_dir, early)
            else:
                with pytest.raises(StoppedError, match="was replaced after it was made; see that"):
                    _check_untouched(work[0].out_dir, early)
    assert outcomes == {True, False}


def _make_canned(work: tuple[Work, Shard], monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode once for all."""
    found: list[Decoded] = []
    decode = Decoder.decode

    def note(decoder: Decoder, *video: Any, **hashed: Any) -> list[Decoded]:
        found.extend(decode(decoder, *video, **hashed))
        return found

    monkeypatch.setattr(Decoder, "decode", note)
    _make(*work)
    assert [part.status for part in found] == ["ok"]
    monkeypatch.setattr(Decoder, "decode", lambda *_, **__: found)


def _worker(monkeypatch: pytest.MonkeyPatch, **state: Any) -> SimpleNamespace:
    """Pretend that this thread is one of a Dask worker, at a task in the state `executing`."""
    worker = SimpleNamespace(
        state=SimpleNamespace(tasks={"k": SimpleNamespace(state="executing")}),
        status=SimpleNamespace(name="running"),
        get_current_task=lambda: "k",
        active_threads={1: "k"},
    )
    dask = SimpleNamespace(get_worker=lambda: worker, Reschedule=_Reschedule, **state)
    monkeypatch.setattr(cluster_task, "_dask", lambda: dask)
    monkeypatch.setattr(cluster_task, "_LOOK_SECONDS", 0.01)
    return worker


class _Reschedule(Exception):  # noqa: N818  # as Dask calls it
    pass


def test_a_task_makes_its_shard(work: tuple[Work, Shard], monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns the record and the mark of the file; run again, it finds the shard made."""
    _worker(monkeypatch)
    (work[0].out_dir / "shards").mkdir(parents=True)
    made = cluster_task.make_shard(*work)
    assert made.record == finished(*_where(work))
    assert made.mark == mark_of(work[0].out_dir / work[1].name)
    assert cluster_task.make_shard(*work) == made


def _where(work: tuple[Work, Shard]) -> tuple[Path, Shard]:
    return work[0].out_dir, work[1]


@pytest.mark.parametrize("what", ["cancelled", "forgotten", "closing", "replaced"])
def test_a_task_that_is_not_wanted(
    work: tuple[Work, Shard], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Taken back, on a worker that ends, or overtaken by another maker: ffmpeg ends, nothing has failed."""
    worker = _worker(monkeypatch)
    (work[0].out_dir / "shards").mkdir(parents=True)
    decode = Decoder.decode

    def meanwhile(decoder: Decoder, *video: Any, **hashed: Any) -> list[Decoded]:
        if what == "cancelled":
            worker.state.tasks["k"].state = "cancelled"
        elif what == "forgotten":
            worker.state.tasks.clear()
        elif what == "closing":
            worker.status.name = "closing"
        waiting = threading.Event()
        for _ in range(1000):
            if decoder.probes.running.stopped or what == "replaced":
                break
            waiting.wait(0.01)
        return decode(decoder, *video, **hashed)

    monkeypatch.setattr(Decoder, "decode", meanwhile)
    if what == "replaced":
        monkeypatch.setattr(cluster_task, "output_file", lambda *_: None)
    with pytest.raises(_Reschedule):
        cluster_task.make_shard(*work)
    assert (finished(*_where(work)) is None) == (what != "replaced")
    assert not list(work[0].out_dir.rglob("*.partial"))


def test_a_busy_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is at a run while a thread of it is at one of the run's tasks."""
    worker = _worker(monkeypatch)
    worker.active_threads = {1: "shards/shard-00000.h5-abc"}
    assert cluster_task.is_busy("abc", worker)
    assert not cluster_task.is_busy("abd", worker)
