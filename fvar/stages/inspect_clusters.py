"""Inspection: which frames of each video a trained recognizer averages, as tables, pictures and a page."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from fvar.config import InspectConfig
from fvar.errors import ConfigError, InputError, stopped_by
from fvar.loading.clip import EncodedClip
from fvar.loading.dataset import StoredVideo
from fvar.model.clusterings import load_clustering
from fvar.model.recognizer import Inference
from fvar.names import clustering_names
from fvar.report.clusters_page.page import MAX_EMBEDDED, Row, write_page
from fvar.report.clusters_page.video_pages import FILMSTRIPS, VIDEOS, NearVideo, VideoPages
from fvar.reporting import Progress, Reporter
from fvar.store.clusters_file import write_clusters, write_clusters_csv, write_frames_csv
from fvar.store.files import remove_outputs
from fvar.store.frame_store import FrameStore
from fvar.store.manifest import ClustersManifest, ClustersSummary, check_out, write_manifest
from fvar.store.provenance import input_file, output_file, tool_versions
from fvar.store.video_clusters import VideoClusters
from fvar.training.distributed import join_world
from fvar.training.inputs import StoredFrames
from fvar.training.metrics import label_name
from fvar.training.neighbors import find_neighbors
from fvar.training.predict import infer_clips
from fvar.training.representer import Representer
from fvar.training.trained_run import TrainedRun, open_trained_run

H5, CSV, FRAMES_CSV, PAGE = "clusters.h5", "clusters.csv", "frames.csv", "index.html"

_TORCH = ("torch", "torchcodec")
_PACKAGES = (*_TORCH, "numpy", "h5py", "matplotlib", "pillow", "jinja2")


def inspect_clusters(
    train: Path,
    out_dir: Path,
    config: InspectConfig,
    reporter: Reporter,
    *,
    frames: Path | None = None,
    overwrite: bool = False,
) -> ClustersManifest:
    """Show how a training clusters the videos of a split. The main process does it alone.

    Raises:
        InputError: The input or a setting is wrong, or the training has no clusters; nothing was written.
        StoppedError: The disk is full, or a video is damaged; a rerun starts again.
    """
    with join_world(config.device) as world:
        world.on_main(
            lambda: check_out(out_dir, ClustersManifest, overwrite=overwrite, made_from=train)
        )
        run = open_trained_run(train, checkpoint=config.checkpoint, world=world)
        _check_has_clusters(run, train)
        stored = run.open_frames(frames, world)
        videos = stored.videos(
            config.split,
            run.classes,
            allow_partial=config.allow_partial,
            skip_incomplete=config.skip_incomplete,
        )
        stored.report_skipped(reporter, [config.split], allow_partial=config.allow_partial)
        stored.report_thinning(reporter)
        representer = run.representer(config, world, reporter)
        return world.on_main(
            lambda: _inspect(
                run, representer, stored, videos, config, out_dir=out_dir, reporter=reporter
            )
        )


def _check_has_clusters(run: TrainedRun, train: Path) -> None:
    if run.config.clustering not in clustering_names():
        raise ConfigError(
            train,
            f"was trained with --clustering {run.config.clustering}, which makes no clusters",
            fix=f"inspect a training with one of: {', '.join(clustering_names())}",
        )


def _inspect(
    run: TrainedRun,
    representer: Representer,
    frames: StoredFrames,
    videos: Sequence[StoredVideo],
    config: InspectConfig,
    *,
    out_dir: Path,
    reporter: Reporter,
) -> ClustersManifest:
    """Write the outputs and the manifest that completes the folder."""
    shown = _spread(videos, config.limit)
    old = [path for name in (FILMSTRIPS, VIDEOS) for path in (out_dir / name).glob("[0-9]*-*.*")]
    remove_outputs(
        out_dir,
        [H5, CSV, FRAMES_CSV, PAGE, *(path.relative_to(out_dir).as_posix() for path in old)],
    )
    inferred = infer_clips(
        run.recognizer,
        representer,
        run.dataset(frames, shown, representer),
        range(len(shown)),
        precision=run.config.precision,
        workers=config.workers,
    )
    explain = _nearest_videos(run, representer, frames, config, reporter)
    pages = VideoPages(
        out_dir,
        originals=_originals(frames, out_dir),
        embed=len(shown) <= MAX_EMBEDDED,
    )
    with reporter.progress(f"inspect {config.split}", total=len(shown), unit="videos") as bar:
        try:
            write_clusters(out_dir / H5, _show_each(inferred, pages, run.classes, explain, bar))
        except InputError as error:
            if not pages.rows:
                raise  # nothing was written
            raise stopped_by(error, then="run again") from error
    # The table is made from the file just written, so that both agree.
    write_clusters_csv(out_dir / CSV, out_dir / H5)
    tables = [H5, CSV]
    if config.frames_csv:
        write_frames_csv(out_dir / FRAMES_CSV, out_dir / H5)
        tables.append(FRAMES_CSV)
    write_page(
        out_dir / PAGE,
        pages.rows,
        pages.embedded.items(),
        explanation=load_clustering(run.config.clustering).EXPLANATION,
        settings=_settings(run, config),
        classes=run.classes,
        num_available=len(videos),
    )
    manifest = ClustersManifest(
        versions=tool_versions(_PACKAGES),
        classes=run.classes,
        inputs=[input_file(out_dir, path) for path in (run.path, run.checkpoint, frames.path)],
        outputs=[output_file(out_dir, name) for name in [*tables, PAGE, *pages.files]],
        config=config,
        summary=_summary(run, pages.rows, config, num_available=len(videos)),
    )
    write_manifest(out_dir, manifest)
    return manifest


_Explain = Callable[[EncodedClip, Inference], list[NearVideo]]
"""Takes a video that was misread; returns the nearest training videos of the predicted and the true class."""


def _nearest_videos(
    run: TrainedRun,
    representer: Representer,
    frames: StoredFrames,
    config: InspectConfig,
    reporter: Reporter,
) -> _Explain | None:
    """Return how to explain a mistake; None where nobody asked."""
    if not config.nearest:
        return None
    videos = frames.videos(
        "train",
        run.classes,
        allow_partial=config.allow_partial,
        skip_incomplete=config.skip_incomplete,
    )
    dataset = run.dataset(frames, videos, representer)
    neighbors = find_neighbors(
        run, representer, dataset, videos, workers=config.workers, reporter=reporter
    )
    store = FrameStore(frames.folder)

    def explain(clip: EncodedClip, inference: Inference) -> list[NearVideo]:
        labels = (int(inference.logits.argmax()), clip.label)
        found = [neighbors.nearest(clip.id, inference, label) for label in labels]
        return [
            NearVideo(
                id=near.video.id,
                label=run.classes[near.video.label],
                similarity=near.similarity,
                video=store.read(near.video.shard, near.video.id),
            )
            for near in found
            if near is not None
        ]

    return explain


def _originals(frames: StoredFrames, out_dir: Path) -> dict[str, str]:
    """Return the address of each video file that is there, from the page, by the id of its row."""
    folder = Path(frames.manifest.config.videos)
    found = {video.id: folder / video.video for video in frames.manifest.videos}
    return {
        video: quote(Path(os.path.relpath(path, out_dir)).as_posix())
        for video, path in found.items()
        if path.is_file()
    }


def _settings(run: TrainedRun, config: InspectConfig) -> dict[str, str]:
    """Return what the top of the page says about the training."""
    return {
        "clustering": f"{run.config.clustering}, k = {run.config.clusters}",
        "network": f"{run.config.backbone}, cut after residual stage {run.config.stage}",
        "split": config.split,
        "checkpoint": run.checkpoint_name,
    }


def _spread(videos: Sequence[StoredVideo], limit: int | None) -> list[StoredVideo]:
    """Return `limit` videos, evenly over the split: sources are often sorted by class."""
    count = len(videos) if limit is None else min(limit, len(videos))
    return [videos[place * len(videos) // count] for place in range(count)]


def _show_each(
    inferred: Iterable[tuple[EncodedClip, Inference]],
    pages: VideoPages,
    classes: Sequence[str],
    explain: _Explain | None,
    progress: Progress,
) -> Iterator[VideoClusters]:
    """Yield the clusters of each video once its pictures are written."""
    for clip, inference in inferred:
        clusters = VideoClusters(
            id=clip.id,
            label=label_name(clip.label, classes),
            predicted=classes[int(inference.logits.argmax())],
            boundaries=inference.boundaries,
            step_distances=inference.step_distances,
            num_bits=inference.num_bits,
            pts_seconds=clip.video.pts_seconds,
            fps=clip.video.fps,
            logits=inference.cluster_logits.numpy(),
        )
        wrong = explain is not None and clusters.verdict == "wrong"
        near = explain(clip, inference) if explain and wrong else ()
        pages.add(clusters, clip.video, near=near)
        progress.advance(note=clip.id)
        yield clusters


def _summary(
    run: TrainedRun, rows: Sequence[Row], config: InspectConfig, *, num_available: int
) -> ClustersSummary:
    return ClustersSummary(
        num_videos=len(rows),
        available=num_available,
        right=sum(row.verdict == "right" for row in rows),
        unlabelled=sum(not row.label for row in rows),
        frames=sum(row.num_frames for row in rows),
        num_clusters=sum(len(row.sizes) for row in rows),
        clustering=run.config.clustering,
        clusters=run.config.clusters,
        split=config.split,
        checkpoint=run.checkpoint_name,
    )
