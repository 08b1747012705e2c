"""The side of the command where Dask makes the shards: it submits a task per shard.

A task makes one shard as a local run does, into the same folder, which all machines must see. When a worker
dies, Dask gives its task to another. Two workers may make the same shard, if Dask takes a slow one for dead:
each renames a whole file into place, and the files are equal.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from fvar.errors import ConfigError, StoppedError, in_brief
from fvar.extraction.budget import RERUN, Budget
from fvar.extraction.estimate import Estimate
from fvar.extraction.make_shards import Work
from fvar.extraction.on_dask.task import make_shard
from fvar.extraction.shards import Shard, ShardRecord, discard, read_shard
from fvar.reporting import Reporter
from fvar.store.manifest import OutputFile

_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 10.0
_POLL_SECONDS = 0.1
_WORKERS_SECONDS = 5.0  # between two questions which workers there are


@dataclass(frozen=True)
class DaskClient:
    """A connection to a Dask scheduler.

    Attributes:
        client: The `distributed.Client`.
        address: Address of the scheduler.
        reporter: Receives a line when the workers change.
    """

    client: Any
    address: str
    reporter: Reporter

    def describe(self) -> str:
        """Return how many workers there are."""
        threads = self._threads()
        if not threads:
            return f"Dask {self.address} has no worker: waiting for one; Ctrl-C stops the waiting"
        return f"Dask {self.address}: {len(threads)} workers, {sum(threads)} shards at once"

    def duration(self, estimate: Estimate, num_shards: int) -> str:
        """Return how long `num_shards` take, from an estimate for one thread of this machine."""
        at_once = max(1, min(sum(self._threads()), num_shards))
        shared = replace(estimate, seconds=estimate.seconds / at_once)
        return f"{shared.duration} with {at_once} Dask threads as fast as this machine"

    def make(
        self,
        work: Work,
        shards: Sequence[Shard],
        *,
        budget: Budget,
        on_progress: Callable[[int, int], None],
    ) -> Iterator[ShardRecord]:
        """Make `shards` on the workers, and yield the record of each once it is whole, in any order.

        `budget` counts each shard that is made; those that exceed it are deleted again. `on_progress` is
        called with the number of rows of each, and 0.

        Raises:
            StoppedError: As on one machine, or Dask failed, or a file is not what its record says;
                finished shards are kept.
        """
        # A worker has another working directory.
        videos = str(Path(work.config.videos).resolve())
        config = work.config.model_copy(update={"videos": videos})
        work = replace(work, out_dir=work.out_dir.resolve(), config=config)
        submit = self.client.submit
        waiting = {submit(make_shard, work, shard, pure=False): shard for shard in shards}
        made: list[OutputFile] = []
        for future, record in self._results(waiting):
            try:
                budget.check_total(record.num_bytes)
            except StoppedError:
                with suppress(OSError, RuntimeError):  # the connection is lost
                    self.client.cancel(list(waiting))
                discard(work.out_dir, list(waiting.values()))
                raise
            budget.count(record.num_frames, record.num_bytes)
            on_progress(waiting.pop(future).num_rows, 0)
            made.append(record.shard)
            yield record
        self._check_files(work.out_dir, made)

    def _check_files(self, out_dir: Path, files: Sequence[OutputFile]) -> None:
        """Make sure that the files are as they were made: another extraction may have replaced one.

        The workers read them, because the command's machine would take hours for a terabyte.
        """
        submit = self.client.submit
        expected = {submit(read_shard, out_dir, file.path, pure=False): file for file in files}
        for future, file in self._results(expected):
            if file != expected[future]:
                raise StoppedError(
                    out_dir / expected[future].path,
                    "was replaced after it was made",
                    fix=f"make sure that no other extraction writes there, then {RERUN}",
                )

    def _results(self, futures: Collection[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield each future with its result once it is done; report when the workers change."""
        done = _dask().as_completed(list(futures), loop=self.client.loop)
        workers, asked = self.describe(), time.monotonic()
        while not done.is_empty():
            for future in done.next_batch(block=False):
                with self._failures():
                    result = future.result()
                future.release()  # else Dask makes it again when the worker that holds it ends
                yield future, result
            if time.monotonic() - asked > _WORKERS_SECONDS:
                before, workers, asked = workers, self.describe(), time.monotonic()
                if workers != before:
                    self.reporter.info(workers)
            time.sleep(_POLL_SECONDS)

    def _threads(self) -> list[int]:
        """Return the number of threads of each worker."""
        with self._failures():
            if self.client.status != "running":
                raise ConnectionError(self.client.status)
            return list(self.client.nthreads().values())

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn an error of Dask into one line; a task's own error stays as it is."""
        dask = _dask()
        failures = dask.CancelledError, dask.KilledWorker, ImportError, OSError, RuntimeError
        try:
            yield
        except failures as error:
            lost = self.client.status != "running"
            raise StoppedError(
                f"--dask {self.address}",
                "the connection is lost" if lost else f"Dask failed ({in_brief(error)})",
                fix=f"see the logs of its scheduler and workers, then {RERUN}",
            ) from error


@contextmanager
def connect(address: str | None, reporter: Reporter) -> Iterator[DaskClient | None]:
    """Connect to the Dask scheduler at `address`, ``tcp://HOST:8786``; yield None for None.

    At the end of the block Dask takes back all tasks; those under way stop within about a second.

    Raises:
        ConfigError: Dask is not installed, or no scheduler answers.
    """
    if address is None:
        yield None
        return
    try:
        dask = _dask()
    except ImportError as error:
        raise ConfigError(
            f"--dask {address}",
            f"needs Dask ({in_brief(error)})",
            fix="pip install 'fvar[dask]', here and where the workers run",
        ) from error
    with _silent_logs():
        try:
            client = dask.Client(address, timeout=_CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"--dask {address}",
                f"no scheduler answers within {_CONNECT_SECONDS:g} s ({in_brief(error)})",
                fix="start one (`dask scheduler`) and give the address that it prints",
            ) from error
        try:
            yield DaskClient(client, address, reporter)
        finally:
            with suppress(TimeoutError):
                client.close(timeout=_CLOSE_SECONDS)


@contextmanager
def _silent_logs() -> Iterator[None]:
    """Keep Dask's logs off the terminal: the command reports each error in one line."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def _dask() -> Any:
    """Import Dask, which is optional and takes a second."""
    return import_module("distributed")
