"""Readers of what the stages wrote, as numpy arrays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt

from fvar.errors import ManifestError
from fvar.store.clusters import clusters_file
from fvar.store.clusters.video_clusters import VideoClusters
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import FrameStore
from fvar.store.manifest import ClustersManifest, FramesManifest, PredictionsManifest
from fvar.store.manifest_file import locate, read_manifest
from fvar.store.predictions_file import read_predictions_csv

_PathLike = str | Path


def read_predictions(run: _PathLike) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of an evaluation's predictions: id, label, predicted, and score:NAME of each class.

    ``pandas.DataFrame(fvar.read_predictions(run))`` makes a table of them.

    Raises:
        ManifestError: `run` is no folder that `fvar eval` wrote.
    """
    path = locate(Path(run))
    read_manifest(path, PredictionsManifest)
    return dict(read_predictions_csv(path.parent / "predictions.csv").columns)


def read_clusters(run: _PathLike) -> Iterator[VideoClusters]:
    """Yield the clusters of each inspected video: boundaries, step distances and times as arrays.

    Raises:
        ManifestError: `run` is no folder that `fvar inspect-clusters` wrote.
    """
    path = locate(Path(run))
    read_manifest(path, ClustersManifest)
    return clusters_file.read_clusters(path.parent / "clusters.h5")


def read_frames(run: _PathLike, video_id: str) -> EncodedVideo:
    """Return the stored frames of a video: their times, and ``.frame(t)``, the JPEG bytes of frame t.

    Args:
        run: Folder that `fvar extract` wrote.
        video_id: As in the source CSV.

    Raises:
        ManifestError: There is no such folder or video.
        FrameStoreError: Its frames are damaged.
    """
    path = locate(Path(run))
    manifest = read_manifest(path, FramesManifest)
    shard = next((v.shard for v in manifest.videos if v.id == video_id and v.shard), None)
    if shard is None:
        raise ManifestError(
            f"video {video_id!r:.80}", f"has no frames in {path.parent}", fix="give another id"
        )
    return FrameStore(path.parent).read(shard, video_id)
