"""One run of ffmpeg: any video in, JPEG frames of one size out, each with its time."""

import os
import re
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av

from fvar.errors import StoppedError
from fvar.extraction.budget import RERUN
from fvar.extraction.collect import Size
from fvar.extraction.ffmpeg import DecodeSettings, Ffmpeg, FfmpegInput, build_command
from fvar.processes import ChildProcesses, end, wait_for_data
from fvar.store.jpeg import picture_size

OnFrame = Callable[[bytes, float], None]
"""Takes the next frame as JPEG, and the time from which it is shown, in seconds."""

_ASKED_TO_END = {-signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM}  # as exit codes
_GAP = 1.5  # times the usual step
_LINE_BYTES, _KEPT_LINES, _SHOWN = 4096, 64, 300
# Before the level, ffmpeg prints which part of it speaks, with a useless address: h264 @ 0x55ee01245f80.
_ERROR = re.compile(r"((?:\[[^\]]*\] )*)\[(?:error|fatal|panic)\] (.*)")
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+(?=\])")
_SIGNAL = re.compile(r"\[info\] Exiting normally, received signal (\d+)")
_NEW_SIZE = re.compile(r"\[info\] Reconfiguring filter graph.* (\d+)x(\d+)(?:,|$)")


@dataclass
class Outcome:
    """What ffmpeg gave for one video.

    Attributes:
        size: Of every frame, px.
        num_frames: That came.
        last_seconds: When the last of them is shown.
        num_without_time: Those whose time is missing, or not later than that of the frame before.
        gaps: Times of neighboring frames that are further apart than usual.
        new_sizes: Of frames of the input whose size differs from the frame before, px.
        problem: What went wrong; None: nothing.
        may_pass: Whether another try may end better: the machine may be at fault, not the video.
        signal: Number of the signal that asked ffmpeg to end; None: there was none.
    """

    size: Size = (0, 0)
    num_frames: int = 0
    last_seconds: float = 0.0
    num_without_time: int = 0
    gaps: list[tuple[float, float]] = field(default_factory=list)
    new_sizes: list[Size] = field(default_factory=list)
    problem: str | None = None
    may_pass: bool = False
    signal: int | None = None

    def note_gap(self, seconds: float, usual: float | None) -> None:
        """Note the gap before a frame that is shown at `seconds`, if there is one."""
        if usual is None or not self.num_frames or len(self.gaps) >= _KEPT_LINES:
            return
        if seconds - self.last_seconds > _GAP * usual:
            self.gaps.append((self.last_seconds, seconds))


def run_ffmpeg(
    video: FfmpegInput,
    on_frame: OnFrame,
    *,
    program: Ffmpeg,
    settings: DecodeSettings,
    running: ChildProcesses,
) -> Outcome:
    """Decode a video to its end or to the first error.

    `on_frame` is called with each frame in order; an exception that it raises ends ffmpeg. The process is
    registered in `running` while it runs.

    Raises:
        StoppedError: Somebody asked ffmpeg to end.
    """
    command = build_command(video, program=program, settings=settings)
    outcome = Outcome()
    with (
        running.start(command, with_input=video.feed is not None) as process,
        ThreadPoolExecutor(2) as threads,
    ):
        pipe = _Pipe(process.stdout, settings.time_limit_seconds)
        try:
            tasks = [threads.submit(_read_messages, process.stderr, outcome)]
            if video.feed is not None and process.stdin is not None:
                tasks.append(threads.submit(video.feed, process.stdin))
            broken = _read_frames(pipe, video, on_frame, outcome)
            code = _wait(process, pipe)
        finally:
            end(process)  # so that the threads end
    for task in tasks:
        task.result()
    asked = -code if code in _ASKED_TO_END else outcome.signal
    if asked is not None:
        # A batch system asks all processes of a job to end, ours and ffmpeg: that is no verdict on the video.
        raise StoppedError(video.url, f"its ffmpeg was ended by signal {asked}", fix=RERUN)
    may_pass = pipe.problem
    if pipe.ended and code == -signal.SIGKILL:  # by somebody else
        may_pass = may_pass or "ffmpeg was killed, perhaps because memory ran out"
    outcome.may_pass = may_pass is not None
    # Errors count even if ffmpeg ends with code 0: some of its readers skip what they cannot read.
    wrong = broken or outcome.problem or (f"ffmpeg: ended with code {code}" if code else None)
    outcome.problem = may_pass or wrong
    return outcome


