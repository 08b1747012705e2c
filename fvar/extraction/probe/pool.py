"""A pool of processes that read video files: a crash, a hang or too much memory fails one video alone.

Libraries with such a pool (pebble, concurrent.futures) start processes through multiprocessing, which does
not fit here. It refuses to work in a Dask worker, which is a daemonic process. It runs Python code that
lies in the working directory (``python -c`` imports from there), and it runs the user's script again, if
that has no ``if __name__ == "__main__"``.
"""

import json
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from fvar.errors import StoppedError
from fvar.extraction.budget import RERUN
from fvar.extraction.probe.claims import UnreadableError
from fvar.extraction.probe.worker import OUT_OF_MEMORY
from fvar.processes import ChildProcesses, wait_for_data

_Answer = TypeVar("_Answer")

MEMORY_BYTES = 2 << 30
"""Of address space, for one process. Measured: 0.25 GiB with a small file; 0.86 GiB with the index of 24
hours at 60 frames per second with sound (MP4, the container that needs the most); 0.55 GiB with the first
frame of 8K HEVC in high dynamic range."""

# A busy file server still delivers this much. With the time limit alone, a 100 GB file would fail there.
_SLOWEST_BYTES_PER_SECOND = 10_000_000
_START_SECONDS = 300.0  # for Python and its imports, in the worst case from a busy file server

# -P and our own sys.path: the working directory may hold code from strangers. All imports come before the
# first video, which must not be blamed for their memory or failure.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from fvar.extraction.probe import container, worker; worker.answer_questions(int(sys.argv[2]))"
)


class ProbePool:
    """Processes that read video files: started when needed, as many as threads ask, kept for the next video.

    A context manager; no process outlives its block.

    Attributes:
        running: Where the processes are registered while they run.
    """

    def __init__(self) -> None:
        self.running = ChildProcesses()
        self._idle: list[_Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._idle:
            process.close()

    def ask(self, question: Callable[[Path], _Answer], path: Path, limit: float) -> _Answer:
        """Return what `question` returns for a video file when a process calls it.

        Args:
            question: A function at the top level of a module, such as `container.read_claims`.
            path: Of the file.
            limit: Seconds for a small file; a large one gets a second more for every 10 MB.

        Raises:
            UnreadableError: As `question` does. Or the time is over, the index needs more than
                `MEMORY_BYTES`, or reading crashes, again in a new process.
            StoppedError: There is no verdict: `running` was stopped, or no process can be started.
        """
        with suppress(OSError):  # a file that is gone gets its verdict below
            limit += path.stat().st_size / _SLOWEST_BYTES_PER_SECOND
        reason = ""
        # A crash counts only if a new process crashes too: an earlier video may have damaged the first one,
        # or somebody may have killed it.
        for new in (False, True):
            process = self._take(path, new=new)
            try:
                answer = process.ask(question, path, limit)
            except TimeoutError:
                problem = (
                    f"reading it took more than {limit:.3g} s (--time-limit and 1 s for each 10 MB)"
                )
                raise UnreadableError(problem, may_pass=True) from None
            except _CrashError as error:
                reason = str(error)
            else:
                self._idle.append(process)
                if isinstance(answer, Exception):
                    raise answer
                return answer
            if self.running.stopped:
                raise StoppedError(path, "its reading was stopped", fix=RERUN)
        raise UnreadableError(reason)

    def _take(self, path: Path, *, new: bool) -> "_Process":
        with suppress(IndexError):  # none is idle
            if not new:
                return self._idle.pop()
        try:
            return _Process(self.running)
        except (OSError, _CrashError) as error:
            problem = f"no process can be started to read it ({error})"
            raise StoppedError(path, problem, fix=RERUN) from error


class _CrashError(Exception):
    """The process ended before it answered; the message says how."""


class _Process:
    """One process that answers questions; it is closed when that fails."""

    def __init__(self, running: ChildProcesses) -> None:
        """Start it, and wait until it is ready.

        Raises:
            OSError: It cannot be started, or is not ready in time.
            _CrashError: It ended instead; the message is the last line that it printed.
        """
        command = [sys.executable, "-P", "-c", _START, json.dumps(sys.path), str(MEMORY_BYTES)]
        self._open = ExitStack()
        self._process: Any = self._open.enter_context(running.start(command, with_input=True))
        self._memory_bytes = self._receive(_START_SECONDS)

    def ask(self, question: Callable[[Path], _Answer], path: Path, limit: float) -> _Answer:
        """Return what `question` returns for `path`, or the exception that it raises.

        Raises:
            TimeoutError: No answer came within `limit` seconds.
            _CrashError: The process ended first.
        """
        with suppress(BrokenPipeError):  # then there is no answer either
            os.write(self._process.stdin.fileno(), pickle.dumps((question, path)))
        answer: _Answer = self._receive(limit)
        return answer

    def _receive(self, limit: float) -> Any:
        if not wait_for_data(self._process.stdout, limit):
            self.close()
            raise TimeoutError(f"no answer within {limit:g} s")
        try:
            return pickle.load(self._process.stdout)  # noqa: S301  # our own process
        except EOFError:
            raise _CrashError(self._ending()) from None

    def _ending(self) -> str:
        with self._open:
            printed: str = self._process.stderr.read().decode(errors="replace").strip()
            code = self._process.wait()
        if printed:  # only at the start
            return printed.splitlines()[-1]
        if code == OUT_OF_MEMORY:
            gib = self._memory_bytes / (1 << 30)
            return f"reading its index and first frame needs more than {gib:.3g} GiB of memory"
        how = f"signal {-code}" if code < 0 else f"code {code}"
        return f"reading it crashed the reader ({how})"

    def close(self) -> None:
        """Kill the process."""
        self._open.close()
