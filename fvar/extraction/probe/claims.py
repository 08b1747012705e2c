"""What a video file says about itself: plain data, handed from the process that reads it to ours."""

from dataclasses import dataclass
from fractions import Fraction

MAX_PIXELS = 1 << 26
"""Of a frame: 8192x8192, twice 8K. A file of a hundred bytes may claim more, and decoders reserve it."""


@dataclass(frozen=True)
class Claims:
    """What the container says."""

    format: str  # libavformat's names for it, recognized by content
    stream: int  # number of the video stream that is decoded, in the file
    num_streams: int  # video streams there are, without covers
    frames: int  # that its header counts, without the empty ones of AVI; 0: the header does not say
    packets: int  # that the file holds
    empty: int  # packets of these that hold no frame, or the second field of one
    one_each: bool  # every other packet holds one frame, which is shown
    hidden: int  # packets outside the edit list: decoded, never shown
    time_base: Fraction  # unit of its times, seconds
    fps: float | None
    rotation: int  # degrees clockwise
    size: tuple[int, int]  # of the first frame as it is coded, px
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


@dataclass(frozen=True)
class Glance:
    """What a header alone promises."""

    format: str  # as in `Claims`
    frames: int  # by count, or by duration and rate
    seconds: float  # 0: unknown


class UnreadableError(Exception):
    """A file or folder holds no video that can be decoded; the message is the reason.

    Attributes:
        may_pass: Whether another try may end better: the machine may be at fault, not the file.
    """

    def __init__(self, reason: str, *, may_pass: bool = False) -> None:
        super().__init__(reason)
        self.may_pass = may_pass
