"""What a video's file says of it: types alone, for who asks `probes` and needs no library that reads it."""

from dataclasses import dataclass
from fractions import Fraction

MAX_PIXELS = 1 << 26
"""Of a picture: 8192x8192, twice 8K. A hundred bytes may claim more, and the decoder would make room."""


@dataclass(frozen=True)
class Claims:
    """What the container says."""

    format: str  # by which names libavformat calls it, told by content
    frames: int  # in its header; 0: it does not say
    packets: int  # there are
    empty: int  # of these hold no picture
    one_each: bool  # every other packet holds one picture, which is shown
    hidden: int  # of these lie outside the edit list: decoded, never shown
    time_base: Fraction
    fps: float | None
    rotation: int
    size: tuple[int, int]  # of the first picture as it is coded, px
    hdr: str | None  # transfer function of high dynamic range, by ffmpeg's name
    error: str | None  # that ended the counting
    cut: str | None = None  # why its end is missing, by its outermost structure

    def doubt(self, decoded: int) -> str | None:
        """Return why frames may be missing when `decoded` were found; None: they are all there."""
        if self.cut:
            return f"{self.cut}, {decoded} frames decoded"
        if self.error:
            return f"its packets cannot all be read ({self.error}), {decoded} frames decoded"
        if self.frames > self.packets:
            return (
                f"it is cut short: its header claims {self.frames} frames, it holds {self.packets}, "
                f"{decoded} decoded"
            )
        why = f"; its edit list hides {self.hidden}" if self.hidden else ""
        if self.frames > decoded + self.empty:
            return f"its header claims {self.frames} frames, {decoded} decoded{why}"
        if self.one_each and self.packets > decoded + self.empty:
            return f"it holds {self.packets - self.empty} coded frames, {decoded} decoded{why}"
        return None


class UnreadableError(Exception):
    """The file holds nothing to decode; the message is the reason.

    Attributes:
        passing: Whether that may be the moment's fault rather than the file's.
    """

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


@dataclass(frozen=True)
class Glance:
    """What a header promises."""

    format: str  # as in `Claims`
    frames: int  # by count, or by duration and rate
    seconds: float  # 0: unknown
    size: tuple[int, int]  # px
