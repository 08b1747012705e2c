"""All frames of one video as JPEG, with their times: the record that extraction makes and training reads."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fvar.errors import FrameStoreError

ARRAYS = {"jpeg": "|u1", "offsets": "<i8", "pts_seconds": "<f8"}  # name -> dtype, also on disk

MAX_SHORT_SIDE = 4320  # px: the largest that extraction offers
MAX_SIDE = 65500  # px: the largest that ffmpeg writes as JPEG


@dataclass(frozen=True, eq=False, repr=False)
class EncodedVideo:
    """All frames of one video, T of them, as JPEG.

    Attributes:
        jpeg: Bytes of the pictures, one after the other, uint8, shape (num_bytes,).
        offsets: Start of each picture in `jpeg`, then the end of the last one: int64, shape (T + 1,).
        pts_seconds: Time of each picture by the file's own clock: float64, shape (T,), never falling.
        width: Width of every picture, px.
        height: Height of every picture, px.
        fps: Average frame rate that the file claims; None if it claims none.
        rotation: Degrees, clockwise, by which the pictures were turned upright.
        source_sha256: SHA-256 of the video file.
        ffmpeg_version: Version of the ffmpeg that decoded it.

    Raises:
        FrameStoreError: The parts do not fit together.
    """

    jpeg: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    pts_seconds: npt.NDArray[np.float64]
    width: int
    height: int
    fps: float | None = None
    rotation: int = 0
    source_sha256: str = ""
    ffmpeg_version: str = ""

    def __post_init__(self) -> None:
        """Refuse parts that do not describe one video."""
        for problem in self._problems():
            raise FrameStoreError("encoded video", problem, fix="pass parts that belong together")

    def _problems(self) -> Iterator[str]:
        yield from self._problems_of_offsets()
        # Stated as what must hold, so that nan is refused too.
        if not (np.isfinite(self.pts_seconds).all() and (np.diff(self.pts_seconds) >= 0).all()):
            yield "pts_seconds must be finite and never fall"
        short, long = sorted((self.width, self.height))
        if short < 1 or short > MAX_SHORT_SIDE or long > MAX_SIDE:
            yield f"pictures of {self.width}x{self.height} px, at most {MAX_SHORT_SIDE}x{MAX_SIDE}"
        if self.fps is not None and not 0 < self.fps < math.inf:
            yield f"fps is {self.fps}, must be positive or None"

    def _problems_of_offsets(self) -> Iterator[str]:
        if len(self.offsets) < 2:
            yield f"offsets holds {len(self.offsets)} numbers, must hold at least 2: one frame"
        if len(self.pts_seconds) != len(self.offsets) - 1:
            yield f"{len(self.pts_seconds)} times for {len(self.offsets) - 1} frames"
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.jpeg):
            yield (
                f"offsets run from {self.offsets[0]} to {self.offsets[-1]}, "
                f"must run from 0 to {len(self.jpeg)}, the bytes of jpeg"
            )
        if (flat := np.flatnonzero(self.offsets[1:] <= self.offsets[:-1])).size:
            yield f"frame {flat[0]} takes no bytes, offsets must rise"

    @property
    def num_frames(self) -> int:
        """Number of frames, T."""
        return len(self.pts_seconds)

    @property
    def num_bytes(self) -> int:
        """Number of bytes of the pictures."""
        return len(self.jpeg)

    def frame(self, index: int) -> npt.NDArray[np.uint8]:
        """Return the JPEG bytes of frame `index` in 0..T-1, a view of `jpeg`.

        Raises:
            IndexError: There is no such frame.
        """
        if not 0 <= index < self.num_frames:
            raise IndexError(f"frame {index} of {self.num_frames}")
        return self.jpeg[self.offsets[index] : self.offsets[index + 1]]

    def checksum(self) -> str:
        """Return the SHA-256 of the bytes of `jpeg`, `offsets`, `pts_seconds`, little-endian, in hex."""
        digest = hashlib.sha256()
        for name, dtype in ARRAYS.items():
            digest.update(np.ascontiguousarray(getattr(self, name), dtype=dtype).data)
        return digest.hexdigest()

    def __repr__(self) -> str:
        return (
            f"EncodedVideo({self.num_frames} frames of {self.width}x{self.height} px, "
            f"{self.num_bytes} bytes, {self.pts_seconds[0]:.3f}..{self.pts_seconds[-1]:.3f} s)"
        )
