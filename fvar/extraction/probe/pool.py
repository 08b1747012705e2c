"""Probes: as many processes apart as videos are read at once, asked by the one that extracts.

What a probe is and does, `probe` tells. Here is who starts it, waits for its answer, and judges its end.
"""

import json
import os
import select
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from fvar.errors import StoppedError
from fvar.extraction.probe.claims import Claims, Glance, UnreadableError
from fvar.extraction.probe.questions import MEMORY_BYTES, Message, as_line
from fvar.processes import ChildProcesses

_START_SECONDS = 300.0  # for Python and its imports, from a busy file server at worst
_LONGEST_WAIT_MS = (1 << 31) - 1
_RERUN = "run the same command again: finished shards are kept"

# With our sys.path, not the working directory, in which videos of strangers may lie.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from fvar.extraction.probe.worker import answer_questions; "
    "answer_questions(memory_bytes=int(sys.argv[2]))"
)


class _GoneError(Exception):
    """The process ended before it answered; the message is how."""


class Probes:
    """As many probes as videos are read at once: started when wanted, kept for the next video.

    A context manager; no probe outlives its block.

    Attributes:
        running: Where the processes are entered while they run.
    """

    def __init__(self, running: ChildProcesses) -> None:
        """Start nothing yet.

        Args:
            running: Where the processes are entered while they run.
        """
        self.running = running
        self._idle: list[_Probe] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for probe in idle:
            probe.close()

    def claims(self, path: Path, *, time_limit_seconds: float) -> Claims:
        """Read every packet of a video, as `container.read_claims` does.

        Args:
            path: Of the file.
            time_limit_seconds: For the next sign of progress; a long file may take as long as it needs.

        Raises:
            UnreadableError: As there; or there is no progress, its index needs more than `MEMORY_BYTES`, or
                reading it crashes.
            StoppedError: No verdict: we were stopped, or no process can be started.
        """
        found = self._ask("claims", path, time_limit_seconds)
        found["time_base"] = Fraction(found["time_base"])
        return Claims(**found | {"size": tuple(found["size"])})

    def glance(self, path: Path, *, time_limit_seconds: float) -> Glance:
        """Return what a video's header promises, as `container.glance` does.

        Raises:
            UnreadableError: As there, and as for `claims`.
            StoppedError: As for `claims`.
        """
        found = self._ask("glance", path, time_limit_seconds)
        return Glance(**found | {"size": tuple(found["size"])})

    def _ask(self, question: str, path: Path, limit: float) -> Message:
        reason = ""
        # A death is believed when a fresh process dies too: the first may have been marred by a video before,
        # or killed by somebody else.
        for fresh in (False, True):
            probe = self._take(path, fresh=fresh)
            try:
                answer = probe.ask({"question": question, "path": str(path)}, limit)
            except TimeoutError as error:
                probe.close()
                raise UnreadableError(f"reading {error}", passing=True) from None
            except _GoneError as error:
                reason = str(error)
            except BaseException:
                probe.close()
                raise
            else:
                with self._lock:
                    self._idle.append(probe)
                return _unpacked(answer)
            probe.close()
            if self.running.stopped:
                raise StoppedError(path, "its reading was stopped", fix=_RERUN)
        raise UnreadableError(reason)

    def _take(self, path: Path, *, fresh: bool) -> "_Probe":
        with self._lock:
            idle = self._idle.pop() if self._idle and not fresh else None
        if idle is not None:
            with suppress(OSError, _GoneError):  # it ended before it was asked anything
                idle.wait()
                return idle
        try:
            probe = _Probe(self.running)
            probe.wait()
        except (OSError, _GoneError) as error:
            raise StoppedError(
                path, f"no process can be started to read it ({error})", fix=_RERUN
            ) from error
        return probe


def _unpacked(answer: Message) -> Message:
    if "unreadable" in answer:
        raise UnreadableError(answer["unreadable"])
    if "bug" in answer:
        raise RuntimeError(f"in a process apart:\n{answer['bug']}")
    return cast(Message, answer["answer"])


class _Probe:
    """One process, as whoever asks it sees it."""

    def __init__(self, running: ChildProcesses) -> None:
        self._unread = b""
        self._open = ExitStack()
        command = [sys.executable, "-P", "-c", _START, json.dumps(sys.path), str(MEMORY_BYTES)]
        self._process = self._open.enter_context(running.start(command, with_input=True))
        self._pipe = cast(IO[bytes], self._process.stdout).fileno()
        self._readable = select.poll()
        self._readable.register(self._pipe, select.POLLIN)
        self._ready = False

    def wait(self) -> None:
        """Wait until it is ready.

        Raises:
            _GoneError: The process ended instead.
        """
        if self._ready:
            return
        try:
            self._hear(_START_SECONDS)
            self._ready = True
        except _GoneError:
            said = cast(IO[bytes], self._process.stderr).read().decode(errors="replace")
            self.close()
            raise _GoneError((said.strip().splitlines() or ["it says nothing"])[-1]) from None
        except BaseException:
            self.close()
            raise

    def ask(self, question: Message, limit: float) -> Message:
        """Return the answer.

        Raises:
            TimeoutError: Nothing was heard for `limit` seconds.
            _GoneError: The process ended first.
        """
        with suppress(BrokenPipeError):  # the end of its output tells that it is gone
            # Past the buffer, which would be left full, and be written again when it is closed.
            os.write(cast(IO[bytes], self._process.stdin).fileno(), as_line(question))
        while "packets" in (message := self._hear(limit)):
            pass
        if "memory" in message:
            memory = message["memory"] / (1 << 30)
            raise _GoneError(
                f"reading its index and first picture needs more than {memory:.3g} GiB of memory"
            )
        return message

    def _hear(self, limit: float) -> Message:
        while b"\n" not in self._unread:
            if not self._readable.poll(min(limit * 1000, _LONGEST_WAIT_MS)):
                raise TimeoutError(f"it came no further for {limit:g} s (--time-limit)")
            heard = os.read(self._pipe, 1 << 16)
            if not heard:
                raise _GoneError(_ending(self._process))
            self._unread += heard
        line, _, self._unread = self._unread.partition(b"\n")
        return cast(Message, json.loads(line))

    def close(self) -> None:
        """Kill it, whatever it does."""
        self._open.close()


def _ending(process: "subprocess.Popen[bytes]") -> str:
    code = process.wait()
    if code < 0:
        return f"reading it crashed the reader (signal {-code})"
    return f"reading it crashed the reader (code {code})"
