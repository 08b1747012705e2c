"""Evaluation: predictions of a trained recognizer for the videos of a split, and how many are right."""

import csv
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fvar.config import EvalConfig
from fvar.errors import ManifestError, StoppedError
from fvar.loading.dataset import StoredVideo
from fvar.loading.view import evaluation_view
from fvar.report.pictures.confusion import write_confusion_png
from fvar.report.run_report import (
    RunReport,
    Verdicts,
    extract_command,
    settings_toml,
    write_run_report,
)
from fvar.reporting import Reporter
from fvar.store.files import remove_outputs
from fvar.store.hashing import sha256_of
from fvar.store.manifest import EvalSummary, PredictionsManifest
from fvar.store.manifest_file import check_out, write_manifest
from fvar.store.provenance import input_file, made_from, output_file, tool_versions
from fvar.training.distributed import join_world
from fvar.training.inputs import StoredFrames
from fvar.training.loop import METRICS
from fvar.training.metrics import (
    Prediction,
    Results,
    score,
    write_confusion,
    write_per_class,
    write_predictions,
)
from fvar.training.predict import predict
from fvar.training.trained_run import TrainedRun, open_trained_run

REPORT = "report.html"
_PACKAGES = ("torch", "torchcodec", "numpy", "h5py", "jinja2", "matplotlib")


# A new output is a line here: its file is written, listed in the manifest and replaced by --overwrite.
OUTPUTS: dict[str, Callable[[Path, Results], None]] = {
    "predictions.csv": write_predictions,
    "per_class.csv": write_per_class,
    "confusion.csv": write_confusion,
    "confusion.png": lambda path, r: write_confusion_png(path, r.confusion.numpy(), r.classes),
}


def evaluate(
    train: Path,
    out_dir: Path,
    config: EvalConfig,
    reporter: Reporter,
    *,
    frames: Path | None = None,
    overwrite: bool = False,
) -> PredictionsManifest:
    """Evaluate every video of a split, with the clustering of the training on all frames.

    Raises:
        InputError: The input or a setting is wrong, or a video is damaged; nothing was written.
        StoppedError: A video was not evaluated.
    """
    with join_world(config.device) as world:
        world.on_main(
            lambda: check_out(out_dir, PredictionsManifest, overwrite=overwrite, made_from=train)
        )
        run = open_trained_run(train, checkpoint=config.checkpoint, world=world)
        stored = run.open_frames(frames, world)
        taken = {"allow_partial": config.allow_partial, "skip_incomplete": config.skip_incomplete}
        videos = stored.videos(config.split, run.classes, **taken)
        skipped = stored.report_skipped(
            reporter, [config.split], allow_partial=config.allow_partial
        )
        _check_has_labels(stored, videos, config)
        stored.report_thinning(reporter)
        representer = run.representer(config, world, reporter)
        started = time.perf_counter()
        with reporter.progress(f"eval {config.split}", total=len(videos), unit="videos") as bar:
            predictions = predict(
                run.recognizer,
                representer,
                run.dataset(stored, videos, representer),
                world=world,
                precision=run.config.precision,
                workers=config.workers,
                progress=bar,
            )
        seconds = time.perf_counter() - started
        _check_all_evaluated(predictions, videos, config)
        results = score(predictions, run.classes)
        summary = _summary(run, results, videos, config, seconds=seconds, skipped=skipped)
        return world.on_main(lambda: _write(out_dir, results, run, stored, config, summary))


def _check_has_labels(
    stored: StoredFrames, videos: Sequence[StoredVideo], config: EvalConfig
) -> None:
    if all(video.label < 0 for video in videos):
        raise ManifestError(
            stored.path,
            f"no video of split {config.split} has a label, so nothing can be evaluated",
            fix="use `fvar predict` on the video files, or write labels into the CSV",
        )


def _check_all_evaluated(
    predictions: Sequence[Prediction], videos: Sequence[StoredVideo], config: EvalConfig
) -> None:
    if [prediction.id for prediction in predictions] != [video.id for video in videos]:
        raise StoppedError(
            f"split {config.split}",
            f"{len(predictions)} of {len(videos)} videos were evaluated",
            fix="run again; if this happens again, report it",
        )


def _summary(
    run: TrainedRun,
    results: Results,
    videos: Sequence[StoredVideo],
    config: EvalConfig,
    *,
    seconds: float,
    skipped: Sequence[str],
) -> EvalSummary:
    count_frames = evaluation_view(run.config).count_frames
    return EvalSummary(
        top1=results.top1,
        top5=results.top5,
        mean_class_accuracy=results.mean_class_accuracy,
        evaluated=len(videos),
        expected=len(videos) + len(skipped),
        unlabelled=sum(video.label < 0 for video in videos),
        skipped=list(skipped),
        split=config.split,
        checkpoint=run.checkpoint_name,
        clustering=run.config.clustering,
        clusters=run.config.clusters,
        crops=1,
        frames=sum(count_frames(video.num_frames) for video in videos),
        seconds=seconds,
    )


