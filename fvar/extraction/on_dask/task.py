"""What a Dask worker does for an extraction: it makes one shard, for as long as that is wanted."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from fvar.errors import ConfigError, StoppedError
from fvar.extraction.budget import Budget
from fvar.extraction.make_shards import Work
from fvar.extraction.probe.pool import Probes
from fvar.extraction.program import find_ffmpeg
from fvar.extraction.shards import FOLDER, Shard, ShardRecord, finished
from fvar.processes import ChildProcesses
from fvar.store.provenance import output_file

_LOOK_SECONDS = 0.5
_UNDER_WAY = ("executing", "long-running")
_ENDING = ("closing", "closed", "failed")


@dataclass(frozen=True)
class Made:
    """A shard that is whole.

    Attributes:
        record: Of the shard.
        mark: Of its file when it was what the record says, from `mark_of`.
    """

    record: ShardRecord
    mark: tuple[int, int]


def mark_of(path: Path) -> tuple[int, int]:
    """Return by what a file is known to be the same again: its size and time of modification."""
    with path.open("rb") as file:  # opened, because network file systems then ask the server
        status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def make_shard(work: Work, shard: Shard) -> Made:
    """Make `shard` in a thread of a worker, or find it made.

    Raises:
        StoppedError: As `Work.make` does, or this machine does not see or have what the command does.
        Reschedule: The worker ends, or another replaced the shard meanwhile.
    """
    _check_worker(work)
    # A worker that died may have finished it before it could say so.
    record = finished(work.out_dir, shard) or _make(work, shard)
    mark = mark_of(work.out_dir / shard.name)
    # A worker that is thought lost may still write; whose file is there now?
    if output_file(work.out_dir, shard.name) != record.shard:
        raise _dask().Reschedule
    return Made(record, mark)


def _make(work: Work, shard: Shard) -> ShardRecord:
    running = ChildProcesses()
    # --max-gb is about all shards, and the scheduler's side counts them.
    budget = Budget(work.out_dir, max_gb=None, reserve_gb=work.config.reserve_gb)
    with _while_wanted(running) as unwanted, Probes(running) as probes:
        try:
            (record,) = work.make([shard], probes=probes, budget=budget, tell=lambda _: None)
        except StoppedError:
            if unwanted.is_set():  # what we ended ourselves is no failure: another worker does it
                raise _dask().Reschedule from None
            raise
    return record


@contextmanager
def _while_wanted(running: ChildProcesses) -> Iterator[threading.Event]:
    """Stop `running` once nobody wants the task of this thread, or the worker ends; yield whether so.

    The command may have been interrupted or be gone, the scheduler too, or a batch system ends the worker.
    """
    worker = _dask().get_worker()
    key = worker.get_current_task()
    unwanted, ended = threading.Event(), threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            if not _is_wanted(worker, key):
                unwanted.set()
                running.stop()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield unwanted
    finally:
        ended.set()
        watcher.join()


def _is_wanted(worker: Any, key: str) -> bool:
    task = worker.state.tasks.get(key)
    return task is not None and task.state in _UNDER_WAY and worker.status.name not in _ENDING


def is_busy(run: str, dask_worker: Any) -> bool:
    """Tell whether a thread of a worker is still at a task of `run`; Dask gives the worker by its name."""
    return any(str(key).endswith(run) for key in list(dask_worker.active_threads.values()))


def _check_worker(work: Work) -> None:
    """Make sure that this machine sees and has what the one that asks sees and has."""
    here = f"Dask worker on {socket.gethostname()}"
    for folder in (work.out_dir / FOLDER, Path(work.config.videos)):
        if not folder.is_dir():
            raise StoppedError(
                here,
                f"does not see {folder}",
                fix="put it on a file system that all machines share, at the same path",
            )
    try:
        version = find_ffmpeg(work.config.ffmpeg).version
    except ConfigError as error:
        raise StoppedError(here, f"{error.thing} {error.problem}", fix=error.fix) from error
    if version != work.program.version:
        raise StoppedError(
            here,
            f"has ffmpeg {version}, the command {work.program.version}",
            fix="install the same fvar and imageio-ffmpeg on all machines",
        )


def _dask() -> Any:
    """Import Dask: it is optional and takes a second."""
    return import_module("distributed")
