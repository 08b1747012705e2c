"""Child processes: a pool that works on tasks in order, and a registry that ends all programs it started."""

import fcntl
import multiprocessing
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import IO, TypeVar

from fvar.errors import StoppedError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_PIPE_BYTES = 1 << 20  # the most that Linux lets everybody ask for
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


class ChildProcesses:
    """The processes under way, so that an interruption can end them all.

    Attributes:
        num_pictures: That came out of them so far.
    """

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._stopped = False
        self.num_pictures = 0

    def count_picture(self) -> None:
        """Count one more, in any thread."""
        with self._counting:
            self.num_pictures += 1

    @contextmanager
    def start(
        self, arguments: list[str], *, with_input: bool = False
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program without a shell, output and errors piped; it ends with the block at the latest.

        Args:
            arguments: The program and its arguments.
            with_input: Whether its input is a pipe, too, or empty.
        """
        with self._lock:
            # In a session of its own: Ctrl-C in the terminal reaches us, and we end it.
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE if with_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            _widen(process.stdout)
            self._processes.add(process)
            if self._stopped:
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

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called: what was under way then ended early."""
        return self._stopped

    def stop(self) -> None:
        """Kill what runs, and whatever is started from now on."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program that `ChildProcesses.start` started, and what it started itself.

    A script around ffmpeg is killed in vain while the ffmpeg that it started holds our pipes open.
    """
    if process.returncode is None:  # else its number may be another's by now
        with suppress(ProcessLookupError, PermissionError):  # all of its session have ended
            os.killpg(process.pid, signal.SIGKILL)


def _widen(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold 80 pictures rather than 5, so that who writes seldom waits for who reads."""
    if pipe is not None and hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux
        with suppress(OSError):  # a user may have only so many wide ones
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
