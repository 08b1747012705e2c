"""Whether the tables of a finished run hold as much as its manifest says: rows, videos, frames."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from fvar.config import Split
from fvar.errors import ManifestError, in_brief
from fvar.store.clusters_file import read_clusters
from fvar.store.manifest import (
    CheckpointManifest,
    ClustersManifest,
    FramesManifest,
    PredictionsManifest,
    StageManifest,
    VideoEntry,
    rerun,
)
from fvar.store.video_clusters import VideoClusters

_Row = dict[str, str]
_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError)  # what h5py raises on it
_TOLERANCE = 1e-6  # of a share: the summary's may be float32


def recount(
    folder: Path, manifest: StageManifest, frames: FramesManifest | None
) -> Iterator[ManifestError]:
    """Count again what the tables in `folder` hold, and yield what its manifest says otherwise.

    A table that is not there is passed over: the manifest lists it by its hash.

    Args:
        folder: Of a training, an evaluation or an inspection.
        manifest: Its manifest.
        frames: The manifest of the frames it worked on; None: it is not there, nothing is compared with it.
    """
    fix = rerun(manifest, folder)
    try:
        for name, problem in _problems(folder, manifest, frames):
            yield ManifestError(folder / name, problem, fix=fix)
    except ManifestError as error:  # a table that cannot be read
        yield error


def _problems(
    folder: Path, manifest: StageManifest, frames: FramesManifest | None
) -> Iterator[tuple[str, str]]:
    """Yield pairs of a file's name and what is wrong with it."""
    if isinstance(manifest, CheckpointManifest):
        yield from _training(folder, manifest, frames)
    elif isinstance(manifest, PredictionsManifest):
        yield from _predictions(folder, manifest, frames)
    elif isinstance(manifest, ClustersManifest):
        yield from _clusters(folder, manifest, frames)


def _training(
    folder: Path, manifest: CheckpointManifest, frames: FramesManifest | None
) -> Iterator[tuple[str, str]]:
    summary = manifest.summary
    rows = _read_table(folder / "metrics.csv", manifest)
    if rows is not None:
        yield from _compare("metrics.csv", {"epochs": (len(rows), summary.epochs)})
    if frames is not None:
        videos = _of_split(frames, "train")
        num_frames = sum(video.num_frames for video in videos.values())
        counted = {
            "num_videos": (len(videos), summary.num_videos),
            "frames": (num_frames, summary.frames),
        }
        yield from _compare("manifest.json", counted)


def _predictions(
    folder: Path, manifest: PredictionsManifest, frames: FramesManifest | None
) -> Iterator[tuple[str, str]]:
    name, summary = "predictions.csv", manifest.summary
    rows = _read_table(folder / name, manifest)
    if rows is None:
        return
    counted = {
        "evaluated": (len(rows), summary.evaluated),
        "expected": (len(rows), summary.expected),
    }
    yield from _compare(name, counted)
    right = sum(row.get("label") == row.get("predicted") for row in rows)
    if rows and abs(right / len(rows) - summary.top1) > _TOLERANCE:
        yield (
            name,
            f"{right} of {len(rows)} rows are right, manifest.json says top1 {summary.top1:.6g}",
        )
    if frames is not None:
        ids, wanted = [row.get("id", "") for row in rows], list(_of_split(frames, summary.split))
        yield from _compare_ids(name, ids, wanted)


def _compare_ids(name: str, ids: list[str], wanted: list[str]) -> Iterator[tuple[str, str]]:
    if ids != wanted:
        pairs = zip([*ids, "(none)"], [*wanted, "(none)"], strict=False)
        row, (found, expected) = next(
            (n, pair) for n, pair in enumerate(pairs, 1) if len({*pair}) > 1
        )
        yield name, f"row {row} is video {found!r:.80}, the frames' split has {expected!r:.80}"


def _clusters(
    folder: Path, manifest: ClustersManifest, frames: FramesManifest | None
) -> Iterator[tuple[str, str]]:
    summary = manifest.summary
    if (folder / "clusters.h5").is_file():
        known = None if frames is None else _of_split(frames, summary.split)
        yield from _cluster_record(folder, manifest, known)
    rows = _read_table(folder / "clusters.csv", manifest)
    if rows is not None:
        cells = [row.get("num_frames", "") for row in rows]
        num_frames = sum(int(cell) for cell in cells if cell.isdecimal())
        counted = {
            "num_clusters": (len(rows), summary.num_clusters),
            "frames": (num_frames, summary.frames),
        }
        yield from _compare("clusters.csv", counted)


def _cluster_record(
    folder: Path, manifest: ClustersManifest, known: Mapping[str, VideoEntry] | None
) -> Iterator[tuple[str, str]]:
    name, summary = "clusters.h5", manifest.summary
    videos = frames = clusters = right = 0
    for video in _read_record(folder / name, manifest):
        videos += 1
        frames += video.num_frames
        clusters += video.num_clusters
        right += video.is_right
        entry = None if known is None else known.get(video.id)
        if known is not None and (entry is None or entry.num_frames != video.num_frames):
            said = f"{entry.num_frames} frames" if entry else "no such video in the split"
            yield name, f"video {video.id!r} has {video.num_frames} frames, the store {said}"
    counted = {
        "num_videos": (videos, summary.num_videos),
        "frames": (frames, summary.frames),
        "num_clusters": (clusters, summary.num_clusters),
        "right": (right, summary.right),
    }
    yield from _compare(name, counted)


def _read_record(path: Path, manifest: StageManifest) -> Iterator[VideoClusters]:
    """Yield the videos, one in memory at a time."""
    try:
        yield from read_clusters(path)
    except _DAMAGE as error:
        fix = rerun(manifest, path.parent)
        raise ManifestError(path, f"cannot be read ({in_brief(error)})", fix=fix) from error


def _compare(name: str, figures: Mapping[str, tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Yield the figures, each counted and said, that differ."""
    for figure, (counted, said) in figures.items():
        if counted != said:
            yield name, f"{figure} is {counted} by count, manifest.json says {said}"


def _of_split(frames: FramesManifest, split: Split) -> dict[str, VideoEntry]:
    return {video.id: video for video in frames.videos if video.split == split}


def _read_table(path: Path, manifest: StageManifest) -> list[_Row] | None:
    """Return the rows of a CSV that a stage wrote; None where it is not there."""
    if not path.is_file():
        return None
    fix = rerun(manifest, path.parent)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file, strict=True)
    except (OSError, ValueError, csv.Error) as error:  # ValueError: not UTF-8, or not even a header
        raise ManifestError(path, f"is not a readable table ({error})", fix=fix) from error
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            problem = f"row {number} has {len(row)} cells, the header {len(header)}"
            raise ManifestError(path, problem, fix=fix)
    return [dict(zip(header, row, strict=True)) for row in rows]
