"""Accuracy from logits, as the field reports it. Letters: N videos, C classes."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

from fvar.store.files import atomic_open

TOP5_FROM_CLASSES = 6  # with fewer, five guesses are nearly always right


@dataclass(frozen=True)
class Prediction:
    """What was said of one video."""

    id: str
    label: int
    logits: Tensor

    @property
    def predicted(self) -> int:
        """The class with the largest logit; of equal ones the first."""
        return int(self.logits.argmax())


@dataclass(frozen=True)
class Scores:
    """Accuracies in 0..1, and the counts they come from.

    Attributes:
        top1: Share of videos whose class has the largest logit.
        top5: Share whose class is among the five largest; None under 6 classes.
        mean_class_accuracy: Mean of the classes' own accuracies, over classes that have videos.
        confusion: (C, C) int64, rows true, columns predicted.
    """

    top1: float
    top5: float | None
    mean_class_accuracy: float
    confusion: Tensor


def score(predictions: Sequence[Prediction], *, num_classes: int) -> Scores:
    """Return the accuracies of `predictions`, at least one."""
    logits = torch.stack([prediction.logits for prediction in predictions])
    labels = torch.tensor([prediction.label for prediction in predictions])
    predicted = torch.tensor([prediction.predicted for prediction in predictions])
    confusion = multiclass_confusion_matrix(predicted, labels, num_classes=max(num_classes, 2))
    confusion = confusion[:num_classes, :num_classes]
    totals = confusion.sum(dim=1)
    per_class = confusion.diagonal()[totals > 0] / totals[totals > 0]
    top5 = None
    if num_classes >= TOP5_FROM_CLASSES:
        top5 = float(
            multiclass_accuracy(logits, labels, num_classes=num_classes, top_k=5, average="micro")
        )
    return Scores(
        float((predicted == labels).float().mean()), top5, float(per_class.mean()), confusion
    )


def write_predictions(
    path: Path, predictions: Sequence[Prediction], classes: Sequence[str]
) -> None:
    """Write ``id,label,predicted`` and the softmax score of every class (``score:NAME``), a row a video."""
    with atomic_open(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "label", "predicted", *(f"score:{name}" for name in classes)])
        for prediction in predictions:
            scores = prediction.logits.softmax(0).tolist()
            names = classes[prediction.label], classes[prediction.predicted]
            writer.writerow([prediction.id, *names, *(f"{value:.9g}" for value in scores)])


def write_per_class(path: Path, confusion: Tensor, classes: Sequence[str]) -> None:
    """Write ``class,num_videos,num_correct,accuracy``; the accuracy of a class without videos is empty."""
    with atomic_open(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["class", "num_videos", "num_correct", "accuracy"])
        for index, name in enumerate(classes):
            total, correct = int(confusion[index].sum()), int(confusion[index, index])
            writer.writerow([name, total, correct, f"{correct / total:.6f}" if total else ""])


def write_confusion(path: Path, confusion: Tensor, classes: Sequence[str]) -> None:
    """Write the confusion matrix: a row a true class, a column a predicted one, counts of videos."""
    with atomic_open(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["true\\predicted", *classes])
        for name, row in zip(classes, confusion.tolist(), strict=True):
            writer.writerow([name, *row])
