"""Whether a frame store is what its manifest says: every shard, and every picture of every video.

Pillow decodes the pictures: verifying a store needs no torch, and a process starts in a fraction of a second.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fvar.errors import FrameStoreError, in_brief
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import REMAKE_SHARD, FrameStore
from fvar.store.manifest import VideoEntry

_UNDECODABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # of Pillow


def shard_faults(folder: Path, shard: str, *, num_videos: int) -> Iterator[FrameStoreError]:
    """Yield an error if a shard does not hold `num_videos` videos.

    Raises:
        FrameStoreError: It cannot be read.
    """
    with FrameStore(folder) as store:
        found = store.num_videos(shard)
    if found != num_videos:
        problem = f"holds {found} videos, the manifest lists {num_videos} in it"
        yield FrameStoreError(folder / shard, problem, fix=REMAKE_SHARD)


def video_faults(folder: Path, shard: str, entry: VideoEntry) -> Iterator[FrameStoreError]:
    """Read a video, decode all its pictures and yield each difference from `entry`.

    Raises:
        FrameStoreError: It cannot be read, or its bytes are not those that were written.
    """
    # A new store each time: a shard that was replaced between two calls is opened again.
    with FrameStore(folder) as store:
        video = store.read(shard, entry.id)
    for problem in (*_figure_problems(video, entry), *_picture_problems(video)):
        yield FrameStoreError(f"{folder / shard}: video {entry.id!r}", problem, fix=REMAKE_SHARD)


def _figure_problems(video: EncodedVideo, entry: VideoEntry) -> Iterator[str]:
    for name in ("num_frames", "width", "height", "fps", "num_bytes"):
        found, listed = getattr(video, name), getattr(entry, name)
        if found != listed:
            yield f"{name} is {found}, the manifest says {listed}"


def _picture_problems(video: EncodedVideo) -> Iterator[str]:
    """Yield at most one problem: that of the first bad picture, with the number of other bad pictures."""
    size = (video.width, video.height)
    problems = [
        f"frame {index} {problem}"
        for index in range(video.num_frames)
        if (problem := _picture_problem(video.frame(index), size))
    ]
    if problems:
        others = f" (and {len(problems) - 1} other frames)" if len(problems) > 1 else ""
        yield problems[0] + others


def _picture_problem(data: npt.NDArray[np.uint8], size: tuple[int, int]) -> str | None:
    try:
        with Image.open(io.BytesIO(data.tobytes()), formats=("JPEG",)) as picture:
            if picture.size != size:  # by its header, so that a huge claimed size takes no memory
                found = "{}x{}".format(*picture.size)
                return f"is {found} px, the store says {size[0]}x{size[1]}"
            if picture.mode != "RGB":
                return f"decodes to mode {picture.mode}, must be RGB"
            picture.load()
    except _UNDECODABLE as error:
        return f"cannot be decoded ({in_brief(error)})"
    return None
