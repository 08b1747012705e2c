"""Shards as tasks on a Dask cluster: the side of the command.

A task makes one shard on a worker as a local run does, into the same folder, which all machines must see.
What a worker that dies had under way, Dask gives to another. Dask is known here and in `cluster_task`.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from fvar.errors import ConfigError, FvarError, StoppedError, in_brief
from fvar.extraction.budget import Budget
from fvar.extraction.estimate import Estimate
from fvar.extraction.make_shards import Work
from fvar.extraction.on_dask.task import Made, is_busy, make_shard, mark_of
from fvar.extraction.shards import Shard, ShardRecord, discard
from fvar.reporting import Reporter
from fvar.store.provenance import output_file

_CONNECT_SECONDS = 10.0
_END_SECONDS = 10.0  # for tasks that were told to stop
_LOOK_SECONDS = 5.0  # between two looks at a cluster from which nothing comes
_ASK_SECONDS = 0.1  # between two questions whether they have
_RERUN = "run the same command again: finished shards are kept"
_LOGGERS = ("distributed", "tornado", "asyncio")


@dataclass(frozen=True)
class Cluster:
    """A connection to a scheduler.

    Attributes:
        client: Of Dask.
        address: Of the scheduler.
        reporter: Told when workers are gone, and when there are some again.
    """

    client: Any
    address: str
    reporter: Reporter

    def describe(self) -> str:
        """Return how many workers there are."""
        threads = self._threads()
        if not threads:
            return f"Dask {self.address} has no worker yet: waiting for one"
        return f"Dask {self.address}: {len(threads)} workers, {sum(threads)} shards at once"

    def duration(self, guess: Estimate, num_shards: int) -> str:
        """Return how long `num_shards` take by a `guess` that was measured here, and if what."""
        threads = sum(self._threads())
        if not threads:
            return f"{guess.duration} for one thread as fast as this machine"
        shared = replace(guess, seconds=guess.seconds / max(1, min(threads, num_shards)))
        return f"{shared.duration} if the cluster's {threads} threads are as fast as this machine"

    def make(
        self,
        work: Work,
        shards: Sequence[Shard],
        *,
        budget: Budget,
        tell: Callable[[int], None],
    ) -> Iterator[ShardRecord]:
        """Make `shards` on the workers, and yield the record of each once it is whole, in any order.

        Args:
            work: What they are made with.
            shards: What to make.
            budget: Asked when a shard is made; one that is too much is deleted again.
            tell: Called with the rows of a shard when it is made.

        Raises:
            StoppedError: As on one machine, the cluster failed, or a shard is not what its maker left;
                finished shards are kept.
        """
        run = uuid4().hex
        there = _as_workers_see_it(work)
        futures = [
            self.client.submit(make_shard, there, shard, key=f"{shard.name}-{run}")
            for shard in shards
        ]
        waiting = dict(zip((future.key for future in futures), shards, strict=True))
        made: list[Made] = []
        try:
            for key, one in self._results(futures):
                budget.count(
                    sum(video.num_frames for video in one.record.videos),
                    sum(video.num_bytes for video in one.record.videos),
                )
                tell(waiting.pop(key).num_rows)
                made.append(Made(one.record.model_copy(update={"videos": []}), one.mark))
                yield one.record
        except StoppedError:
            self._stop(run, futures)
            if budget.spent:
                discard(work.out_dir, list(waiting.values()))
            raise
        except BaseException:
            self._stop(run, futures)
            raise
        for one in made:
            _check_untouched(work.out_dir, one)

    def _results(self, futures: Sequence[Any]) -> Iterator[tuple[str, Made]]:
        """Yield key and result of each future once it is done."""
        ended: SimpleQueue[Any] = SimpleQueue()
        for future in futures:
            future.add_done_callback(ended.put)
        look = self._watch()
        for _ in futures:
            while True:
                try:
                    future = ended.get(timeout=_LOOK_SECONDS)
                    break
                except Empty:
                    look()
            yield future.key, self._result(future, look)

    def _result(self, future: Any, look: Callable[[], None]) -> Made:
        """Fetch a result; where its worker has died meanwhile, the scheduler has it made again."""
        lost = (_dask().CancelledError, _dask().KilledWorker)
        while True:
            try:
                made: Made = future.result(timeout=_LOOK_SECONDS)
            except FvarError:
                raise
            except (*lost, ImportError, OSError, RuntimeError) as error:
                if not isinstance(error, TimeoutError) or future.status == "error":
                    raise self._failed(in_brief(error)) from error
                look()
            else:
                return made

    def _failed(self, why: str) -> StoppedError:
        if self.client.status != "running":
            return StoppedError(
                f"--dask {self.address}",
                "the connection to its scheduler is lost",
                fix=f"see that a scheduler and workers run, then {_RERUN}",
            )
        return StoppedError(
            f"--dask {self.address}",
            f"the cluster failed ({why})",
            fix=f"see the logs of its scheduler and workers, then {_RERUN}",
        )

    def _threads(self) -> list[int]:
        """Return the threads of each worker."""
        if self.client.status != "running":
            raise self._failed("")
        try:
            return list(self.client.nthreads().values())
        except (OSError, RuntimeError) as error:
            raise self._failed(in_brief(error)) from error

    def _stop(self, run: str, futures: list[Any]) -> None:
        """Take the tasks back, and wait until the workers have ended what was under way."""
        if self.client.status != "running":
            return  # workers that lose their scheduler end by themselves
        deadline = time.monotonic() + _END_SECONDS
        with suppress(OSError, RuntimeError):  # a timeout is an OSError
            # The others would only import all this to say that they are at nothing.
            busy = [
                worker
                for worker, keys in self.client.processing().items()
                if any(str(key).endswith(run) for key in keys)
            ]
            self.client.cancel(futures)
            while busy and time.monotonic() < deadline:
                answers = self.client.run(is_busy, run, workers=busy, on_error="ignore")
                busy = [worker for worker, answer in answers.items() if answer]
                time.sleep(_ASK_SECONDS if busy else 0)

    def _watch(self) -> Callable[[], None]:
        """Return what to call while nothing comes; it says when no worker is left.

        Batch systems bring others, so that waiting is right.
        """
        deserted = False

        def look() -> None:
            nonlocal deserted
            was, deserted = deserted, not self._threads()
            if deserted and not was:
                self.reporter.warning(
                    f"Dask {self.address} has no worker: waiting for one; Ctrl-C ends the waiting"
                )
            if was and not deserted:
                self.reporter.info(self.describe())

        return look


def _check_untouched(folder: Path, made: Made) -> None:
    """Make sure that a shard is what its maker left: a worker thought lost may have written since."""
    shard = made.record.shard
    try:
        if mark_of(folder / shard.path) == made.mark or output_file(folder, shard.path) == shard:
            return
        problem = "was replaced after it was made"
    except (OSError, FvarError) as error:
        problem = f"cannot be read again ({in_brief(error)})"
    raise StoppedError(
        folder / shard.path,
        problem,
        fix=f"see that no other extraction writes there, then {_RERUN}",
    )


@contextmanager
def connect(address: str, reporter: Reporter) -> Iterator[Cluster]:
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
    with _silenced():
        try:
            client = dask.Client(address, timeout=_CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"--dask {address}",
                f"no scheduler answers within {_CONNECT_SECONDS:g} s ({in_brief(error)})",
                fix="start one (`dask scheduler`) and give the address that it prints",
            ) from error
        try:
            yield Cluster(client, address, reporter)
        finally:
            with suppress(TimeoutError):  # nothing of ours is left there
                client.close(timeout=_END_SECONDS)


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep Dask's log off the terminal: what goes wrong, we say in one line."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in _LOGGERS]
    before = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _dask() -> Any:
    """Import Dask: it is optional and takes a second."""
    return import_module("distributed")


def _as_workers_see_it(work: Work) -> Work:
    videos = str(Path(work.config.videos).resolve())
    config = work.config.model_copy(update={"videos": videos})
    return replace(work, out_dir=work.out_dir.resolve(), config=config)
