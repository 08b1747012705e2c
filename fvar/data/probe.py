"""Processes apart that read what videos claim, so that no file's index is paid for, or crashes, in ours.

libavformat builds a file's index when it opens it, and a hundred kilobytes may claim ten million frames. A
probe is a Python that answers one question after the other, a line of JSON each, and ends with its standard
input, so with whoever asks, however that ends. On Linux its memory is bounded. macOS has no limit that
works: there such an index is cut off by time alone.
"""

import json
import os
import queue
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from fvar.data.container import Claims, Glance, UnreadableError, glance, read_claims
from fvar.data.program import Running
from fvar.errors import StoppedError

MEMORY_BYTES = 2 << 30
"""Of addresses, that a probe may use. Measured: 0.25 GiB with a small file, 0.86 with the index of 24 hours at
60 frames a second with sound (MP4, the greediest of the containers), 0.55 with the first picture of 8K HEVC
in high dynamic range."""

_HARD_FACTOR = 2  # see `_limit_memory`
_START_SECONDS = 300.0  # for Python and its imports, from a busy file server at worst
_HEARTBEAT_SECONDS = 1.0
_LONGEST_WAIT_MS = (1 << 31) - 1
_RERUN = "run the same command again: finished shards are kept"

# With our sys.path, not the working directory, in which videos of strangers may lie.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    f"from {__name__} import answer_questions; "
    "answer_questions(memory_bytes=int(sys.argv[2]))"
)

_Message = dict[str, Any]


class _GoneError(Exception):
    """The process ended before it answered; the message is how."""


class Probes:
    """As many probes as videos are read at once: started when wanted, kept for the next video.

    A context manager; no probe outlives its block.
    """

    def __init__(self, running: Running) -> None:
        """Start nothing yet.

        Args:
            running: Where the processes are entered while they run.
        """
        self._running = running
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

    def _ask(self, question: str, path: Path, limit: float) -> _Message:
        reason = ""
        # A death is believed when a fresh process dies too: the first may have been marred by a video before,
        # or killed by somebody else.
        for fresh in (False, True):
            probe = self._take(path, fresh=fresh)
            try:
                answer = probe.ask({"question": question, "path": str(path)}, limit)
            except TimeoutError:
                probe.close()
                raise UnreadableError(f"reading it came no further for {limit:g} s") from None
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
            if self._running.stopped:
                raise StoppedError(path, "its reading was stopped", fix=_RERUN)
        raise UnreadableError(reason)

    def _take(self, path: Path, *, fresh: bool) -> "_Probe":
        with self._lock:
            if self._idle and not fresh:
                return self._idle.pop()
        try:
            return _Probe(self._running)
        except (OSError, _GoneError) as error:
            raise StoppedError(
                path, f"no process can be started to read it ({error})", fix=_RERUN
            ) from error


def _unpacked(answer: _Message) -> _Message:
    if "unreadable" in answer:
        raise UnreadableError(answer["unreadable"])
    if "bug" in answer:
        raise RuntimeError(f"in a process apart:\n{answer['bug']}")
    return cast(_Message, answer["answer"])


class _Probe:
    """One process, as whoever asks it sees it."""

    def __init__(self, running: Running) -> None:
        self._unread = b""
        self._open = ExitStack()
        command = [sys.executable, "-P", "-c", _START, json.dumps(sys.path), str(MEMORY_BYTES)]
        self._process = self._open.enter_context(running.start(command, with_input=True))
        self._pipe = cast(IO[bytes], self._process.stdout).fileno()
        self._readable = select.poll()
        self._readable.register(self._pipe, select.POLLIN)
        try:
            self._hear(_START_SECONDS)  # that it is ready
        except _GoneError:
            said = cast(IO[bytes], self._process.stderr).read().decode(errors="replace")
            self.close()
            raise _GoneError((said.strip().splitlines() or ["it says nothing"])[-1]) from None
        except BaseException:
            self.close()
            raise

    def ask(self, question: _Message, limit: float) -> _Message:
        """Return the answer.

        Raises:
            TimeoutError: Nothing was heard for `limit` seconds.
            _GoneError: The process ended first.
        """
        with suppress(BrokenPipeError):  # the end of its output tells that it is gone
            # Past the buffer, which would be left full, and be written again when it is closed.
            os.write(cast(IO[bytes], self._process.stdin).fileno(), _line(question))
        while "packets" in (message := self._hear(limit)):
            pass
        if "memory" in message:
            memory = message["memory"] / (1 << 30)
            raise _GoneError(
                f"reading its index and first picture needs more than {memory:.3g} GiB of memory"
            )
        return message

    def _hear(self, limit: float) -> _Message:
        while b"\n" not in self._unread:
            if not self._readable.poll(min(limit * 1000, _LONGEST_WAIT_MS)):
                raise TimeoutError
            heard = os.read(self._pipe, 1 << 16)
            if not heard:
                raise _GoneError(_ending(self._process))
            self._unread += heard
        line, _, self._unread = self._unread.partition(b"\n")
        return cast(_Message, json.loads(line))

    def close(self) -> None:
        """Kill it, whatever it does."""
        self._open.close()


