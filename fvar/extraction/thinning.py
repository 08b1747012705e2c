"""Which of a video's frames are kept where the user asked for fewer: a regular clock or every n-th."""

import math
from collections.abc import Callable

# Says of the next frame, shown from its time to that of the one after it (None: it is the last), in
# seconds, whether it is kept.
Keeps = Callable[[float, float | None], bool]

_SLACK = (
    0.1  # of a frame's duration: times are rounded to the file's clock, in Matroska to milliseconds
)


def keep_frames(
    *, fps: float | None = None, stride: int | None = None, clock_seconds: float = 0.0
) -> Keeps:
    """Return the rule for one video, to be asked of each of its frames in order, once.

    Args:
        fps: Keep the frame that is shown at each tick of a clock of this rate, which starts with the first
            frame. A frame shown at several ticks is kept once: nothing is invented or doubled, and at
            or above the video's own rate every frame is kept.
        stride: Keep frames 0, stride, 2 stride ...
        clock_seconds: The smallest step between times that the file can tell.
    """
    if fps is not None:
        return _AtTicks(fps, clock_seconds).keeps
    if stride is not None:
        return _EveryNth(stride).keeps
    return lambda _seconds, _next_seconds: True


class _EveryNth:
    def __init__(self, stride: int) -> None:
        self._stride, self._asked = stride, 0

    def keeps(self, _seconds: float, _next_seconds: float | None) -> bool:
        self._asked += 1
        return (self._asked - 1) % self._stride == 0


class _AtTicks:
    """Frame i is shown in [begin_i, begin_i+1), the last one for the average time; a tick there keeps it."""

    def __init__(self, fps: float, clock_seconds: float) -> None:
        self._fps, self._clock = fps, clock_seconds
        self._first: float | None = None
        self._asked = 0
        self._passed = 0  # ticks before the frame that is asked about

    def keeps(self, seconds: float, next_seconds: float | None) -> bool:
        if self._first is None:
            self._first = seconds
        begin = seconds - self._first
        if next_seconds is not None:
            shown = next_seconds - seconds
        elif self._asked:
            shown = begin / self._asked
        else:
            return True  # a video of one frame
        self._asked += 1
        slack = min(self._clock, _SLACK * shown)
        before = self._passed
        self._passed = max(before, math.ceil((begin + shown - slack) * self._fps))
        # A frame that lasts a whole tick always meets one, whichever way its times were rounded.
        return self._passed > before or shown >= 1 / self._fps - slack
