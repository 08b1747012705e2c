"""The frame store: every frame of a video as JPEG in HDF5 shards; the only file that knows their layout.

A shard is ``format``, ``version`` and one group a video, named by its escaped id, with three contiguous
datasets (``jpeg``, ``offsets``, ``pts_seconds``) and attributes. ``data_manifests/README.md`` specifies it.
"""

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, Self, TypeVar
from urllib.parse import quote

import h5py
import numpy as np
import numpy.typing as npt

from fvar.errors import FrameStoreError
from fvar.store.encoded_video import ARRAYS, EncodedVideo
from fvar.store.hdf5 import atomic_hdf5, claim

__all__ = ["REDO", "EncodedVideo", "FrameStore", "write_shard"]

FORMAT = "fvar.shard"
VERSION = 1

REDO = (  # what the user does about a damaged shard
    "it is damaged: delete it and manifest.json beside shards/, then rerun fvar extract, "
    "which redoes this shard alone"
)
_MAX_OPEN = 8  # HDF5 files one process keeps open: each holds a descriptor and about 1 MB of caches

_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError)  # what h5py raises on it

_Value = TypeVar("_Value", int, float, str)


def write_shard(path: Path, videos: Iterable[tuple[str, EncodedVideo]]) -> None:
    """Write a shard that appears under `path` only when it is complete and on the disk.

    Args:
        path: The file, ``shards/shard-00000.h5``.
        videos: Pairs of id and video; taken one at a time, so one video is in memory.

    Raises:
        StoppedError: The disk is full; `path` is as it was before.
        FrameStoreError: An id comes twice.
    """
    with atomic_hdf5(path) as file:
        _set_text(file, "format", FORMAT)
        file.attrs["version"] = VERSION
        for video_id, video in videos:
            if _group_name(video_id) in file:
                raise FrameStoreError(
                    path, f"id {video_id!r} comes twice", fix="give each video an id of its own"
                )
            claim(file, sum(getattr(video, name).nbytes for name in ARRAYS))
            _write_video(file.create_group(_group_name(video_id)), video_id, video)


def _write_video(group: h5py.Group, video_id: str, video: EncodedVideo) -> None:
    for name, dtype in ARRAYS.items():
        group.create_dataset(name, data=np.asarray(getattr(video, name), dtype=dtype))
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
    """Store a string in place: one of variable length would lie in a heap that has no checksum."""
    data = text.encode()
    owner.attrs.create(name, data, dtype=h5py.string_dtype("utf-8", max(1, len(data))))


def _group_name(video_id: str) -> str:
    """Escape what HDF5 reads as a path: the slash, and the dot, which alone means the group itself."""
    return quote(video_id, safe=" ").replace(".", "%2E")


class FrameStore:
    """Reads videos from the shards of one extraction.

    Shards are opened when first read and the last few stay open. Threads share a store: HDF5 serves one at a
    time, as it always does; the bytes are checked side by side. Processes make a store each.
    """

    def __init__(self, folder: Path, *, max_open: int = _MAX_OPEN) -> None:
        self.folder = folder
        self._max_open = max_open
        self._files: OrderedDict[str, h5py.File] = OrderedDict()
        # A file is not closed to make room for another while a thread reads it.
        self._lock = Lock()

    def read(self, shard: str, video_id: str) -> EncodedVideo:
        """Return all frames of a video, checked against its checksum.

        Args:
            shard: Path of the shard relative to the store's folder, as the manifest has it.
            video_id: Id of the video, as the source CSV has it.

        Raises:
            FrameStoreError: Names shard and video, what is wrong and what to do.
        """
        thing = f"{self.folder / shard}: video {video_id!r}"
        with self._lock:
            file = self._file(shard)
            try:
                video, checksum = _read_video(file, video_id)
            except FrameStoreError as error:
                raise FrameStoreError(thing, error.problem, fix=REDO) from None
            except _DAMAGE as error:
                raise FrameStoreError(thing, f"cannot be read ({error})", fix=REDO) from error
        if video.checksum() != checksum:
            raise FrameStoreError(
                thing, "its bytes are not those that were written (checksum differs)", fix=REDO
            )
        return video

    def num_videos(self, shard: str) -> int:
        """Return how many videos a shard holds.

        Raises:
            FrameStoreError: Names the shard, what is wrong and what to do.
        """
        with self._lock:
            file = self._file(shard)
            try:
                return len(file)
            except _DAMAGE as error:
                path = self.folder / shard
                raise FrameStoreError(path, f"cannot be read ({error})", fix=REDO) from error

    def _file(self, shard: str) -> h5py.File:
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        file = _open(self.folder, shard)
        self._files[shard] = file
        if len(self._files) > self._max_open:
            self._files.popitem(last=False)[1].close()
        return file

    def close(self) -> None:
        """Close what is open; reading opens it again."""
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
    try:
        # Without locks: shards never change once they are there, and network file systems may refuse a lock.
        file = h5py.File(path, "r", locking=False)
        try:
            _check_format(file)
        except BaseException:
            file.close()
            raise
    except FrameStoreError as error:
        raise FrameStoreError(path, error.problem, fix=error.fix) from None
    except _DAMAGE as error:
        raise FrameStoreError(path, f"is not a whole HDF5 file ({error})", fix=REDO) from error
    return file