@contextmanager
def _keeping(results: Results) -> Iterator[None]:
    """Write the predictions into a folder for temporary files where the block cannot write its own."""
    try:
        yield
    except StoppedError as error:
        kept = Path(tempfile.mkdtemp(prefix="fvar-eval-")) / "predictions.csv"
        write_predictions(kept, results)
        fix = f"{error.fix}; until then the predictions are in {kept}"
        raise StoppedError(error.thing, error.problem, fix=fix) from error


def _write(
    out_dir: Path,
    results: Results,
    run: TrainedRun,
    stored: StoredFrames,
    config: EvalConfig,
    summary: EvalSummary,
) -> PredictionsManifest:
    """Write the outputs and the manifest that completes the folder."""
    names = [*OUTPUTS, REPORT]
    remove_outputs(out_dir, names)
    with _keeping(results):
        for name, write in OUTPUTS.items():
            write(out_dir / name, results)
        _write_report(out_dir / REPORT, results, run, stored, config, summary)
    manifest = PredictionsManifest(
        versions=tool_versions(_PACKAGES),
        classes=list(results.classes),
        inputs=[input_file(out_dir, path) for path in (run.path, run.checkpoint, stored.path)],
        outputs=[output_file(out_dir, name) for name in names],
        config=config,
        summary=summary,
    )
    write_manifest(out_dir, manifest)
    return manifest


def _write_report(
    path: Path,
    results: Results,
    run: TrainedRun,
    stored: StoredFrames,
    config: EvalConfig,
    summary: EvalSummary,
) -> None:
    scores = [prediction.logits.softmax(0) for prediction in results.predictions]
    verdicts = Verdicts(
        ids=[prediction.id for prediction in results.predictions],
        labels=[prediction.label for prediction in results.predictions],
        predicted=[prediction.predicted for prediction in results.predictions],
        confidence=[float(score.max()) for score in scores],
        matrix=results.confusion.numpy(),
        classes=results.classes,
    )
    top5 = [] if summary.top5 is None else [("top-5", f"{summary.top5:.1%}", "class among five")]
    report = RunReport(
        title=f"Evaluation of {Path(*run.path.parent.resolve().parts[-2:]).as_posix()}",
        figures=[
            ("top-1", f"{summary.top1:.1%}", f"of {summary.labelled:,} videos"),
            *top5,
            ("mean class", f"{summary.mean_class_accuracy:.1%}", "mean accuracy of classes"),
            ("frames seen", f"{summary.frames:,}", f"in {summary.seconds:,.0f} s"),
            ("left out", f"{len(summary.skipped):,}", "videos that are not complete"),
        ],
        settings={
            "clustering": f"{summary.clustering}, k = {summary.clusters}",
            "network": f"{run.config.backbone}, cut after residual stage {run.config.stage}",
            "split": summary.split,
            "checkpoint": summary.checkpoint,
            "epochs": str(run.manifest.summary.epochs),
        },
        history=_history(run.path.parent / METRICS),
        chain=_chain(path.parent, run, stored),
        commands=_commands(run, stored, config),
        toml=settings_toml(run.config),
    )
    write_run_report(path, verdicts, report)


def _history(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _chain(folder: Path, run: TrainedRun, stored: StoredFrames) -> list[tuple[str, str]]:
    """Return path, from `folder`, and hash of every file behind an evaluation."""
    files = {path.resolve(): sha256_of(path) for path in (run.path, run.checkpoint, stored.path)}
    for manifest in (run.path, stored.path):
        files |= {path.resolve(): entry.sha256 for path, entry in made_from(manifest)}
    return [
        (Path(os.path.relpath(path, folder.resolve())).as_posix(), sha256)
        for path, sha256 in files.items()
    ]


def _commands(run: TrainedRun, stored: StoredFrames, config: EvalConfig) -> list[str]:
    """Return the commands that repeat an evaluation, from the source CSV."""
    train = str(run.path.parent)
    flags = ["--split", config.split, "--checkpoint", run.checkpoint_name]
    flags += ["--allow-partial"] * config.allow_partial + [
        "--skip-incomplete"
    ] * config.skip_incomplete
    sources = [stored.path.parent / entry.path for entry in stored.manifest.inputs[:1]]
    frames = str(stored.path.parent)
    found = [
        extract_command(stored.manifest.config, os.path.relpath(source), frames)
        for source in sources
    ]
    found.append(shlex.join(["fvar", "train", frames, "--config", "settings.toml", "--out", train]))
    return [*found, shlex.join(["fvar", "eval", train, *flags])]
