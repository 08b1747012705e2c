"""What a Dask worker does for an extraction: it makes one shard."""

import socket
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from fvar.errors import FvarError, StoppedError
from fvar.extraction.budget import Budget
from fvar.extraction.ffmpeg import find_ffmpeg
from fvar.extraction.make_shards import Work
from fvar.extraction.probe.pool import ProbePool
from fvar.extraction.shards import FOLDER, Shard, ShardRecord, finished

_RUNNING = ("executing", "long-running")  # Dask's names for a task that is wanted
_ENDING = ("closing", "closed", "failed")  # and for a worker that ends


def make_shard(work: Work, shard: Shard) -> ShardRecord:
    """Make `shard` in a thread of a Dask worker and return its record; a shard that is whole is kept.

    Raises:
        StoppedError: As `Work.make` does, or this machine lacks what the command has; names this machine.
        distributed.Reschedule: The task was canceled or the worker is closing.
    """
    try:
        _check_machine(work)
        # A worker that died may have finished the shard before it could report that.
        return finished(work.out_dir, shard) or _make(work, shard)
    except FvarError as error:
        raise StoppedError(
            f"Dask worker on {socket.gethostname()}",
            f"{error.thing}: {error.problem}",
            fix=error.fix,
        ) from error


def _make(work: Work, shard: Shard) -> ShardRecord:
    # The command counts the bytes of all shards for --max-gb.
    budget = Budget(work.out_dir, max_gb=None, reserve_gb=work.config.reserve_gb)
    with ProbePool() as probes:
        (record,) = work.make([shard], probes=probes, budget=budget, on_progress=_check_wanted())
    return record


def _check_wanted() -> Callable[[int, int], None]:
    """Return a function that ends the task of this thread once nobody waits for its result.

    Dask cannot stop a thread. Without this, the worker of an interrupted command would go on to the end of
    the shard, and a later command with other settings could be overtaken by it.
    """
    dask = import_module("distributed")
    worker = dask.get_worker()
    key = worker.get_current_task()

    def check(_num_rows: int, _num_frames: int) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state not in _RUNNING or worker.status.name in _ENDING:
            raise dask.Reschedule

    return check


def _check_machine(work: Work) -> None:
    """Make sure that this machine has the folders and the ffmpeg that the command has."""
    for folder in (work.out_dir / FOLDER, Path(work.config.videos)):
        if not folder.is_dir():
            raise StoppedError(
                folder,
                "is not a folder there",
                fix="put it on a file system that all machines share, at the same path",
            )
    version = find_ffmpeg(work.config.ffmpeg).version
    if version != work.program.version:
        raise StoppedError(
            "ffmpeg",
            f"its version is {version}, that of the command {work.program.version}",
            fix="install the same fvar and imageio-ffmpeg on all machines",
        )
