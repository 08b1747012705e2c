"""Evaluation: what a trained recogniser says of videos it has not seen, and how often it is right."""

import time
from pathlib import Path

from fvar.config import EvalConfig
from fvar.errors import StoppedError
from fvar.report.confusion import write_confusion_png
from fvar.reporting import Reporter
from fvar.store.files import remove_outputs
from fvar.store.manifest import EvalSummary, PredictionsManifest, check_out, write_manifest
from fvar.store.provenance import input_file, output_file, tool_versions
from fvar.training.distributed import Team, team
from fvar.training.inputs import report_thinning, testing_view
from fvar.training.metrics import (
    Prediction,
    Scores,
    score,
    write_confusion,
    write_per_class,
    write_predictions,
)
from fvar.training.predict import predict
from fvar.training.trained_run import Trained, open_training

OUTPUTS = ("predictions.csv", "per_class.csv", "confusion.csv", "confusion.png")
_PACKAGES = ("torch", "torchvision", "torchcodec", "numpy", "h5py", "torchmetrics", "matplotlib")


def evaluate(
    train: Path,
    out_dir: Path,
    config: EvalConfig,
    reporter: Reporter,
    *,
    frames: Path | None = None,
    overwrite: bool = False,
) -> PredictionsManifest:
    """Evaluate every video of a split, clustered in full exactly as in training.

    Args:
        train: Folder or manifest that `fvar train` wrote.
        out_dir: Gets predictions, tables, the confusion matrix and, last, the manifest.
        config: Settings.
        reporter: Hears what happens.
        frames: Another extraction than the one trained on.
        overwrite: Replace a complete evaluation in `out_dir`.

    Raises:
        InputError: The input or a setting is wrong; nothing was written.
        StoppedError: A video was not evaluated.
    """
    with team(config.device) as members:
        members.on_main(lambda: check_out(out_dir, PredictionsManifest, overwrite=overwrite))
        trained = open_training(
            train,
            split=config.split,
            checkpoint=config.checkpoint,
            frames=frames,
            team=members,
            allow_partial=config.allow_partial,
        )
        report_thinning(trained.thinning, reporter)
        started = time.perf_counter()
        predictions = _predict_all(trained, config, reporter, members)
        seconds = time.perf_counter() - started
        return members.on_main(
            lambda: _finish(trained, predictions, config, out_dir, seconds=seconds)
        )


def _predict_all(
    trained: Trained, config: EvalConfig, reporter: Reporter, members: Team
) -> list[Prediction]:
    with reporter.progress(
        f"eval {config.split}", total=len(trained.videos), unit="videos"
    ) as progress:
        predictions = predict(
            trained.recognizer,
            trained.frames_dir,
            trained.stored(trained.videos),
            testing_view(trained.config),
            team=members,
            precision=trained.config.precision,
            workers=config.workers,
            progress=progress,
        )
    if [prediction.id for prediction in predictions] != [video.id for video in trained.videos]:
        raise StoppedError(
            f"split {config.split}",
            f"{len(predictions)} of {len(trained.videos)} videos were evaluated",
            fix="run again; if it stays so, report it",
        )
    return predictions


def _finish(
    trained: Trained,
    predictions: list[Prediction],
    config: EvalConfig,
    out_dir: Path,
    *,
    seconds: float,
) -> PredictionsManifest:
    """Write the tables, the picture and the manifest that completes the folder."""
    scores = score(predictions, num_classes=len(trained.classes))
    remove_outputs(out_dir, list(OUTPUTS))
    write_predictions(out_dir / "predictions.csv", predictions, trained.classes)
    write_per_class(out_dir / "per_class.csv", scores.confusion, trained.classes)
    write_confusion(out_dir / "confusion.csv", scores.confusion, trained.classes)
    write_confusion_png(out_dir / "confusion.png", scores.confusion.numpy(), trained.classes)
    manifest = PredictionsManifest(
        versions=tool_versions(_PACKAGES),
        classes=trained.classes,
        inputs=[input_file(out_dir, path) for path in trained.inputs],
        outputs=[output_file(out_dir, name) for name in OUTPUTS],
        config=config,
        summary=_summary(
            trained, scores, config, num_predictions=len(predictions), seconds=seconds
        ),
    )
    write_manifest(out_dir, manifest)
    return manifest


def _summary(
    trained: Trained, scores: Scores, config: EvalConfig, *, num_predictions: int, seconds: float
) -> EvalSummary:
    settings = trained.config
    seen = [
        settings.clusters if settings.clustering == "uniform" else video.num_frames
        for video in trained.videos
    ]
    return EvalSummary(
        top1=scores.top1,
        top5=scores.top5,
        mean_class_accuracy=scores.mean_class_accuracy,
        evaluated=num_predictions,
        expected=len(trained.videos),
        split=config.split,
        checkpoint=trained.checkpoint_name,
        clustering=settings.clustering,
        clusters=settings.clusters,
        crops=1,
        frames=sum(seen),
        seconds=seconds,
    )
