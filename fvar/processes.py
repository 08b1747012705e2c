"""Work shared out to processes of this machine, its results in order."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from fvar.errors import StoppedError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_AHEAD = 4  # tasks handed out for each process, so that none waits and few are in memory


def in_processes(
    tasks: Iterator[_Task], work: Callable[[_Task], _Result], *, workers: int
) -> Iterator[tuple[_Task, _Result]]:
    """Yield each task with its result, in the order of the tasks.

    Args:
        tasks: Taken a few at a time; what they hold is pickled.
        work: A function of a module.
        workers: Processes; 1 works in this one.

    Raises:
        StoppedError: A process died.
    """
    if workers == 1:
        yield from ((task, work(task)) for task in tasks)
        return
    # Spawned, not forked: this process may run threads, and HDF5 does not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    waiting: deque[tuple[_Task, Future[_Result]]] = deque()
    try:
        for task in tasks:
            waiting.append((task, pool.submit(work, task)))
            if len(waiting) > workers * _AHEAD:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    except BrokenProcessPool as error:
        raise StoppedError(
            f"{workers} processes",
            "one of them was killed, perhaps for want of memory",
            fix="run again with fewer --workers",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _first(waiting: deque[tuple[_Task, Future[_Result]]]) -> tuple[_Task, _Result]:
    task, future = waiting.popleft()
    return task, future.result()


def _begin() -> None:
    """Leave Ctrl-C to the process that started this one, and end when that one does, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
