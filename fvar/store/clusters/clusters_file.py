"""The clusters of all inspected videos on disk: ``clusters.h5``, and the tables derived from it.

``clusters.h5`` has the attributes ``format``, ``version``, ``num_videos`` and one group per video,
``/videos/<number, 8 digits>``, in the order of the source CSV. ``data_manifests/README.md`` specifies it.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np

from fvar.errors import ManifestError
from fvar.store.clusters.video_clusters import VideoClusters
from fvar.store.files import atomic_open
from fvar.store.hdf5 import Hdf5Format, atomic_hdf5, new_group

CSV_COLUMNS = (
    "id",
    "cluster",
    "start_frame",
    "stop_frame",
    "start_seconds",
    "stop_seconds",
    "num_frames",
)
FRAMES_COLUMNS = ("id", "frame", "seconds", "cluster", "step_distance", "label", "predicted")

_FIX = "restore it, or rerun `fvar inspect-clusters` with --overwrite"
_CLUSTERS = Hdf5Format("fvar.clusters", 1, ManifestError, fix=_FIX, text="O")
_DTYPES = {
    "boundaries": "<i8",
    "assignment": "<i4",
    "sizes": "<i8",
    "step_distances": "<i8",
    "pts_seconds": "<f8",
}


def write_clusters(path: Path, videos: Iterable[VideoClusters]) -> None:
    """Write `videos` to the HDF5 file `path`, which appears when it is complete.

    Args:
        path: The file, ``clusters.h5``.
        videos: Taken one at a time, so one video is in memory.

    Raises:
        StoppedError: The disk is full; `path` is as it was before.
    """
    with atomic_hdf5(path) as file:
        file.attrs["format"] = _CLUSTERS.name
        file.attrs["version"] = _CLUSTERS.version
        parent = file.create_group("videos")
        num_videos = 0
        for num_videos, video in enumerate(videos, start=1):
            _write_video(parent, f"{num_videos - 1:08d}", video)
        file.attrs["num_videos"] = num_videos


def _write_video(parent: h5py.Group, name: str, video: VideoClusters) -> None:
    arrays = {name: np.asarray(getattr(video, name), dtype) for name, dtype in _DTYPES.items()}
    group = new_group(parent, name, num_bytes=sum(array.nbytes for array in arrays.values()))
    for attribute in ("id", "label", "predicted", "num_bits"):
        group.attrs[attribute] = getattr(video, attribute)
    if video.fps is not None:
        group.attrs["fps"] = video.fps
    if video.logits is not None:
        arrays["logits"] = np.asarray(video.logits, "<f4")
    for dataset, array in arrays.items():
        group.create_dataset(dataset, data=array)


def read_clusters(path: Path) -> Iterator[VideoClusters]:
    """Yield the videos of the HDF5 file `path` in order, one in memory at a time.

    Raises:
        ManifestError: It is not a whole file written by `write_clusters`; the message names the group.
    """
    with _CLUSTERS.open(path) as file:
        with _CLUSTERS.refusing(path):
            parent = _CLUSTERS.child(file, "videos", h5py.Group)
            num_videos = _CLUSTERS.attribute(file, "num_videos", int)
        for number in range(num_videos):
            name = f"{number:08d}"
            with _CLUSTERS.refusing(f"{path}: /videos/{name}"):
                video = _read_video(_CLUSTERS.child(parent, name, h5py.Group))
            yield video


def _read_video(group: h5py.Group) -> VideoClusters:
    arrays = {name: _CLUSTERS.array(group, name, dtype) for name, dtype in _DTYPES.items()}
    video = VideoClusters(
        id=_CLUSTERS.attribute(group, "id", str),
        label=_CLUSTERS.attribute(group, "label", str),
        predicted=_CLUSTERS.attribute(group, "predicted", str),
        boundaries=arrays["boundaries"],
        step_distances=arrays["step_distances"],
        num_bits=_CLUSTERS.attribute(group, "num_bits", int),
        pts_seconds=arrays["pts_seconds"],
        fps=_CLUSTERS.attribute(group, "fps", float) if "fps" in group.attrs else None,
        logits=_CLUSTERS.array(group, "logits", "<f4", ndim=2) if "logits" in group else None,
    )
    for name in ("assignment", "sizes"):
        if not np.array_equal(arrays[name], getattr(video, name)):
            raise ManifestError(name, f"{name} contradicts boundaries", fix=_FIX)
    return video


def write_clusters_csv(path: Path, clusters: Path) -> None:
    """Write one row per cluster of the HDF5 file `clusters` to the CSV file `path`.

    Frames are counted from 0; intervals are [start, stop), in frames and in seconds. Seconds are written
    with as many digits as a float64 needs, so reading them gives the same numbers.

    Raises:
        ManifestError: `clusters` was not written by `write_clusters`.
        StoppedError: The disk is full.
    """
    with atomic_open(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for video in read_clusters(clusters):
            writer.writerows(_rows(video))


def write_frames_csv(path: Path, clusters: Path) -> None:
    """Write one row per frame of the HDF5 file `clusters` to the CSV file `path`.

    ``step_distance`` is the number of bits that change to the next frame; that of the last frame is empty.

    Raises:
        ManifestError: `clusters` was not written by `write_clusters`.
        StoppedError: The disk is full.
    """
    with atomic_open(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FRAMES_COLUMNS)
        for video in read_clusters(clusters):
            times, assignment = video.pts_seconds.tolist(), video.assignment.tolist()
            columns = zip(times, assignment, [*video.step_distances.tolist(), ""], strict=True)
            writer.writerows(
                (video.id, frame, *row, video.label, video.predicted)
                for frame, row in enumerate(columns)
            )


def _rows(video: VideoClusters) -> Iterator[tuple[object, ...]]:
    columns = (video.starts, video.stops, video.start_seconds, video.stop_seconds, video.sizes)
    for cluster, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        yield (video.id, cluster, *row)
