"""What this process may use of its machine."""

import math
import os
import sys
from contextlib import suppress
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of work, in so many of time


def usable_processors() -> int:
    """Return how many processors this process may keep busy, at least 1.

    Not how many the machine has: a batch system binds a job to some of them, a container may have a quota.
    """
    number = os.cpu_count() or 1
    if sys.platform.startswith("linux"):
        number = len(os.sched_getaffinity(0))
        with suppress(OSError, ValueError):  # no such file, or "max"
            work, time = map(int, _QUOTA.read_text(encoding="ascii").split())
            number = min(number, math.ceil(work / time))
    return max(1, number)
