"""Evaluations side by side: accuracies with intervals, paired differences, and the videos that flipped."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvar.errors import ConfigError
from fvar.report.intervals import Interval, bootstrap, bootstrap_class_mean, mcnemar_p
from fvar.store.manifest import EvalSummary
from fvar.store.predictions_file import PredictionsTable


@dataclass(frozen=True, repr=False)
class Evaluation:
    """An evaluation as it lies on the disk.

    Attributes:
        name: What the tables call it: its folder, as it was given.
        path: Of its manifest.
        summary: Its figures.
        predictions: Of each video.
        train_seconds: How long its training took; None where that is gone.
    """

    name: str
    path: Path
    summary: EvalSummary
    predictions: PredictionsTable
    train_seconds: float | None


@dataclass(frozen=True)
class Compared:
    """One evaluation and how it differs from the first.

    Attributes:
        evaluation: Which one.
        top1: Accuracy, in 0..1, with its interval.
        mean_class: Mean accuracy over classes.
        difference: Of top-1, paired by video; None for the first.
        p: McNemar's exact test against the first.
        gained: Ids of the videos that it recognizes and the first does not.
        lost: Ids of those that the first alone recognizes.
    """

    evaluation: Evaluation
    top1: Interval
    mean_class: Interval
    difference: Interval | None
    p: float | None
    gained: Sequence[str]
    lost: Sequence[str]


def compare_evaluations(evaluations: Sequence[Evaluation]) -> list[Compared]:
    """Compare evaluations of the same videos; the differences are to the first.

    Raises:
        ConfigError: They are of different videos, or of different labels.
    """
    first, *others = evaluations
    for other in others:
        _check_same_videos(first, other)
    return [_compare(evaluation, first) for evaluation in evaluations]


def _check_same_videos(first: Evaluation, other: Evaluation) -> None:
    labels = dict(zip(first.predictions.ids, first.predictions.labels, strict=True))
    theirs = dict(zip(other.predictions.ids, other.predictions.labels, strict=True))
    for video in (*labels, *theirs):
        if video not in labels or video not in theirs:
            has, lacks = (first, other) if video in labels else (other, first)
            raise ConfigError(
                other.name,
                f"evaluates other videos than {first.name}: {video!r:.60} is in {has.name} and not in "
                f"{lacks.name}",
                fix="compare evaluations of the same split of the same videos",
            )
        if labels[video] != theirs[video]:
            raise ConfigError(
                other.name,
                f"labels {video!r:.60} {theirs[video]!r:.60}, in {first.name} it is "
                f"{labels[video]!r:.60}",
                fix="evaluate both with the same labels",
            )


def _compare(found: Evaluation, first: Evaluation) -> Compared:
    right = found.predictions.right
    _, labels = np.unique(found.predictions.labels, return_inverse=True)
    top1, mean_class = bootstrap(right), bootstrap_class_mean(right, labels)
    if found is first:
        return Compared(found, top1, mean_class, None, None, (), ())
    place = {video: at for at, video in enumerate(first.predictions.ids)}
    before = first.predictions.right[[place[video] for video in found.predictions.ids]]
    ids = found.predictions.ids
    gained = [video for video, change in zip(ids, right - before, strict=True) if change > 0]
    lost = [video for video, change in zip(ids, right - before, strict=True) if change < 0]
    p = mcnemar_p(len(gained), len(lost))
    return Compared(found, top1, mean_class, bootstrap(right - before), p, gained, lost)
