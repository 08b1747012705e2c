"""Which frames of a video are kept if the user wants fewer: those at the ticks of a clock, or every n-th."""

import math
from collections.abc import Callable
from itertools import count

KeepsFrame = Callable[[float, float | None], bool]
"""Takes the seconds of a frame and of the next one (None: it is the last); returns whether to keep it."""

# Of a frame's duration: times are rounded to the file's clock, in Matroska to milliseconds.
_SLACK = 0.1


def keep_frames(
    *, fps: float | None = None, stride: int | None = None, clock_seconds: float = 0.0
) -> KeepsFrame:
    """Return the rule for one video; it is called once for each frame, in order.

    Args:
        fps: Keep the frame that is shown at each tick of a clock of this rate, which starts with the first
            frame. A frame that is shown at several ticks is kept once: no frame is invented or doubled, and
            at or above the video's own rate every frame is kept.
        stride: Keep frames 0, stride, 2 stride ...
        clock_seconds: The smallest difference between two times in the file.
    """
    if fps is not None:
        return _AtTicks(fps, clock_seconds).keeps
    index = count()
    return lambda _seconds, _next_seconds: next(index) % (stride or 1) == 0


class _AtTicks:
    """Frame i is shown in [begin_i, begin_i+1), the last one for the average time; a tick within keeps it."""

    def __init__(self, fps: float, clock_seconds: float) -> None:
        self._fps, self._clock = fps, clock_seconds
        self._first: float | None = None
        self._num_seen = 0
        self._num_ticks = 0  # before the current frame

    def keeps(self, seconds: float, next_seconds: float | None) -> bool:
        if self._first is None:
            self._first = seconds
        begin = seconds - self._first
        if next_seconds is not None:
            shown = next_seconds - seconds
        elif self._num_seen:
            shown = begin / self._num_seen
        else:
            return True  # a video of one frame
        self._num_seen += 1
        slack = min(self._clock, _SLACK * shown)
        before = self._num_ticks
        self._num_ticks = max(before, math.ceil((begin + shown - slack) * self._fps))
        # A frame that lasts a whole tick always meets one, however its times were rounded.
        return self._num_ticks > before or shown >= 1 / self._fps - slack
