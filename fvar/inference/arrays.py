"""Pictures in memory as a video: ffmpeg scales and encodes them as it does those of a file."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from typing import IO

import numpy as np
import numpy.typing as npt

from fvar.errors import VideoError
from fvar.extraction.ffmpeg import FfmpegInput

Picture = npt.NDArray[np.uint8]  # (H, W, 3)
_RAW = "rawvideo"  # libavformat's name of pictures without any header


class ArrayFeeder:
    """Writes pictures to ffmpeg one by one, so that an iterable need not fit into memory.

    Attributes:
        problem: What was wrong with a picture; None: nothing. Set while they are fed.
    """

    def __init__(self, pictures: npt.NDArray[np.uint8] | Iterable[Picture], *, fps: float) -> None:
        """Look at the first picture.

        Args:
            pictures: uint8 (T, H, W, 3), or one by one (H, W, 3); all of one size.
            fps: How many are shown in a second.

        Raises:
            VideoError: There is none, or the first is no such picture.
        """
        if not 0 < fps < float("inf"):
            raise VideoError("pictures", f"fps is {fps}, must be positive", fix="pass another fps")
        iterator = iter(pictures)
        first = next(iterator, None)
        if first is None:
            raise VideoError("pictures", "there is none, a video has a frame", fix="pass pictures")
        self._shape = _check(first, None, 0)
        self._pictures: Iterator[Picture] = chain([first], iterator)
        self._fps, self._seconds = fps, list[float]()
        self.problem: VideoError | None = None

    def input(self) -> FfmpegInput:
        """Return what ffmpeg reads: raw frames, each with its time."""
        height, width, _ = self._shape
        return FfmpegInput(
            "pipe:0",
            _RAW,
            Fraction(1),
            {
                "format": _RAW,
                "pixel_format": "rgb24",
                "video_size": (width, height),
                "framerate": 1,
            },
            feed=self._feed,
            seconds=self._seconds,  # grows while pictures are fed, each time before its picture
        )

    def _feed(self, pipe: IO[bytes]) -> None:
        # If ffmpeg ends before it has read all, it says why itself.
        with suppress(BrokenPipeError), pipe:
            for number, picture in enumerate(self._pictures):
                try:
                    _check(picture, self._shape, number)
                except VideoError as error:
                    self.problem = error
                    return
                self._seconds.append(number / self._fps)
                pipe.write(np.ascontiguousarray(picture).data)


def _check(picture: Picture, expected: tuple[int, ...] | None, number: int) -> tuple[int, ...]:
    """Return the shape of a picture; refuse anything else."""
    shape: tuple[int, ...] = getattr(picture, "shape", ())
    found = f"{type(picture).__name__} {getattr(picture, 'dtype', '')}{list(shape)}"
    is_picture = len(shape) == 3 and shape[-1] == 3 and min(shape) > 0
    if not is_picture or picture.dtype != np.uint8 or (expected and shape != expected):
        wanted = f"uint8 {list(expected)} as the first" if expected else "uint8 (height, width, 3)"
        raise VideoError(
            f"pictures[{number}]", f"is {found}, must be {wanted}", fix="convert the pictures"
        )
    return tuple(int(side) for side in shape)
