"""The parts of one video that rows of the source ask for, filled from a single decode."""

from dataclasses import dataclass, field
from typing import Protocol

from fvar.extraction.spool import Spool
from fvar.extraction.thinning import Keeps

Interval = tuple[
    float | None, float | None
]  # [start, end) in seconds; None: from the beginning, to the end


class Sink(Protocol):
    """What takes the pictures of a video."""

    def offer(self, data: bytes, seconds: float) -> None:
        """Take the next picture, shown from `seconds` on."""

    def close(self) -> None:
        """Hear that there are no more."""


@dataclass
class Part:
    """The frames with ``start <= time < end`` that `keeps` keeps.

    Attributes:
        interval: Start and end.
        keeps: Asked of each frame of the part in order.
        jpeg: Gathers the pictures kept, one after the other.
        offsets: Where each begins in `jpeg`, and where the last one ends.
        pts_seconds: When each is shown.
        num_decoded: Frames in the interval, kept or not.
    """

    interval: Interval
    keeps: Keeps
    jpeg: Spool
    offsets: list[int] = field(default_factory=lambda: [0])
    pts_seconds: list[float] = field(default_factory=list)
    num_decoded: int = 0
    _waiting: tuple[bytes, float] | None = None  # until it is known how long it is shown

    def offer(self, data: bytes, seconds: float) -> None:
        """Take the video's next frame, if it is one of the part's."""
        self._settle(seconds)
        start, end = self.interval
        if (start is None or seconds >= start) and (end is None or seconds < end):
            self.num_decoded += 1
            self._waiting = data, seconds

    def close(self) -> None:
        """Hear that there are no more frames."""
        self._settle(None)

    def _settle(self, next_seconds: float | None) -> None:
        if self._waiting is None:
            return
        data, seconds = self._waiting
        self._waiting = None
        if self.keeps(seconds, next_seconds):
            self.jpeg.append(data)
            self.offsets.append(self.jpeg.num_bytes)
            self.pts_seconds.append(seconds)

    def why_empty(self, num_decoded: int, last_seconds: float) -> str:
        """Return why it holds nothing although `num_decoded` frames were found."""
        start, end = self.interval
        return (
            f"none of its {num_decoded} frames lies in [{start or 0:g}, "
            f"{'end' if end is None else format(end, 'g')}) s; the last is shown at {last_seconds:g} s"
        )
