"""The pictures shown of each cluster: some of its frames, and their mean."""

from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

from fvar.errors import InputError
from fvar.store.clusters.video_clusters import VideoClusters

Picture = npt.NDArray[np.uint8]
"""A picture, uint8 in 0..255, shape (H, W, 3): red, green, blue."""

MEAN_FRAMES = 64  # evenly spaced in a cluster; more do not change its mean picture visibly


def spread(start: int, stop: int, *, number: int) -> list[int]:
    """Return at most `number` distinct frames of [start, stop), evenly spaced; one is the middle frame."""
    if number == 1:
        return [(start + stop - 1) // 2]
    number = min(number, stop - start)
    return [start + round(i * (stop - start - 1) / max(number - 1, 1)) for i in range(number)]


def film(
    clusters: VideoClusters, picture: Callable[[int], Picture], *, per_cluster: int
) -> Iterator[tuple[list[Picture], Picture]]:
    """Yield the pictures to show of each cluster, in order: some of its frames, and their mean.

    The mean is that of all frames of the cluster, or of `MEAN_FRAMES` of them.

    Args:
        clusters: The clusters of the video.
        picture: Takes a frame's number; returns its picture, all of one size. It is called once per frame.
        per_cluster: Largest number of frames to show of each cluster.
    """
    for start, stop in pairwise(clusters.boundaries.tolist()):
        shown = spread(start, stop, number=per_cluster)
        averaged = spread(start, stop, number=MEAN_FRAMES)
        pictures = {frame: picture(frame) for frame in sorted({*shown, *averaged})}
        total = np.zeros(pictures[start].shape, np.uint16)  # holds 64 * 255
        for frame in averaged:
            total += pictures[frame]
        yield [pictures[frame] for frame in shown], np.rint(total / len(averaged)).astype(np.uint8)


def decode_thumbnail(jpeg: npt.NDArray[np.uint8], *, least: tuple[int, int]) -> Picture:
    """Return a JPEG as a picture at least `least` wide and high (px), or in full size if it is smaller.

    A large picture is decoded at a half, a quarter or an eighth of its size, which is several times faster.

    Raises:
        InputError: The bytes are no JPEG picture.
    """
    try:
        with Image.open(BytesIO(jpeg.tobytes()), formats=["JPEG"]) as image:
            image.draft("RGB", least)
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            "frame", f"is no JPEG picture ({error})", fix="rerun `fvar extract` with --overwrite"
        ) from error


def resized(picture: Picture, *, width: int, height: int) -> Image.Image:
    """Return `picture` resized to `width` and `height`, px, without ringing beside black."""
    size, source = (width, height), Image.fromarray(picture)
    smaller = width * height < picture.shape[0] * picture.shape[1]
    method = Image.Resampling.HAMMING if smaller else Image.Resampling.BICUBIC
    return source.resize(size, method)
