"""Accuracy from predictions, and the tables that show it. Letters: C classes."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fvar.store.files import atomic_open

TOP5_FROM_CLASSES = 6  # with fewer, five guesses are nearly always right
COLUMNS = (  # of metrics.csv
    *("epoch", "lr", "train_loss", "train_top1", "val_top1", "val_mean_class_accuracy"),
    *("frames", "frames_per_second", "seconds"),
)


@dataclass(frozen=True)
class Prediction:
    """The logits (C,) of one video, and the position of its class; -1 where it has no label."""

    id: str
    label: int
    logits: Tensor

    @property
    def predicted(self) -> int:
        """The class with the largest logit; of equal ones the first."""
        return int(self.logits.argmax())


@dataclass(frozen=True)
class Results:
    """Predictions, accuracies in 0..1, and the counts they come from.

    Attributes:
        predictions: One per video, in the source's order.
        classes: Names of the C classes.
        top1: Fraction of videos whose class has the largest logit.
        top5: Fraction whose class is among the five largest; None under 6 classes.
        mean_class_accuracy: Mean accuracy over the classes that have videos.
        confusion: (C, C) int64, rows true, columns predicted.
    """

    predictions: Sequence[Prediction]
    classes: Sequence[str]
    top1: float
    top5: float | None
    mean_class_accuracy: float
    confusion: Tensor


def label_name(label: int, classes: Sequence[str]) -> str:
    """Return the name of the class at the position `label`; empty where a video has no label, -1."""
    return "" if label < 0 else classes[label]


def score(predictions: Sequence[Prediction], classes: Sequence[str]) -> Results:
    """Return `predictions`, at least one with a label, with the accuracies over those with a label."""
    num_classes = len(classes)
    labelled = [prediction for prediction in predictions if prediction.label >= 0]
    logits = torch.stack([prediction.logits for prediction in labelled])
    labels = torch.tensor([prediction.label for prediction in labelled])
    predicted = torch.tensor([prediction.predicted for prediction in labelled])
    pairs = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    confusion = pairs.view(num_classes, num_classes)
    totals = confusion.sum(dim=1)
    per_class = confusion.diagonal()[totals > 0] / totals[totals > 0]
    top5 = None
    if num_classes >= TOP5_FROM_CLASSES:
        hits = (logits.topk(5).indices == labels[:, None]).any(dim=1)
        top5 = float(hits.float().mean())
    return Results(
        predictions,
        classes,
        top1=float((predicted == labels).float().mean()),
        top5=top5,
        mean_class_accuracy=float(per_class.mean()),
        confusion=confusion,
    )


def write_predictions(path: Path, results: Results) -> None:
    """Write one row per video: ``id,label,predicted`` and each class's softmax score (``score:NAME``).

    The label of a video that has none is empty.
    """
    classes = results.classes
    _write_csv(
        path,
        ["id", "label", "predicted", *(f"score:{name}" for name in classes)],
        (
            [
                *(
                    prediction.id,
                    label_name(prediction.label, classes),
                    classes[prediction.predicted],
                ),
                *(f"{value:.9g}" for value in prediction.logits.softmax(0).tolist()),
            ]
            for prediction in results.predictions
        ),
    )


def write_per_class(path: Path, results: Results) -> None:
    """Write ``class,num_videos,num_correct,accuracy``; the accuracy of a class without videos is empty."""
    totals, correct = results.confusion.sum(dim=1), results.confusion.diagonal()
    counts = zip(results.classes, totals.tolist(), correct.tolist(), strict=True)
    _write_csv(
        path,
        ["class", "num_videos", "num_correct", "accuracy"],
        (
            [name, total, right, f"{right / total:.6f}" if total else ""]
            for name, total, right in counts
        ),
    )


def write_confusion(path: Path, results: Results) -> None:
    """Write the counts of videos: one row per true class, one column per predicted class."""
    rows = zip(results.classes, results.confusion.tolist(), strict=True)
    _write_csv(path, ["true\\predicted", *results.classes], ([name, *row] for name, row in rows))


def write_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write one row per epoch; a figure that was not measured, or is not finite, is empty."""
    _write_csv(
        path,
        COLUMNS,
        (
            [
                str(epoch),
                *(
                    f"{row[name]:.9g}" if math.isfinite(row.get(name, math.nan)) else ""
                    for name in COLUMNS[1:]
                ),
            ]
            for epoch, row in enumerate(history, start=1)
        ),
    )


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with atomic_open(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
