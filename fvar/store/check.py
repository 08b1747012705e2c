"""Whether a frame store is what its manifest says: figures, shards, every picture of every video.

Pictures are decoded by Pillow: whoever verifies a store need not have torch, and a process that only decodes
starts in a fraction of a second.
"""

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fvar.errors import FrameStoreError, ManifestError, in_brief
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import REDO, FrameStore
from fvar.store.manifest import FramesManifest, VideoEntry

_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises


def summary_faults(path: Path, manifest: FramesManifest) -> Iterator[ManifestError]:
    """Yield what contradicts itself within the manifest at `path`."""
    status = Counter(video.status for video in manifest.videos)
    counted = {
        "num_videos": len(manifest.videos),
        "ok": status["ok"],
        "partial": status["partial"],
        "failed": status["failed"],
        "frames": sum(video.num_frames for video in manifest.videos),
        "num_bytes": sum(video.num_bytes for video in manifest.videos),
    }
    fix = f"delete it and rerun `fvar extract` with --out {path.parent}, which keeps whole shards"
    for name, number in counted.items():
        said = getattr(manifest.summary, name)
        if said != number:
            yield ManifestError(
                path, f"summary.{name} is {said}, its list `videos` has {number}", fix=fix
            )
    listed = {output.path for output in manifest.outputs}
    for video in manifest.videos:
        if (video.shard is None) != (video.status == "failed"):
            problem = f"video {video.id!r} is {video.status} and has shard {video.shard!r}"
            yield ManifestError(path, problem, fix=fix)
        elif video.shard is not None and video.shard not in listed:
            problem = f"video {video.id!r} is in {video.shard}, which `outputs` does not list"
            yield ManifestError(path, problem, fix=fix)


def shard_faults(folder: Path, shard: str, *, num_videos: int) -> Iterator[FrameStoreError]:
    """Yield what is wrong with a shard as a file of `num_videos` videos."""
    with FrameStore(folder) as store:
        found = store.num_videos(shard)
    if found != num_videos:
        problem = f"holds {found} videos, the manifest lists {num_videos} in it"
        yield FrameStoreError(folder / shard, problem, fix=REDO)


def video_faults(folder: Path, shard: str, entry: VideoEntry) -> Iterator[FrameStoreError]:
    """Read a video, decode all its pictures and yield what is not as `entry` says.

    Raises:
        FrameStoreError: It cannot be read, or its bytes are not those that were written.
    """
    with FrameStore(folder) as store:  # of its own: a shard put back between two calls is read anew
        video = store.read(shard, entry.id)
    for problem in (*_figure_problems(video, entry), *_picture_problems(video)):
        yield FrameStoreError(f"{folder / shard}: video {entry.id!r}", problem, fix=REDO)


def _figure_problems(video: EncodedVideo, entry: VideoEntry) -> Iterator[str]:
    figures = {
        "num_frames": video.num_frames,
        "width": video.width,
        "height": video.height,
        "fps": video.fps,
        "num_bytes": len(video.jpeg),
    }
    for name, found in figures.items():
        said = getattr(entry, name)
        if found != said:
            yield f"{name} is {found}, the manifest says {said}"


def _picture_problems(video: EncodedVideo) -> Iterator[str]:
    """Yield at most one problem: of the first bad picture, and how many others there are."""
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
            if picture.size != size:  # by its header: a claimed size takes no memory
                found = "{}x{}".format(*picture.size)
                return f"is {found} px, the store says {size[0]}x{size[1]}"
            if picture.mode != "RGB":
                return f"decodes to mode {picture.mode}, must be RGB"
            picture.load()
    except _BROKEN as error:
        return f"cannot be decoded ({in_brief(error)})"
    return None
