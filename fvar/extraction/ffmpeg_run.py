"""ffmpeg at work: any pictures in, JPEG pictures of one size out, each with its time."""

import signal
import threading
from collections.abc import Callable
from io import BufferedReader, RawIOBase
from typing import IO, cast

from fvar.errors import StoppedError
from fvar.extraction.collect import Pictures
from fvar.extraction.ffmpeg import DecodeSettings, Take, build_command
from fvar.extraction.program import Ffmpeg, Messages, Watch
from fvar.processes import ChildProcesses, end

_ASKED_TO_END = {-signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM}  # as exit codes


def take_pictures(
    take: Take, *, program: Ffmpeg, settings: DecodeSettings, running: ChildProcesses
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
    pictures = Pictures(take.parts, running.count_picture)
    command = build_command(take, program=program, settings=settings)
    feed = take.footage.feed
    with running.start(command, with_input=feed is not None) as process:
        messages = Messages(cast(IO[bytes], process.stderr))
        watch = Watch(process, pictures.silent_seconds, limit_seconds=settings.time_limit_seconds)
        feeder = _start_feeding(feed, process.stdin)
        try:
            # Past its buffer, which would be filled before it gave anything.
            pipe = cast(RawIOBase, cast(BufferedReader, process.stdout).raw)
            broken = pictures.take(pipe, take.footage.seconds)
            given_up = broken is not None and process.poll() is None
            if given_up:
                end(process)
            code = process.wait()
        finally:
            watch.end()
            end(process)  # so that the threads beside come to their end
            feeder.join()
            messages.join()
    if code in _ASKED_TO_END or messages.signal() is not None:
        # A batch system asks all processes of a job to end, ours and ffmpeg: no verdict on the video.
        raise StoppedError(
            take.footage.url,
            f"its ffmpeg was ended by signal {messages.signal() or -code}",
            fix="run the same command again: finished shards are kept",
        )
    pictures.new_sizes = messages.new_sizes()
    # Errors count although ffmpeg may end with code 0: some readers skip what they cannot read.
    said = messages.errors() or ([f"ended with code {code}"] if code else [])
    if watch.ended_it:
        limit = settings.time_limit_seconds
        pictures.fail(f"ffmpeg gave no picture for {limit:g} s (--time-limit)", passing=True)
    elif code == -signal.SIGKILL and not given_up:
        pictures.fail("ffmpeg was killed, perhaps for want of memory", passing=True)
    elif broken:
        pictures.fail(broken)
    elif said:
        pictures.fail(f"ffmpeg: {said[0]}")
    return pictures


def _start_feeding(
    feed: Callable[[IO[bytes]], None] | None, pipe: IO[bytes] | None
) -> threading.Thread:
    def work() -> None:
        if feed is not None and pipe is not None:
            feed(pipe)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
