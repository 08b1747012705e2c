"""Processors and memory of this machine, and settings of its memory allocator.

Without these settings a training on a Linux CPU waits for page faults. glibc returns every block above 32 MB
to the system when it is freed; the activations of the next chunk are then mapped and zeroed again, page by
page. Measured on 2 cores, MobileNetV2's stem at 112 px, chunks of 32 frames: 85 frames per second forward and
backward with glibc's defaults, 213 with these settings.

The allocator cannot use all that it keeps: torch wants aligned blocks, and the hole that one leaves is mostly
too small for the next of the same size. Measured with MobileNetV2 at 224 px, evaluating 10,000 frames in
chunks of 8: memory grew by 0.3 MB per frame to 5.0 GB, of which 1.4 GB were in use. With free memory returned
to the system whenever 256 MB were added, the peak was 1.9 and 2.0 GB; 21 returns took 0.7 s in all.

What every step needs is not returned, because the next step would wait for page faults again. Measured with
batches of 8 clips of 90 to 130 frames, MobileNetV2 at 112 px with a frozen stem, on one thread: 2.07 CPU
seconds per step when nothing is returned, 2.07 with one return in 13 steps, as here, 2.54 with a return after
every 128 chunks.
"""

import ctypes
import math
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# mallopt(3): parameters of glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER_TRIM = 2**31 - 1
_GROW_BY_BYTES = 64 << 20

_MAY_GROW_BYTES = 256 << 20

# Its second number is the pages that this process has in memory.
_STATM = Path("/proc/self/statm")
_CPU_INFO = Path("/proc/cpuinfo")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# Limits of a container: microseconds of work per microseconds of time; bytes. Either may be "max".
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class _Allocator:
    """The allocator of this process: `trim` returns free memory to the system; None before it is set up."""

    def __init__(self) -> None:
        self.trim: Callable[[int], int] | None = None
        self.level_bytes = 0  # resident memory, from which growth is counted
        self.is_level_known = False


_ALLOCATOR = _Allocator()


def keep_freed_memory() -> None:
    """Make glibc's allocator keep freed blocks of any size; with another C library nothing happens."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        mallopt, _ALLOCATOR.trim = libc.mallopt, libc.malloc_trim
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)
        mallopt(_M_TOP_PAD, _GROW_BY_BYTES)


def note_memory_level() -> None:
    """Take the memory that is resident now as what a step needs, if memory was returned since the last step.

    Before a step, the activations of the step before are free, and the next step fills them again: returning
    them would only cost page faults.
    """
    if _ALLOCATOR.trim is not None and not _ALLOCATOR.is_level_known:
        _ALLOCATOR.level_bytes, _ALLOCATOR.is_level_known = _resident_bytes(), True


def return_grown_memory() -> None:
    """Return free memory to the system if the process has grown by 256 MB above its level."""
    if _ALLOCATOR.trim is None or _resident_bytes() < _ALLOCATOR.level_bytes + _MAY_GROW_BYTES:
        return
    _ALLOCATOR.trim(0)
    _ALLOCATOR.level_bytes, _ALLOCATOR.is_level_known = _resident_bytes(), False


def _resident_bytes() -> int:
    return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES


def total_host_memory() -> int:
    """Return the bytes of memory that this process may use: of the machine, or of its container if fewer."""
    machine = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES
    try:
        return min(machine, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):
        return machine


def processor_model() -> str:
    """Return the name of the processor's model; of its architecture where the system does not tell."""
    with suppress(OSError, UnicodeDecodeError):
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def usable_processors() -> int:
    """Return how many processors this process may keep busy, at least 1.

    The machine may have more: a batch system binds a job to some, and a container may have a quota.
    """
    number = os.cpu_count() or 1
    if sys.platform.startswith("linux"):
        number = len(os.sched_getaffinity(0))
        with suppress(OSError, ValueError):  # no such file, or "max"
            work, time = map(int, _QUOTA.read_text(encoding="ascii").split())
            number = min(number, math.ceil(work / time))
    return max(1, number)
