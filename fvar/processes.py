"""Processes and threads that do tasks in order, and a registry that can end every program it started."""

import fcntl
import multiprocessing
import os
import select
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import IO, TypeVar

from fvar.errors import StoppedError

_Item = TypeVar("_Item")
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_PIPE_BYTES = 1 << 20  # the most that Linux lets any user ask for
_LONGEST_WAIT_MS = (1 << 31) - 1  # of poll(2)
_AHEAD = 4  # tasks in the queue for each process: no process waits, and few tasks are in memory


def in_processes(
    tasks: Iterator[_Task], work: Callable[[_Task], _Result], *, workers: int
) -> Iterator[tuple[_Task, _Result]]:
    """Yield each task with its result, in the order of the tasks.

    Args:
        tasks: Taken a few at a time, and pickled.
        work: A function at the top level of a module.
        workers: Number of processes; with 1, this process does the work.

    Raises:
        StoppedError: A process died.
    """
    if workers == 1:
        yield from ((task, work(task)) for task in tasks)
        return
    # Spawned, not forked: this process may run threads, and HDF5 does not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    try:
        futures = ((task, pool.submit(work, task)) for task in tasks)
        for task, future in taken_ahead(futures, workers * _AHEAD):
            yield task, future.result()
    except BrokenProcessPool as error:
        raise StoppedError(
            f"{workers} processes",
            "one of them was killed, perhaps because memory ran out",
            fix="run again with fewer --workers",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_threads(
    tasks: Iterable[_Task], work: Callable[[_Task], _Result], *, ahead: int, name: str
) -> Iterator[tuple[_Task, _Result]]:
    """Yield each task with its result, in the order of the tasks; threads work ahead of the caller.

    The threads end with the iterator, and so do tasks that have not begun.

    Args:
        tasks: Taken by the caller's thread, `ahead` of them before they are due.
        work: Any error it raises is raised when its task is due.
        ahead: Number of threads, and of tasks that are begun early; with 0, the caller's thread does each
            task when it is due.
        name: Of the threads.
    """
    if not ahead:
        yield from ((task, work(task)) for task in tasks)
        return
    pool = ThreadPoolExecutor(ahead, thread_name_prefix=name)
    try:
        futures = ((task, pool.submit(work, task)) for task in tasks)
        for task, future in taken_ahead(futures, ahead):
            yield task, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def taken_ahead(items: Iterator[_Item], count: int) -> Iterator[_Item]:
    """Yield `items` in order, but take `count` more before each, so that their work begins earlier."""
    waiting: deque[_Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _begin() -> None:
    """Leave Ctrl-C to the parent process, and end when the parent ends, even by SIGKILL."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class ChildProcesses:
    """The programs that run now, so that an interruption can end them all.

    Attributes:
        stopped: Whether `stop` was called: the programs then ended early.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    @contextmanager
    def start(
        self, arguments: list[str], *, with_input: bool = False
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program without a shell, output and errors piped; it ends with the block at the latest.

        Its input is empty, or a pipe if `with_input`.
        """
        with self._lock:
            # In its own session: Ctrl-C in the terminal reaches only us, and we end the program.
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE if with_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            _widen(process.stdout)
            self._processes.add(process)
            if self.stopped:
                end(process)
        try:
            with process:
                try:
                    yield process
                finally:
                    end(process)
        finally:
            with self._lock:
                self._processes.discard(process)

    def stop(self) -> None:
        """Kill the programs that run, and every program that is started from now on."""
        with self._lock:
            self.stopped = True
            for process in self._processes:
                end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program that `ChildProcesses.start` started, and every program that it started itself.

    If ffmpeg was started by a script, killing the script alone would leave ffmpeg with our pipes open.
    """
    if process.returncode is None:  # otherwise another process may have its number by now
        with suppress(ProcessLookupError, PermissionError):  # its whole session has ended
            os.killpg(process.pid, signal.SIGKILL)


def _widen(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold 80 frames rather than 5, so that the program rarely waits for its reader."""
    if pipe is not None and hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux
        with suppress(OSError):  # a user may have only so many wide pipes
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def wait_for_data(pipe: IO[bytes], seconds: float) -> bool:
    """Return whether `pipe` has something to read within `seconds`; its end counts as something."""
    readable = select.poll()
    readable.register(pipe, select.POLLIN)
    return bool(readable.poll(min(seconds * 1000, _LONGEST_WAIT_MS)))
