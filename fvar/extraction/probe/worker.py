"""A process apart that reads what videos claim, so that no file's index is paid for, or crashes, in ours.

libavformat builds a file's index when it opens it, and a hundred kilobytes may claim ten million frames. A
probe is a Python that answers one question after the other, a line of JSON each, and ends with its standard
input, so with whoever asks, however that ends. On Linux its memory is bounded. macOS has no limit that
works: there such an index is cut off by time alone.
"""

import io
import json
import os
import queue
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from fvar.extraction.probe.claims import UnreadableError
from fvar.extraction.probe.container import glance, read_claims
from fvar.extraction.probe.questions import Message, as_line

_HARD_FACTOR = 2  # see `_limit_memory`
_HEARTBEAT_SECONDS = 1.0


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
    if limit is not None and _peak_bytes() > limit:
        sys.exit(
            f"of the memory that `ulimit -v` allows, {limit} bytes are for it: too few to begin"
        )
    answers = _keep_output()
    _write(answers, {"ready": True})
    while True:
        question = json.loads(questions.get())
        answer = _answer(question, _Heartbeat(answers).beat)
        if limit is not None and _peak_bytes() > limit:
            _write(answers, {"memory": limit})
            os._exit(0)  # a peak is for life
        _write(answers, answer)


def _answer(question: Message, progress: Callable[[], None]) -> Message:
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


def _write(answers: int, message: Message) -> None:
    os.write(answers, as_line(message))


def _keep_output() -> int:
    """Return standard output for ourselves alone; what libraries say goes nowhere from now on."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def _listen(questions: "queue.SimpleQueue[bytes]") -> None:
    for question in io.FileIO(0):  # unbuffered: a buffer would be locked when Python ends
        questions.put(question)
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
