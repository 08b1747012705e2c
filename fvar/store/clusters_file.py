"""The clusters of a run on disk: ``clusters.h5``, and the ``clusters.csv`` derived from it.

Layout of ``clusters.h5``: attributes ``format``, ``version``, ``num_videos``; a group a video,
``/videos/<number, 8 digits>``, in the order of the source CSV. Its attributes are ``id``, ``label``,
``predicted``, ``num_bits`` and, where the video file claims a rate, ``fps``; its datasets ``boundaries``
(K + 1) int64, ``assignment`` (T) int32, ``sizes`` (K) int64, ``step_distances`` (T - 1) int64 and
``pts_seconds`` (T) float64.
"""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from fvar.errors import InputError, ManifestError
from fvar.store.files import atomic_open
from fvar.store.hdf5 import atomic_hdf5
from fvar.store.video_clusters import VideoClusters

FORMAT = "fvar.clusters"
VERSION = 1
CSV_COLUMNS = (
    "id",
    "cluster",
    "start_frame",
    "stop_frame",
    "start_seconds",
    "stop_seconds",
    "num_frames",
)

_FIX = "restore it, or rerun `fvar inspect-clusters` with --overwrite"
_DTYPES = {
    "boundaries": "<i8",
    "assignment": "<i4",
    "sizes": "<i8",
    "step_distances": "<i8",
    "pts_seconds": "<f8",
}
_STORED_AS: dict[type, type] = {int: np.integer, float: np.floating, str: str}
_Value = TypeVar("_Value", int, float, str)


def write_clusters(path: Path, videos: Iterable[VideoClusters]) -> None:
    """Write `videos` to the HDF5 file `path`, which appears when it is complete.

    Args:
        path: The file, ``clusters.h5``.
        videos: Taken one at a time, so one video is in memory.

    Raises:
        StoppedError: The disk is full; `path` is as it was before.
    """
    with atomic_hdf5(path) as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        group = file.create_group("videos")
        num_videos = 0
        for num_videos, video in enumerate(videos, start=1):
            _write_video(group.create_group(f"{num_videos - 1:08d}"), video)
        file.attrs["num_videos"] = num_videos


def _write_video(group: h5py.Group, video: VideoClusters) -> None:
    for name in ("id", "label", "predicted", "num_bits"):
        group.attrs[name] = getattr(video, name)
    if video.fps is not None:
        group.attrs["fps"] = video.fps
    for name, dtype in _DTYPES.items():
        group.create_dataset(name, data=getattr(video, name), dtype=dtype)


def read_clusters(path: Path) -> Iterator[VideoClusters]:
    """Yield the videos of the HDF5 file `path` in order, one in memory at a time.

    Raises:
        ManifestError: It is not a file that `write_clusters` wrote, whole; the message names the group.
    """
    with _open(path) as file:
        for number in range(_attribute(path, file, "num_videos", int)):
            name = f"videos/{number:08d}"
            yield _read_video(path, _child(path, file, name, h5py.Group))


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        raise ManifestError(path, f"is not a readable HDF5 file ({error})", fix=_FIX) from error
    with file:
        found = _attribute(path, file, "format", str), _attribute(path, file, "version", int)
        if found != (FORMAT, VERSION):
            raise ManifestError(
                path,
                f"has format {found[0]!r:.40} version {found[1]}, must be {FORMAT!r} version {VERSION}",
                fix="read it with the fvar that wrote it",
            )
        yield file


def _read_video(path: Path, group: h5py.Group) -> VideoClusters:
    arrays = {name: _array(path, group, name) for name in _DTYPES}
    try:
        video = VideoClusters(
            id=_attribute(path, group, "id", str),
            label=_attribute(path, group, "label", str),
            predicted=_attribute(path, group, "predicted", str),
            starts=arrays["boundaries"][:-1],
            stops=arrays["boundaries"][1:],
            step_distances=arrays["step_distances"],
            num_bits=_attribute(path, group, "num_bits", int),
            pts_seconds=arrays["pts_seconds"],
            fps=_attribute(path, group, "fps", float) if "fps" in group.attrs else None,
        )
    except ManifestError:
        raise
    except InputError as error:
        raise ManifestError(f"{path}: {group.name}", error.problem, fix=_FIX) from None
    for name in ("assignment", "sizes"):
        if not np.array_equal(arrays[name], getattr(video, name)):
            raise ManifestError(f"{path}: {group.name}", f"{name} contradicts boundaries", fix=_FIX)
    return video


def _child(path: Path, parent: h5py.Group, name: str, kind: type[Any]) -> Any:
    """Open a member that lies in this very file: no link is followed out of it."""
    where = f"{path}: {parent.name.rstrip('/')}/{name}"
    link = parent.get(name, getlink=True) if name in parent else None
    found = parent[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, kind):
        problem = "is missing" if link is None else f"must be a {kind.__name__} in the file itself"
        raise ManifestError(where, problem, fix=_FIX)
    return found


def _array(path: Path, group: h5py.Group, name: str) -> npt.NDArray[Any]:
    """Read a dataset whose numbers are all stored here: a claimed size takes no memory."""
    dataset = _child(path, group, name, h5py.Dataset)
    where, wanted = f"{path}: {dataset.name}", np.dtype(_DTYPES[name])
    if dataset.dtype != wanted or dataset.ndim != 1:
        found = f"{dataset.dtype}{list(dataset.shape or ())}"
        raise ManifestError(where, f"is {found}, must be {wanted}[:]", fix=_FIX)
    # Written contiguous: what is chunked, virtual or external stores another number of bytes, or elsewhere.
    if dataset.external or dataset.chunks or dataset.id.get_storage_size() != dataset.nbytes:
        raise ManifestError(
            where, f"does not store the {dataset.nbytes} bytes it claims in the file", fix=_FIX
        )
    return np.asarray(dataset[:])


def _attribute(path: Path, owner: h5py.Group | h5py.File, name: str, kind: type[_Value]) -> _Value:
    value: Any = owner.attrs.get(name)
    is_known = isinstance(value, _STORED_AS[kind])
    if not is_known:
        raise ManifestError(
            f"{path}: {owner.name}",
            f"attribute {name} is {value!r:.60}, must be of type {kind.__name__}",
            fix=_FIX,
        )
    return kind(value)


def write_clusters_csv(path: Path, clusters: Path) -> None:
    """Write one row a run of every partition in the HDF5 file `clusters` to the CSV file `path`.

    Frames are counted from 0; intervals are [start, stop), in frames and in seconds. Seconds are written
    with as many digits as a float64 needs, so reading them gives the same numbers.

    Raises:
        ManifestError: `clusters` is not a file that `write_clusters` wrote.
        StoppedError: The disk is full.
    """
    with atomic_open(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for video in read_clusters(clusters):
            writer.writerows(_rows(video))


def _rows(video: VideoClusters) -> Iterator[tuple[object, ...]]:
    columns = (video.starts, video.stops, video.start_seconds, video.stop_seconds, video.sizes)
    for cluster, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        yield (video.id, cluster, *row)
