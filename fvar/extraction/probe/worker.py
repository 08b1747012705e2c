"""The process that reads video files for `pool`: what crashes it or takes its memory harms nothing else.

libavformat builds a file's index when it opens the file, and a hundred kilobytes may claim ten million
frames. Linux bounds the memory of a process. macOS has no such limit that works: there, time alone ends it.
"""

import os
import pickle
import queue
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fvar.extraction.probe.claims import UnreadableError

OUT_OF_MEMORY = 77  # exit code that no signal and no Python error has
_HARD_FACTOR = 2  # see `_limit_memory`


def answer_questions(memory_bytes: int) -> None:
    """Call the functions that come in on standard input, and write what they return to standard output.

    A question is a pickled pair of a function and a path. This process ends with its standard input, so with
    the process that asks, however that ends. Its first answer is the number of bytes that a video may make it
    take: `memory_bytes` or fewer; None means any.
    """
    # Ctrl-C, or a batch system that asks all processes of a job to end, is for the process that asks.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)
    limit = _limit_memory(memory_bytes)
    questions: queue.SimpleQueue[Any] = queue.SimpleQueue()
    # In a thread, which notices the end of the input even while a library hangs.
    threading.Thread(target=_listen, args=(questions,), daemon=True).start()
    if limit is not None and _peak_bytes() > limit:
        sys.exit(f"`ulimit -v` leaves {limit} bytes for it, too few to start")
    answers = os.dup(1)
    for output in (1, 2):  # what libraries print goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    os.write(answers, pickle.dumps(limit))
    while True:
        answer = _answer(*questions.get())
        if limit is not None and _peak_bytes() > limit:
            os._exit(OUT_OF_MEMORY)  # a peak never falls: the next video needs a new process
        os.write(answers, answer)


def _answer(question: Callable[[Path], Any], path: Path) -> bytes:
    try:
        return pickle.dumps(question(path))
    except UnreadableError as error:
        return pickle.dumps(error)
    except Exception:  # noqa: BLE001  # a bug of ours, raised again in the process that asked
        return pickle.dumps(RuntimeError(traceback.format_exc()))


def _listen(questions: "queue.SimpleQueue[Any]") -> None:
    with suppress(EOFError), open(0, "rb") as requests:
        while True:
            questions.put(pickle.load(requests))  # noqa: S301  # from the process that started us
    os._exit(0)


def _limit_memory(memory_bytes: int) -> int | None:
    """Bound this process, and return the bytes that a video may make it take; None: nothing bounds it.

    A demuxer that is refused memory may continue silently and find fewer frames. So the system's limit is
    twice as high as ours, and the peak makes the verdict: libavutil asks for at most 2 GiB at once, so a
    refused request cannot hide below half of the system's limit.
    """
    if not sys.platform.startswith("linux"):
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    existing = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    limit = min([memory_bytes * _HARD_FACTOR, *existing])
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    # If the machine runs out of memory all the same, the system kills this process first.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    return limit // _HARD_FACTOR


def _peak_bytes() -> int:
    """Return the largest address space that this process ever had."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return 1024 * int(status.partition("VmPeak:")[2].split()[0])
