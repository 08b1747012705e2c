"""Inspection: which frames of each video a trained recogniser averages, as tables, pictures and a page."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fvar.config import InspectConfig
from fvar.errors import ConfigError
from fvar.model.recognizer import Inference
from fvar.report.filmstrip import THUMBNAIL_PX, write_filmstrip
from fvar.report.page import write_page
from fvar.report.thumbnails import decode_thumbnail
from fvar.reporting import Progress, Reporter
from fvar.store.clusters_file import read_clusters, write_clusters, write_clusters_csv
from fvar.store.encoded_video import EncodedVideo
from fvar.store.files import remove_outputs
from fvar.store.manifest import (
    ClustersManifest,
    ClustersSummary,
    VideoEntry,
    check_out,
    write_manifest,
)
from fvar.store.provenance import input_file, output_file, tool_versions
from fvar.store.video_clusters import VideoClusters
from fvar.training.distributed import Team, team
from fvar.training.inputs import report_thinning
from fvar.training.trained_run import Trained, open_training

H5, CSV, PAGE, FILMSTRIPS = "clusters.h5", "clusters.csv", "index.html", "filmstrips"

EXPLANATIONS = {  # of every clustering that can be inspected: how it cuts a video
    "cumulative": (
        "The video is cut wherever its cumulative change has grown by another 1/k of the total: "
        "the dots on the line rise in about equal steps, and busy moments get short clusters."
    ),
    "slope": "The video is cut at its k-1 largest steps: a boundary stands at each of the highest bars.",
    "even": "The video is cut into clusters of equal length, whatever it shows.",
    "random": "The video is cut at random places, for comparison with the other clusterings.",
}

_PACKAGES = (
    "torch",
    "torchvision",
    "torchcodec",
    "numpy",
    "h5py",
    "matplotlib",
    "pillow",
    "jinja2",
)


def inspect_clusters(
    train: Path,
    out_dir: Path,
    config: InspectConfig,
    reporter: Reporter,
    *,
    frames: Path | None = None,
    overwrite: bool = False,
) -> ClustersManifest:
    """Show how a training cuts the videos of a split. The main process does it alone.

    Args:
        train: Folder or manifest that `fvar train` wrote.
        out_dir: Gets the tables, the filmstrips, the page and, last, the manifest.
        config: Settings.
        reporter: Hears what happens.
        frames: Another extraction than the one trained on.
        overwrite: Replace a complete inspection in `out_dir`.

    Raises:
        InputError: The input or a setting is wrong, or the training has no clusters; nothing was written.
        StoppedError: The disk is full.
    """
    with team(config.device) as members:
        members.on_main(lambda: check_out(out_dir, ClustersManifest, overwrite=overwrite))
        trained = open_training(
            train,
            split=config.split,
            checkpoint=config.checkpoint,
            frames=frames,
            team=members,
            allow_partial=config.allow_partial,
        )
        _check_has_clusters(trained, train)
        report_thinning(trained.thinning, reporter)
        return members.on_main(lambda: _inspect(trained, out_dir, config, reporter, members))


def _check_has_clusters(trained: Trained, train: Path) -> None:
    if trained.config.clustering not in EXPLANATIONS:
        raise ConfigError(
            train,
            f"was trained with --clustering {trained.config.clustering}, which makes no clusters",
            fix=f"inspect a training with one of: {', '.join(EXPLANATIONS)}",
        )


def _spread(videos: list[VideoEntry], limit: int | None) -> list[VideoEntry]:
    """Take `limit` videos evenly over the split: sources are often sorted by class."""
    count = len(videos) if limit is None else min(limit, len(videos))
    return [videos[place * len(videos) // count] for place in range(count)]


def _inspect(
    trained: Trained, out_dir: Path, config: InspectConfig, reporter: Reporter, members: Team
) -> ClustersManifest:
    entries = _spread(trained.videos, config.limit)
    names = [filmstrip_name(number, entry.id) for number, entry in enumerate(entries)]
    old = (out_dir / FILMSTRIPS).glob("[0-9]*-*.png")
    remove_outputs(out_dir, [H5, CSV, PAGE, *(f"{FILMSTRIPS}/{path.name}" for path in old)])
    inferred = trained.infer(entries, team=members, workers=config.workers)
    with reporter.progress(
        f"inspect {config.split}", total=len(entries), unit="videos"
    ) as progress:
        paths = [out_dir / name for name in names]
        write_clusters(out_dir / H5, _draw_each(inferred, paths, trained.classes, progress))
    # What follows is made from the file just written, so that table, page and file agree.
    write_clusters_csv(out_dir / CSV, out_dir / H5)
    videos = list(read_clusters(out_dir / H5))
    write_page(
        out_dir / PAGE,
        videos,
        paths,
        explanation=EXPLANATIONS[trained.config.clustering],
        settings=_settings(trained, config),
        num_available=len(trained.videos),
    )
    return _finish(trained, videos, config, out_dir, outputs=[H5, CSV, PAGE, *names])


def filmstrip_name(number: int, video_id: str) -> str:
    """Return the path of a video's picture below the output folder: safe and distinct whatever the id is."""
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", video_id).strip("-")[:60]
    return f"{FILMSTRIPS}/{number:05d}-{slug or 'video'}.png"


def _draw_each(
    inferred: Iterator[tuple[VideoEntry, EncodedVideo, Inference]],
    paths: list[Path],
    classes: list[str],
    progress: Progress,
) -> Iterator[VideoClusters]:
    """Yield the clusters of each video once its filmstrip is written."""
    for path, (entry, encoded, inference) in zip(paths, inferred, strict=True):
        clusters = VideoClusters(
            id=entry.id,
            label=entry.label,
            predicted=classes[int(inference.logits.argmax())],
            boundaries=np.append(inference.starts, inference.stops[-1]),
            step_distances=inference.step_distances,
            num_bits=inference.num_bits,
            pts_seconds=encoded.pts_seconds,
            fps=encoded.fps,
        )
        _draw(path, clusters, encoded)
        progress.advance(note=entry.id)
        yield clusters


def _draw(path: Path, clusters: VideoClusters, encoded: EncodedVideo) -> None:
    write_filmstrip(
        path,
        clusters,
        lambda frame: decode_thumbnail(encoded.frame(frame), side_px=THUMBNAIL_PX),
    )


def _settings(trained: Trained, config: InspectConfig) -> dict[str, str]:
    settings = trained.config
    return {
        "clustering": f"{settings.clustering}, k = {settings.clusters}",
        "network": f"{settings.backbone}, cut after stage {settings.stage}",
        "split": config.split,
        "checkpoint": trained.checkpoint_name,
    }


def _finish(
    trained: Trained,
    videos: list[VideoClusters],
    config: InspectConfig,
    out_dir: Path,
    *,
    outputs: list[str],
) -> ClustersManifest:
    """Write the manifest that completes the folder."""
    manifest = ClustersManifest(
        versions=tool_versions(_PACKAGES),
        classes=trained.classes,
        inputs=[input_file(out_dir, path) for path in trained.inputs],
        outputs=[output_file(out_dir, name) for name in outputs],
        config=config,
        summary=ClustersSummary(
            num_videos=len(videos),
            available=len(trained.videos),
            right=sum(video.is_right for video in videos),
            frames=sum(video.num_frames for video in videos),
            num_clusters=sum(video.num_clusters for video in videos),
            clustering=trained.config.clustering,
            clusters=trained.config.clusters,
            split=config.split,
            checkpoint=trained.checkpoint_name,
        ),
    )
    write_manifest(out_dir, manifest)
    return manifest