class _Pipe:
    """The output of ffmpeg as PyAV reads it; it stops if nothing comes for `limit_seconds`.

    Attributes:
        ended: Whether ffmpeg ended it.
        problem: Why it stopped before, or None.
    """

    def __init__(self, pipe: Any, limit_seconds: float) -> None:
        self._pipe, self.limit_seconds = pipe, limit_seconds
        self.ended = False
        self.problem: str | None = None

    def give_up(self) -> None:
        self.problem = f"ffmpeg gave no frame for {self.limit_seconds:g} s (--time-limit)"

    def read(self, num_bytes: int) -> bytes:
        if self.problem is None and not wait_for_data(self._pipe, self.limit_seconds):
            self.give_up()
        if self.problem is not None:  # PyAV reads on after the end
            return b""
        # Past the buffer, which would wait until it is full.
        data = os.read(self._pipe.fileno(), num_bytes)
        self.ended = not data
        return data


def _wait(process: "subprocess.Popen[bytes]", pipe: _Pipe) -> int:
    """Return ffmpeg's exit code; kill it if it did not end its output, or does not end itself."""
    if not pipe.ended:
        end(process)
    try:
        return process.wait(pipe.limit_seconds)
    except subprocess.TimeoutExpired:
        pipe.give_up()
        end(process)
        return process.wait()


def _read_frames(
    pipe: _Pipe, video: FfmpegInput, on_frame: OnFrame, outcome: Outcome
) -> str | None:
    """Read the pipe to its end; return why that was not possible, or None.

    The frames come in NUT, which keeps exact times and frame boundaries.
    """
    options = {"fpsprobesize": "0"}  # otherwise ten frames are buffered to guess a rate
    try:
        with av.open(pipe, mode="r", format="nut", options=options) as container:
            tick = container.streams.video[0].time_base or Fraction(1)
            for packet in container.demux(video=0):
                if not packet.size:
                    continue
                if packet.pts is None:
                    return "the frames stop (one has no time)"
                data, ticks = bytes(packet), packet.pts * tick // video.time_base
                seconds = ticks * video.time_base.numerator / video.time_base.denominator
                outcome.num_without_time += packet.pts * tick != ticks * video.time_base
                if not outcome.num_frames:  # ffmpeg scales the frames that follow to this size
                    height, width = picture_size(data) or (0, 0)
                    outcome.size = (width, height)
                if video.seconds is not None:
                    seconds = video.seconds[outcome.num_frames]
                outcome.note_gap(seconds, video.frame_seconds)
                outcome.num_frames += 1
                outcome.last_seconds = seconds
                on_frame(data, seconds)
    except av.error.FFmpegError as error:
        # Without a single frame there is no stream to open: ffmpeg's exit code and messages say why.
        return f"the frames stop ({error.strerror})" if outcome.num_frames else None
    return None


def _read_messages(pipe: Any, outcome: Outcome) -> None:
    """Read what ffmpeg prints, to the end; in a thread, so that the pipe never fills."""
    while line := pipe.readline(_LINE_BYTES).decode(errors="replace"):
        if error := _ERROR.match(line):
            text = _ADDRESS.sub("", error[1]) + error[2].strip()[:_SHOWN]
            outcome.problem = outcome.problem or f"ffmpeg: {text}"
        elif (size := _NEW_SIZE.search(line)) and len(outcome.new_sizes) < _KEPT_LINES:
            outcome.new_sizes.append((int(size[1]), int(size[2])))
        elif found := _SIGNAL.search(line):
            outcome.signal = int(found[1])
