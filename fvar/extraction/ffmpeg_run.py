"""ffmpeg at work: any pictures in, JPEG pictures of one size out, each with its time."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader, FileIO, RawIOBase
from typing import IO, cast

from fvar.errors import StoppedError
from fvar.extraction.collect import Pictures, Size
from fvar.extraction.ffmpeg import DecodeSettings, Take, build_command
from fvar.extraction.program import Ffmpeg, Messages, Running, Watch, end, widen

_ASKED_TO_END = {-signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM}  # as exit codes


def take_pictures(
    take: Take, *, program: Ffmpeg, settings: DecodeSettings, running: Running
) -> Pictures:
    """Decode a video to its end or the first error.

    Args:
        take: The video, and where its pictures go.
        program: From `find_ffmpeg`.
        settings: Size, quality and limits.
        running: Where the process is entered while it runs.

    Raises:
        StoppedError: Somebody asked ffmpeg to end.
    """
    (pictures,), outcome = _run([take], program, settings, running)
    if outcome.silent:
        limit = settings.time_limit_seconds
        pictures.fail(f"ffmpeg gave no picture for {limit:g} s (--time-limit)", passing=True)
    elif outcome.killed:
        pictures.fail("ffmpeg was killed, perhaps for want of memory", passing=True)
    elif outcome.broken:
        pictures.fail(outcome.broken)
    elif outcome.said:
        pictures.fail(f"ffmpeg: {outcome.said[0]}")
    pictures.new_sizes = outcome.new_sizes
    return pictures


def take_together(
    takes: Sequence[Take], *, program: Ffmpeg, settings: DecodeSettings, running: Running
) -> list[Pictures] | None:
    """Decode several files in one ffmpeg: to start one takes as long as some tens of small pictures.

    Args:
        takes: The videos, and where the pictures of each go.
        program: From `find_ffmpeg`.
        settings: Size, quality and limits.
        running: Where the process is entered while it runs.

    Returns:
        What came of each. None: there was something unusual about one of them, and nothing tells which; each
        wants an ffmpeg of its own.

    Raises:
        StoppedError: Somebody asked ffmpeg to end.
    """
    pictures, outcome = _run(takes, program, settings, running)
    return pictures if outcome.usual else None


@dataclass(frozen=True)
class _Outcome:
    """How an ffmpeg ended.

    Attributes:
        silent: Whether it was ended because no picture came.
        killed: Whether somebody else did.
        broken: Why its output could not be read to the end.
        said: Its errors. They count although it may end with code 0: some readers skip what they cannot read.
        new_sizes: Of pictures of an input that were unlike those before.
    """

    silent: bool
    killed: bool
    broken: str | None
    said: Sequence[str]
    new_sizes: Sequence[Size]

    @property
    def usual(self) -> bool:
        """Whether all went well, and nothing is to be said."""
        return not (self.silent or self.killed or self.broken or self.said or self.new_sizes)


def _run(
    takes: Sequence[Take], program: Ffmpeg, settings: DecodeSettings, running: Running
) -> tuple[list[Pictures], _Outcome]:
    pictures = [Pictures(take.parts, running.count_picture) for take in takes]
    feed = takes[0].footage.feed
    with _more_pipes(len(takes) - 1) as more, ThreadPoolExecutor(len(takes)) as pool:
        outputs = [1, *(theirs.fileno() for _, theirs in more)]
        command = build_command(takes, outputs, program=program, settings=settings)
        with running.start(command, with_input=feed is not None, pass_fds=outputs[1:]) as process:
            # Past its buffer, which would be filled before it gave anything.
            pipes = [cast(RawIOBase, cast(BufferedReader, process.stdout).raw)]
            for ours, theirs in more:
                theirs.close()  # ffmpeg has its own, with which the pipe ends
                pipes.append(ours)
            messages = Messages(cast(IO[bytes], process.stderr))
            watch = Watch(
                process,
                lambda: min(each.silent_seconds() for each in pictures),
                limit_seconds=settings.time_limit_seconds,
            )
            feeder = _start_feeding(feed, process.stdin)
            try:
                reads = [
                    pool.submit(_read, each, pipe, take, process)
                    for each, pipe, take in zip(pictures, pipes, takes, strict=True)
                ]
                faults = [fault for read in reads if (fault := read.result()) is not None]
                code = process.wait()
            finally:
                watch.end()
                end(process)  # so that the threads beside come to their end
                feeder.join()
                messages.join()
    if code in _ASKED_TO_END or messages.signal() is not None:
        # A batch system asks all processes of a job to end, ours and ffmpeg: no verdict on the video.
        raise StoppedError(
            takes[0].footage.url,
            f"its ffmpeg was ended by signal {messages.signal() or -code}",
            fix="run the same command again: finished shards are kept",
        )
    return pictures, _Outcome(
        silent=watch.ended_it,
        killed=code == -signal.SIGKILL and not any(fault.given_up for fault in faults),
        broken=faults[0].reason if faults else None,
        said=messages.errors() or ([f"ended with code {code}"] if code else []),
        new_sizes=messages.new_sizes(),
    )


@dataclass(frozen=True)
class _Fault:
    """Why an output could not be read, and whether its ffmpeg was ended for that."""

    reason: str
    given_up: bool


def _read(
    pictures: Pictures, pipe: RawIOBase, take: Take, process: "subprocess.Popen[bytes]"
) -> _Fault | None:
    try:
        reason = pictures.take(pipe, take.footage.seconds)
    except BaseException:
        end(process)  # which would wait for us to read on, and who reads the other outputs for it
        raise
    if reason is None:
        return None
    given_up = process.poll() is None
    if given_up:
        end(process)
    return _Fault(reason, given_up)


@contextmanager
def _more_pipes(number: int) -> Iterator[list[tuple[FileIO, FileIO]]]:
    """Yield pipes beside standard output: the end to read and the end that is ffmpeg's."""
    with ExitStack() as open_files:
        pipes = []
        for _ in range(number):
            ours, theirs = (
                open_files.enter_context(FileIO(file, mode))
                for file, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
            )
            widen(ours)
            pipes.append((ours, theirs))
        yield pipes


def _start_feeding(
    feed: Callable[[IO[bytes]], None] | None, pipe: IO[bytes] | None
) -> threading.Thread:
    def work() -> None:
        if feed is not None and pipe is not None:
            feed(pipe)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
