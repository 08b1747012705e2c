"""Inspection: which frames of each video a trained recognizer averages, as tables, pictures and a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fvar.config import InspectConfig
from fvar.errors import ConfigError, InputError, stopped_by
from fvar.inference.inspected_run import InspectedRun, check_trainings, open_inspected_run
from fvar.inference.neighbors import explain_mistakes
from fvar.loading.dataset import StoredVideo
from fvar.model.clusterings import load_clustering
from fvar.report.boundaries import (
    Agreement,
    KnownSegment,
    compare_boundaries,
    read_segments,
    write_agreements,
)
from fvar.report.clusters_page.page import MAX_EMBEDDED, Row, write_page
from fvar.report.clusters_page.video_pages import FILMSTRIPS, VIDEOS, VideoPages, is_picture
from fvar.reporting import Reporter
from fvar.store.clusters.clusters_file import (
    read_clusters,
    write_clusters,
    write_clusters_csv,
    write_frames_csv,
)
from fvar.store.clusters.kept_clusters import KeptClusters
from fvar.store.files import MANIFEST_NAME, is_complete, remove_outputs
from fvar.store.manifest import ClustersManifest, ClustersSummary
from fvar.store.manifest_file import check_out, read_manifest, write_manifest
from fvar.store.provenance import input_file, output_file, tool_versions
from fvar.training.distributed import join_world
from fvar.training.trained_run import TrainedRun

H5, CSV, FRAMES_CSV, PAGE = "clusters.h5", "clusters.csv", "frames.csv", "index.html"
BOUNDARIES = "boundaries.csv"

_CHANGE_NOTHING = {"workers", "cache", "cache_gb"}  # settings
_TORCH = ("torch", "torchcodec")
_PACKAGES = (*_TORCH, "numpy", "h5py", "matplotlib", "pillow", "jinja2")


def inspect_clusters(
    trains: Sequence[Path],
    out_dir: Path,
    config: InspectConfig,
    reporter: Reporter,
    *,
    frames: Path | None = None,
    overwrite: bool = False,
) -> ClustersManifest:
    """Show how trainings cluster the videos of a split. The main process does it alone.

    An inspection that was interrupted goes on where it was, if nothing has changed that its results
    depend on.

    Args:
        trains: Folders or manifests that `fvar train` wrote, at least one; the page is that of the first,
            and shows the clusters of the others beside.
        out_dir: Gets the outputs.
        config: The settings.
        reporter: Receives messages and progress.
        frames: Another extraction; None takes the one that each was trained on.
        overwrite: Replace a complete inspection of the first training.

    Raises:
        InputError: The input or a setting is wrong, or a training has no clusters; nothing was written.
        StoppedError: The disk is full, or a video is damaged; a rerun goes on.
    """
    with join_world(config.device) as world:
        world.on_main(
            lambda: check_out(out_dir, ClustersManifest, overwrite=overwrite, made_from=trains[0])
        )
        check_trainings(trains, config)
        known = read_segments(Path(config.segments)) if config.segments else {}
        runs = [
            open_inspected_run(train, config, world, reporter, frames=frames) for train in trains
        ]
        return world.on_main(
            lambda: _inspect(runs, config, known, out_dir=out_dir, reporter=reporter)
        )


_Known = Mapping[str, Sequence[KnownSegment]]


def _inspect(
    runs: Sequence[InspectedRun],
    config: InspectConfig,
    known: _Known,
    *,
    out_dir: Path,
    reporter: Reporter,
) -> ClustersManifest:
    """Write the outputs and the manifest that completes the folder."""
    first = runs[0]
    shown = _spread(first.videos, config.limit)
    videos = [run.same_videos(shown, first) for run in runs]
    _check_known(known, shown, config)
    read = [path for run in runs for path in run.files]
    read += [Path(config.segments)] if config.segments else []
    inputs = [input_file(out_dir, path) for path in read]
    kept = KeptClusters(
        out_dir,
        [
            tool_versions(_PACKAGES)["fvar"],
            config.model_dump(mode="json", exclude=_CHANGE_NOTHING),
            [run.name for run in runs],
            [entry.sha256 for entry in inputs],
            [video.id for video in shown],
        ],
    )
    training = first.training_videos(config) if config.nearest else []
    pages = VideoPages(
        out_dir,
        [video.id for video in shown],
        runs=[run.name for run in runs],
        beside=len(shown) > MAX_EMBEDDED,
        drafts=kept.folder,
        originals=first.originals(out_dir),
        known=known,
    )
    _find_clusters(runs, videos, training, kept, pages, config, reporter)
    tables, agreements = _write_tables(runs, len(shown), kept, config, known, out_dir=out_dir)
    rows = [pages.row(number, found) for number, found in enumerate(read_clusters(out_dir / H5))]
    write_page(
        out_dir / PAGE,
        rows,
        pages.embedded(),
        explanation=load_clustering(first.run.config.clustering).EXPLANATION,
        settings=_settings(first.run, config),
        classes=first.run.classes,
        num_available=len(first.videos),
        agreements=agreements,
    )
    manifest = ClustersManifest(
        versions=tool_versions(_PACKAGES),
        classes=first.run.classes,
        inputs=inputs,
        outputs=[output_file(out_dir, name) for name in [*tables, PAGE, *pages.files]],
        config=config,
        summary=_summary(first.run, rows, config, num_available=len(first.videos)),
    )
    write_manifest(out_dir, manifest)
    kept.remove()
    return manifest


def _check_known(known: _Known, shown: Sequence[StoredVideo], config: InspectConfig) -> None:
    if config.segments and not any(video.id in known for video in shown):
        raise ConfigError(
            f"--segments {config.segments}",
            f"names none of the {len(shown)} videos that are shown, like {shown[0].id!r}",
            fix="give it the ids of the source CSV, or raise --limit",
        )


def _clear(out_dir: Path, kept: KeptClusters) -> None:
    """Delete what an earlier inspection wrote, complete or not, and nothing else."""
    written = []
    if is_complete(out_dir):
        old = read_manifest(out_dir / MANIFEST_NAME, ClustersManifest)
        written = [entry.path for entry in old.outputs]
    if kept.is_there:
        written += [
            path.relative_to(out_dir).as_posix()
            for folder in (FILMSTRIPS, VIDEOS)
            for path in (out_dir / folder).glob("*")
            if is_picture(path.name)
        ]
    remove_outputs(out_dir, written)
    kept.remove()


def _find_clusters(
    runs: Sequence[InspectedRun],
    videos: Sequence[Sequence[StoredVideo]],
    training: Sequence[StoredVideo],
    kept: KeptClusters,
    pages: VideoPages,
    config: InspectConfig,
    reporter: Reporter,
) -> None:
    """Write the files of each video, and keep its clusters, unless an earlier command did.

    Args:
        runs: The trainings.
        videos: The same ones in each run.
        training: Videos to explain mistakes with; none where nobody asked.
        kept: What an earlier command did; if it was another one, it goes once there is something new.
        pages: Writes the files.
        config: The settings.
        reporter: Shows the progress.
    """
    count, is_other = len(videos[0]), not kept.matches()
    numbers = [
        number
        for number in range(count)
        if is_other or not (kept.has(number) and pages.has(number))
    ]
    if not numbers:
        return
    explain = explain_mistakes(runs[0], training, config, reporter) if training else None
    inferred = zip(
        *(
            run.infer([found[number] for number in numbers], workers=config.workers)
            for run, found in zip(runs, videos, strict=True)
        ),
        strict=True,
    )
    done = count - len(numbers)
    with reporter.progress(f"inspect {config.split}", total=count, unit="videos") as bar:
        if done:
            bar.advance(done, note="kept")
        try:
            for number, seen in zip(numbers, inferred, strict=True):
                found = [run.clusters_of(*each) for run, each in zip(runs, seen, strict=True)]
                clip, inference = seen[0]
                wrong = found[0].verdict == "wrong"
                near = explain(clip, inference) if explain and wrong else ()
                if is_other:
                    _clear(pages.folder, kept)
                    is_other = False
                pages.write(number, found, clip.video, near=near)
                kept.write(number, found)
                done += 1
                bar.advance(note=clip.id)
        except InputError as error:
            if not done:
                raise  # nothing was kept
            raise stopped_by(error, then="run again: it goes on") from error


def _write_tables(
    runs: Sequence[InspectedRun],
    count: int,
    kept: KeptClusters,
    config: InspectConfig,
    known: _Known,
    *,
    out_dir: Path,
) -> tuple[list[str], dict[str, Agreement]]:
    """Write the tables from what is kept; return their names, and how boundaries agree with known ones."""
    names, files = [], {}
    for at, run in enumerate(runs):
        h5, table = (name if at == 0 else name.replace(".", f"-{at + 1}.") for name in (H5, CSV))
        write_clusters(out_dir / h5, (kept.read(number)[at] for number in range(count)))
        # The table is made from the file just written, so that both agree.
        write_clusters_csv(out_dir / table, out_dir / h5)
        names += [h5, table]
        files[run.name] = out_dir / h5
    if config.frames_csv:
        write_frames_csv(out_dir / FRAMES_CSV, out_dir / H5)
        names.append(FRAMES_CSV)
    if not known:
        return names, {}
    agreements = compare_boundaries(files, known, tolerance=config.tolerance)
    write_agreements(out_dir / BOUNDARIES, agreements)
    return [*names, BOUNDARIES], agreements


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
