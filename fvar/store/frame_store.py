"""The frame store: every frame of a video as JPEG in HDF5 shards; only this file knows their layout.

A shard has the attributes ``format`` and ``version`` and one group per video, named by the escaped id, with
three contiguous datasets (``jpeg``, ``offsets``, ``pts_seconds``) and attributes.
``data_manifests/README.md`` specifies it.
"""

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import NamedTuple, Self
from urllib.parse import quote

import h5py
import numpy as np

from fvar.errors import FrameStoreError
from fvar.store.encoded_video import ARRAYS, EncodedVideo
from fvar.store.hdf5 import Hdf5Format, atomic_hdf5, new_group

VERSION = 1
REMAKE_SHARD = (  # what the user does about a damaged shard
    "it is damaged: delete it and manifest.json beside shards/, then rerun fvar extract, "
    "which makes this shard alone again"
)

_SHARD = Hdf5Format("fvar.shard", VERSION, FrameStoreError, fix=REMAKE_SHARD)
# HDF5 files that one store keeps open: each takes a descriptor and about 1 MB of caches.
_MAX_OPEN = 8


def write_shard(path: Path, videos: Iterable[tuple[str, EncodedVideo]]) -> None:
    """Write a shard that appears at `path` only when it is complete and on the disk.

    Args:
        path: The file, ``shards/shard-00000.h5``.
        videos: Pairs of id and video; taken one at a time, so one video is in memory.

    Raises:
        StoppedError: The disk is full; `path` is as it was before.
        FrameStoreError: An id comes twice.
    """
    with atomic_hdf5(path) as file:
        _set_text(file, "format", _SHARD.name)
        file.attrs["version"] = VERSION
        for video_id, video in videos:
            if _group_name(video_id) in file:
                raise FrameStoreError(
                    path, f"id {video_id!r} comes twice", fix="give each video an id of its own"
                )
            _write_video(file, video_id, video)


def _write_video(file: h5py.File, video_id: str, video: EncodedVideo) -> None:
    arrays = {name: np.asarray(getattr(video, name), dtype) for name, dtype in ARRAYS.items()}
    num_bytes = sum(array.nbytes for array in arrays.values())
    group = new_group(file, _group_name(video_id), num_bytes=num_bytes)
    for name, array in arrays.items():
        group.create_dataset(name, data=array)
    _set_text(group, "id", video_id)
    group.attrs["width"] = video.width
    group.attrs["height"] = video.height
    if video.fps is not None:
        group.attrs["fps"] = video.fps
    group.attrs["rotation"] = video.rotation
    _set_text(group, "checksum", video.checksum())
    _set_text(group, "source_sha256", video.source_sha256)
    _set_text(group, "ffmpeg_version", video.ffmpeg_version)


def _set_text(owner: h5py.Group, name: str, text: str) -> None:
    """Store a string in place; HDF5 keeps strings of variable length in a heap that has no checksum."""
    data = text.encode()
    owner.attrs.create(name, data, dtype=h5py.string_dtype("utf-8", max(1, len(data))))


def _group_name(video_id: str) -> str:
    """Escape what HDF5 reads as a path: the slash, and the dot, which alone means the group itself."""
    return quote(video_id, safe=" ").replace(".", "%2E")


class VideoHeader(NamedTuple):
    """What a shard says about a video beside its frames.

    Attributes:
        height: Of every picture, px.
        width: Of every picture, px.
        checksum: SHA-256 of the frames.
    """

    height: int
    width: int
    checksum: str


class FrameStore:
    """Reads videos from the shards of one extraction.

    Shards are opened when they are first read, and the last few stay open. Threads may share a store: HDF5
    serves one at a time, as it always does, and they compute checksums in parallel. Each process makes its
    own store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: OrderedDict[str, h5py.File] = OrderedDict()
        # While one thread reads a file, no other thread may close it to open one more.
        self._lock = Lock()

    def read(self, shard: str, video_id: str) -> EncodedVideo:
        """Return all frames of a video, checked against its checksum.

        Args:
            shard: Path of the shard relative to the store's folder, as in the manifest.
            video_id: Id of the video, as in the source CSV.

        Raises:
            FrameStoreError: Names shard and video, what is wrong and what to do.
        """
        thing = f"{self.folder / shard}: video {video_id!r}"
        with self._lock:
            file = self._file(shard)
            with _SHARD.refusing(thing):
                group = _group(file, video_id)
                video, header = _read_video(group), _read_header(group)
        if video.checksum() != header.checksum:
            raise FrameStoreError(
                thing, "its bytes are not those written (checksum differs)", fix=REMAKE_SHARD
            )
        return video

    def header(self, shard: str, video_id: str) -> VideoHeader:
        """Return what is known about a video without reading its frames; errors as of `read`."""
        with self._lock:
            file = self._file(shard)
            with _SHARD.refusing(f"{self.folder / shard}: video {video_id!r}"):
                return _read_header(_group(file, video_id))

    def num_videos(self, shard: str) -> int:
        """Return how many videos a shard holds.

        Raises:
            FrameStoreError: Names the shard, what is wrong and what to do.
        """
        with self._lock:
            file = self._file(shard)
            with _SHARD.refusing(self.folder / shard):
                return len(file)

    def _file(self, shard: str) -> h5py.File:
        if shard not in self._files:
            self._files[shard] = _open(self.folder, shard)
            if len(self._files) > _MAX_OPEN:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(shard)
        return self._files[shard]

    def close(self) -> None:
        """Close all files; reading opens them again."""
        with self._lock:
            while self._files:
                self._files.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(folder: Path, shard: str) -> h5py.File:
    path = folder / shard
    if PurePosixPath(shard).is_absolute() or ".." in PurePosixPath(shard).parts:
        raise FrameStoreError(path, "lies outside the store", fix="use the path in the manifest")
    if not path.is_file():
        raise FrameStoreError(
            path, "does not exist", fix="restore it, or rerun fvar extract with --overwrite"
        )
    return _SHARD.open(path)


def _group(file: h5py.File, video_id: str) -> h5py.Group:
    group = _SHARD.child(file, _group_name(video_id), h5py.Group)
    if (found := _SHARD.attribute(group, "id", str)) != video_id:
        raise FrameStoreError("video", f"its group is that of {found!r:.80}", fix=REMAKE_SHARD)
    return group


def _read_header(group: h5py.Group) -> VideoHeader:
    return VideoHeader(
        height=_SHARD.attribute(group, "height", int),
        width=_SHARD.attribute(group, "width", int),
        checksum=_SHARD.attribute(group, "checksum", str),
    )


def _read_video(group: h5py.Group) -> EncodedVideo:
    return EncodedVideo(
        **{name: _SHARD.array(group, name, dtype) for name, dtype in ARRAYS.items()},
        width=_SHARD.attribute(group, "width", int),
        height=_SHARD.attribute(group, "height", int),
        fps=_SHARD.attribute(group, "fps", float) if "fps" in group.attrs else None,
        rotation=_SHARD.attribute(group, "rotation", int),
        source_sha256=_SHARD.attribute(group, "source_sha256", str),
        ffmpeg_version=_SHARD.attribute(group, "ffmpeg_version", str),
    )
