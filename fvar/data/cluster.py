"""Shards as tasks on a Dask cluster; the only file that knows Dask.

A task makes one shard on a worker as a local run does, into the same folder, which all machines must see.
What a worker that dies had under way, Dask gives to another.
"""

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from fvar.data.budget import Budget
from fvar.data.making import Work
from fvar.data.probes import Probes
from fvar.data.program import Running, find_ffmpeg
from fvar.data.shards import FOLDER, Shard, ShardRecord, discard, finished
from fvar.errors import ConfigError, FvarError, StoppedError, in_brief

_CONNECT_SECONDS = 10.0
_END_SECONDS = 10.0  # for tasks that were told to stop
_RERUN = "run the same command again: finished shards are kept"


@dataclass(frozen=True)
class Cluster:
    """A connection to a scheduler.

    Attributes:
        client: Of Dask.
        address: Of the scheduler.
    """

    client: Any
    address: str

    def describe(self) -> str:
        """Return how many workers there are."""
        threads = self.client.nthreads().values()
        if not threads:
            return f"Dask {self.address} has no worker yet: waiting for one"
        return f"Dask {self.address}: {len(threads)} workers, {sum(threads)} shards at once"

    def make(
        self,
        work: Work,
        shards: Sequence[Shard],
        *,
        budget: Budget,
        done: Callable[[], None],
    ) -> Iterator[ShardRecord]:
        """Make `shards` on the workers, and yield the record of each once it is whole, in any order.

        Args:
            work: What they are made with.
            shards: What to make.
            budget: Asked when a shard is made; one that is too much is deleted again.
            done: Called for each row of a shard when it is made.

        Raises:
            StoppedError: As on one machine, or the cluster failed; finished shards are kept.
        """
        run = uuid4().hex
        there = _as_workers_see_it(work)
        futures = [
            self.client.submit(_make_shard, run, there, shard, key=f"{shard.name}-{run}")
            for shard in shards
        ]
        waiting = dict(zip((future.key for future in futures), shards, strict=True))
        try:
            for future in _dask().as_completed(futures):
                record = self._record(future)
                budget.count(
                    sum(video.num_frames for video in record.videos),
                    sum(video.num_bytes for video in record.videos),
                )
                for _ in range(waiting.pop(future.key).num_rows):
                    done()
                yield record
        except StoppedError:
            self._stop(run, futures)
            if budget.spent:
                discard(work.out_dir, list(waiting.values()))
            raise
        except BaseException:
            self._stop(run, futures)
            raise

    def _record(self, future: Any) -> ShardRecord:
        lost = (_dask().CancelledError, _dask().KilledWorker)
        try:
            record: ShardRecord = future.result()
        except FvarError:
            raise
        except (*lost, ImportError, OSError, RuntimeError) as error:
            raise StoppedError(
                f"--dask {self.address}",
                f"the cluster failed ({in_brief(error)})",
                fix=f"see the logs of its scheduler and workers, then {_RERUN}",
            ) from error
        return record

    def _stop(self, run: str, futures: list[Any]) -> None:
        """End what is under way on the workers, as far as they can be reached."""
        with suppress(OSError, RuntimeError):  # a timeout is an OSError
            self.client.run(_stop_here, run)
            _dask().wait(futures, timeout=_END_SECONDS)
            self.client.cancel(futures)


@contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """Connect to the scheduler at `address`, ``tcp://HOST:8786``.

    Raises:
        ConfigError: Dask is not installed, or nobody answers.
    """
    try:
        dask = _dask()
    except ImportError as error:
        raise ConfigError(
            f"--dask {address}",
            f"needs Dask ({in_brief(error)})",
            fix="pip install 'fvar[dask]', here and where the workers run",
        ) from error
    log = logging.getLogger("distributed")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what goes wrong, we say in one line
    try:
        try:
            client = dask.Client(address, timeout=_CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"--dask {address}",
                f"no scheduler answers within {_CONNECT_SECONDS:g} s ({in_brief(error)})",
                fix="start one (`dask scheduler`) and give the address that it prints",
            ) from error
        try:
            yield Cluster(client, address)
        finally:
            client.close(timeout=_END_SECONDS)
    finally:
        log.setLevel(level)


def _dask() -> Any:
    """Import Dask: it is optional and takes a second."""
    return import_module("distributed")


def _as_workers_see_it(work: Work) -> Work:
    videos = str(Path(work.config.videos).resolve())
    config = work.config.model_copy(update={"videos": videos})
    return replace(work, out_dir=work.out_dir.resolve(), config=config)


# What follows runs on the workers.


class _UnderWay:
    """What this process makes, by the run that wants it, so that a run can end its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, list[Running]] = {}
        self._stopped: set[str] = set()

    def enter(self, run: str) -> Running:
        running = Running()
        with self._lock:
            self._running.setdefault(run, []).append(running)
            if run in self._stopped:
                running.stop()
        return running

    def leave(self, run: str, running: Running) -> None:
        with self._lock:
            self._running[run].remove(running)

    def stop(self, run: str) -> None:
        with self._lock:
            self._stopped.add(run)
            for running in self._running.get(run, []):
                running.stop()


_UNDER_WAY = _UnderWay()


def _stop_here(run: str) -> None:
    _UNDER_WAY.stop(run)


def _make_shard(run: str, work: Work, shard: Shard) -> ShardRecord:
    _check_worker(work)
    # A worker that died may have finished it before it could say so.
    if (record := finished(work.out_dir, shard)) is not None:
        return record
    running = _UNDER_WAY.enter(run)
    try:
        # --max-gb is about all shards, and the scheduler's side counts them.
        budget = Budget(work.out_dir, max_gb=None, reserve_gb=work.config.reserve_gb)
        with Probes(running) as probes:
            (record,) = work.make([shard], probes=probes, budget=budget, done=lambda: None)
    finally:
        _UNDER_WAY.leave(run, running)
    return record


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
