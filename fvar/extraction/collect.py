"""A segment of a video: it keeps its frames, in memory up to 16 MB and on the disk beyond."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fvar.errors import StoppedError
from fvar.extraction.thinning import KeepsFrame

Size = tuple[int, int]  # width and height, px


class FrameInterval(NamedTuple):
    """[start, end) in frames of the video, from 0; None: from the beginning, to the end."""

    start: int | None
    end: int | None


Interval = tuple[float | None, float | None] | FrameInterval
"""[start, end) in seconds, or in frames; None: from the beginning, to the end."""

_MEMORY_BYTES = 16 << 20  # a clip of a minute fits


class Segment:
    """The frames of an interval, in seconds or in frames, that `keeps_frame` selects of its frames in order.

    Many frames lie on the disk of `folder`; with None, on that of the system's temporary files. Before every
    16 MB, `check_room` is called with the number of bytes there will be; it raises if they are too many.
    Close the segment in the end; `jpeg` stays usable.

    Attributes:
        interval: Start and end.
        jpeg: The kept frames one after the other, uint8 (num_bytes,); set by `finish`.
        offsets: Where each kept frame begins in `jpeg`, and where the last one ends.
        pts_seconds: When each kept frame is shown.
        num_decoded: Frames in the interval, kept or not.
    """

    def __init__(
        self,
        interval: Interval,
        keeps_frame: KeepsFrame,
        folder: Path | None = None,
        check_room: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.interval = interval
        self.jpeg: npt.NDArray[np.uint8] = np.empty(0, np.uint8)
        self.offsets, self.pts_seconds, self.num_decoded = [0], list[float](), 0
        self._num_offered = 0
        self._keeps_frame, self._folder, self._check_room = keeps_frame, folder, check_room
        # The file has no name: the system deletes it with this process, even after SIGKILL.
        where = str(folder) if folder else None
        self._file = tempfile.SpooledTemporaryFile(_MEMORY_BYTES, dir=where)  # noqa: SIM115  # see `close`
        self._waiting: tuple[bytes, float] | None = None  # until it is known how long it is shown

    def add(self, data: bytes, seconds: float) -> None:
        """Take the video's next frame, which is ignored if it lies outside the segment.

        Raises:
            StoppedError: The disk is full, or `check_room` raised it.
        """
        self._keep_waiting(seconds)
        start, end = self.interval
        place = self._num_offered if isinstance(self.interval, FrameInterval) else seconds
        self._num_offered += 1
        if (start is None or place >= start) and (end is None or place < end):
            self.num_decoded += 1
            self._waiting = data, seconds

    def _keep_waiting(self, next_seconds: float | None) -> None:
        if self._waiting is None:
            return
        data, seconds = self._waiting
        self._waiting = None
        if self._keeps_frame(seconds, next_seconds):
            self._write(data)
            self.pts_seconds.append(seconds)

    def _write(self, data: bytes) -> None:
        begin, end = self.offsets[-1], self.offsets[-1] + len(data)
        if end // _MEMORY_BYTES > begin // _MEMORY_BYTES:
            self._check_room(end)
        try:
            self._file.write(data)
        except OSError as error:
            raise StoppedError(
                self._folder or tempfile.gettempdir(),
                f"cannot take the frames of the next video ({error.strerror})",
                fix="make room there or make it writable, and run the same command again",
            ) from error
        self.offsets.append(end)

    def finish(self) -> None:
        """Learn that there are no more frames, and set `jpeg`."""
        self._keep_waiting(None)
        if self.offsets[-1] <= _MEMORY_BYTES:
            self._file.seek(0)
            self.jpeg = np.frombuffer(bytearray(self._file.read()), np.uint8)
        else:
            self._file.flush()
            self.jpeg = np.memmap(self._file, np.uint8, mode="c")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def why_empty(self, num_decoded: int, last_seconds: float) -> str:
        """Return why no frame was kept although `num_decoded` frames were found."""
        start, end = self.interval
        span = f"[{start or 0:g}, {'end' if end is None else format(end, 'g')})"
        if isinstance(self.interval, FrameInterval):
            return f"none of its {num_decoded} frames has a number in {span}, counted from 0"
        return (
            f"none of its {num_decoded} frames lies in {span} s; the last is shown at "
            f"{last_seconds:g} s"
        )