def _check_format(file: h5py.File) -> None:
    found = _attribute(file, "format", str), _attribute(file, "version", int)
    if found != (FORMAT, VERSION):
        raise FrameStoreError(
            "shard",
            f"has format {found[0]!r:.40} version {found[1]}, must be {FORMAT!r} version {VERSION}",
            fix="read it with the fvar that wrote it, or rerun fvar extract with --overwrite",
        )


def _read_video(file: h5py.File, video_id: str) -> tuple[EncodedVideo, str]:
    """Return the video and the checksum it was written with; the problem alone speaks in an error."""
    group = _child(file, _group_name(video_id), h5py.Group)
    if (found := _attribute(group, "id", str)) != video_id:
        raise _problem(f"its group is that of {found!r:.80}")
    video = EncodedVideo(
        **{name: _array(group, name) for name in ARRAYS},
        width=_attribute(group, "width", int),
        height=_attribute(group, "height", int),
        fps=_attribute(group, "fps", float) if "fps" in group.attrs else None,
        rotation=_attribute(group, "rotation", int),
        source_sha256=_attribute(group, "source_sha256", str),
        ffmpeg_version=_attribute(group, "ffmpeg_version", str),
    )
    return video, _attribute(group, "checksum", str)


def _child(parent: h5py.Group, name: str, kind: type[Any]) -> Any:
    """Open a member that lies in this very file: no link is followed, here or out of the file."""
    link = parent.get(name, getlink=True)
    if link is None:
        raise _problem(f"{name!r:.80} is missing")
    if not isinstance(link, h5py.HardLink):
        raise _problem(f"{name!r:.80} is a {type(link).__name__}, must be in the file itself")
    found = parent[name]
    if not isinstance(found, kind):
        raise _problem(f"{name!r:.80} is a {type(found).__name__}, must be a {kind.__name__}")
    return found


def _array(group: h5py.Group, name: str) -> npt.NDArray[Any]:
    """Read a dataset in one go, having made sure that its bytes are stored, here and as they are."""
    dataset = _child(group, name, h5py.Dataset)
    if dataset.dtype != np.dtype(ARRAYS[name]) or dataset.ndim != 1:
        raise _problem(
            f"{name} is {dataset.dtype}{list(dataset.shape or ())}, must be {np.dtype(ARRAYS[name])}[:]"
        )
    if dataset.chunks or dataset.is_virtual or dataset.external:
        raise _problem(f"{name} is chunked, virtual or external, must be contiguous")
    stored, start = dataset.id.get_storage_size(), dataset.id.get_offset()
    if start is None or stored != dataset.nbytes or start + stored > _file_size(group):
        raise _problem(f"{name} claims {dataset.nbytes} bytes, more than the file holds")
    values = np.empty(dataset.shape, dtype=dataset.dtype)
    dataset.read_direct(values)
    return values


def _file_size(member: h5py.Group) -> int:
    """Return the size in bytes of the file that `member` is in."""
    return int(member.file.id.get_filesize())


_KINDS = {
    int: "iu",
    float: "f",
    str: "S",
}  # of numpy; a string of variable length is not among them


def _attribute(owner: h5py.Group, name: str, kind: type[_Value]) -> _Value:
    if name not in owner.attrs:
        raise _problem(f"attribute {name} is missing")
    stored = owner.attrs.get_id(name)
    if stored.dtype.kind not in _KINDS[kind] or stored.shape != ():
        raise _problem(
            f"attribute {name} is {stored.dtype}{list(stored.shape)}, must be one {kind.__name__}"
        )
    value: Any = owner.attrs[name]
    return kind(value.decode() if isinstance(value, bytes) else value)


def _problem(text: str) -> FrameStoreError:
    return FrameStoreError("video", text, fix=REDO)