def _ending(process: "subprocess.Popen[bytes]") -> str:
    code = process.wait()
    if code < 0:
        return f"reading it crashed the reader (signal {-code})"
    return f"reading it crashed the reader (code {code})"


def _line(message: _Message) -> bytes:
    """Return `message` as JSON in ASCII: the parts of a path that are not UTF-8 survive as escapes."""
    return json.dumps(message, default=str).encode() + b"\n"


# What follows runs in the process apart.


def answer_questions(*, memory_bytes: int) -> None:
    """Answer what is asked on standard input, on standard output, until the input ends.

    Args:
        memory_bytes: That a video may take.
    """
    # Ctrl-C, or a batch system that asks all processes of a job to end, is for whoever asks.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)
    limit = _limit_memory(memory_bytes)
    questions: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # Beside the reading: a library that does not come back must not outlive whoever asked.
    threading.Thread(target=_listen, args=(questions,), daemon=True).start()
    answers = _keep_output()
    _write(answers, {"ready": True})
    while True:
        question = json.loads(questions.get())
        answer = _answer(question, _Heartbeat(answers).beat)
        if limit is not None and _peak_bytes() > limit:
            _write(answers, {"memory": limit})
            os._exit(0)  # a peak is for life
        _write(answers, answer)


def _answer(question: _Message, progress: Callable[[], None]) -> _Message:
    path = Path(question["path"])
    try:
        if question["question"] == "claims":
            return {"answer": asdict(read_claims(path, progress=progress))}
        return {"answer": asdict(glance(path))}
    except UnreadableError as error:
        return {"unreadable": str(error)}
    except Exception:  # noqa: BLE001  # raised again where it was asked
        return {"bug": traceback.format_exc()}


class _Heartbeat:
    """Says now and then that the reading goes on."""

    def __init__(self, answers: int) -> None:
        self._answers, self._packets, self._due = answers, 0, time.monotonic()

    def beat(self) -> None:
        self._packets += 1
        if (now := time.monotonic()) >= self._due:
            self._due = now + _HEARTBEAT_SECONDS
            _write(self._answers, {"packets": self._packets})


def _write(answers: int, message: _Message) -> None:
    os.write(answers, _line(message))


def _keep_output() -> int:
    """Return standard output for ourselves alone; what libraries say goes nowhere from now on."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def _listen(questions: "queue.SimpleQueue[bytes]") -> None:
    for line in sys.stdin.buffer:
        questions.put(line)
    os._exit(0)


def _limit_memory(memory_bytes: int) -> int | None:
    """Bound this process, and return the bytes that a video may make it take; None: nothing bounds it.

    A demuxer that is refused memory may go on without a word and find fewer frames, so the limit of the
    system is not the one that decides: it is twice as high, and a peak above half of it, in which no single
    refusal can hide (libavutil asks for 2 GiB at once at most), is what makes the verdict.
    """
    if not sys.platform.startswith("linux"):
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    there = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    limit = min([memory_bytes * _HARD_FACTOR, *there])
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    # Where the machine is full all the same, the system ends us, not whoever asked.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    return limit // _HARD_FACTOR


def _peak_bytes() -> int:
    """Return the most addresses that this process ever had at once."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return 1024 * int(status.partition("VmPeak:")[2].split()[0])
