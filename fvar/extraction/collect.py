"""What comes out of ffmpeg: JPEG pictures of one size, each with its time, through a pipe as NUT.

NUT carries the boundaries of the pictures and their exact times.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from io import RawIOBase

import av

from fvar.extraction.parts import Sink
from fvar.store.jpeg import picture_size

Size = tuple[int, int]  # width and height, px


@dataclass
class Pictures:
    """The pictures of one input, and what ffmpeg said of it.

    Attributes:
        parts: Where they go.
        count: Called at each.
        size: Of all of them.
        num_decoded: That came.
        last_seconds: When the last of them is shown.
        problem: What went wrong; None: nothing.
        passing: Whether that may be the moment's fault rather than the input's.
        new_sizes: Of pictures of the input that were unlike those before.
    """

    parts: Sequence[Sink]
    count: Callable[[], None]
    size: Size = (0, 0)
    num_decoded: int = 0
    last_seconds: float = 0.0
    problem: str | None = None
    passing: bool = False
    new_sizes: Sequence[Size] = field(default=())
    _heard: float = field(default_factory=time.monotonic)

    def silent_seconds(self) -> float:
        """How long no picture has come."""
        return time.monotonic() - self._heard

    def fail(self, problem: str, *, passing: bool = False) -> None:
        """Note what went wrong."""
        self.problem, self.passing = problem, passing

    def take(self, pipe: RawIOBase, seconds: Sequence[float] | None) -> str | None:
        """Read the pipe to its end, and return why that was not possible.

        Args:
            pipe: Without a buffer.
            seconds: Time of each picture in order; None: ffmpeg tells.
        """
        try:
            for data, told in _read_nut(pipe):
                self._heard = time.monotonic()
                if not self.num_decoded:
                    height, width = picture_size(data) or (0, 0)
                    # ffmpeg scales what follows to the first picture's size
                    self.size = (width, height)
                shown = told if seconds is None else seconds[self.num_decoded]
                self.last_seconds = shown
                self.num_decoded += 1
                self.count()
                for part in self.parts:
                    part.offer(data, shown)
        except _BrokenError as error:
            # Without a single picture there is no stream to open: ffmpeg's code and words tell why.
            return f"the pictures stop ({error})" if self.num_decoded else None
        finally:
            for part in self.parts:
                part.close()
        return None


class _BrokenError(Exception):
    """The stream ends where it should go on; the message is why."""


def _read_nut(pipe: RawIOBase) -> Iterator[tuple[bytes, float]]:
    """Yield each picture as it comes, with its time in seconds."""
    options = {"fpsprobesize": "0"}  # to guess a rate, ten pictures would be waited for
    try:
        with av.open(pipe, mode="r", format="nut", options=options) as container:
            tick = container.streams.video[0].time_base or Fraction(1)
            ticks, seconds = tick.denominator, tick.numerator
            for packet in container.demux(video=0):
                if packet.size:
                    if packet.pts is None:
                        raise _BrokenError("one has no time")
                    yield bytes(packet), packet.pts * seconds / ticks
    except av.error.FFmpegError as error:
        raise _BrokenError(error.strerror) from error
