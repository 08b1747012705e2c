"""Accuracies against numbers counted by hand, and the tables on disk."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fvar.training.metrics import (
    COLUMNS,
    Prediction,
    Results,
    score,
    write_confusion,
    write_history,
    write_per_class,
    write_predictions,
)


def _predictions(pairs: Sequence[tuple[int, int]], *, num_classes: int) -> list[Prediction]:
    """Return predictions from pairs of label and predicted class."""
    return [
        Prediction(f"clip-{n}", label, torch.eye(num_classes)[predicted])
        for n, (label, predicted) in enumerate(pairs)
    ]


def _scored(pairs: Sequence[tuple[int, int]], *, num_classes: int) -> Results:
    return score(_predictions(pairs, num_classes=num_classes), "abcdefg"[:num_classes])


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_scores_by_hand() -> None:
    """Class 0: 2 of 3 right, class 1: 0 of 1, class 2 without videos: 2/4 and (2/3 + 0)/2.

    A class without videos adds neither a zero nor a nan to the mean, though it may be predicted.
    """
    scores = _scored([(0, 0), (0, 0), (0, 1), (1, 0)], num_classes=3)
    assert scores.top1 == pytest.approx(0.5)
    assert scores.mean_class_accuracy == pytest.approx(1 / 3)
    assert scores.confusion.tolist() == [[2, 1, 0], [1, 0, 0], [0, 0, 0]]
    scores = _scored([(0, 2), (0, 0), (1, 1)], num_classes=3)
    assert scores.mean_class_accuracy == pytest.approx((0.5 + 1) / 2)
    assert scores.confusion[0, 2] == 1


def test_top5_by_hand() -> None:
    """With 7 classes ranked 0 to 6: labels 0 and 4 are among the first five, 5 and 6 are not."""
    logits = torch.tensor([7.0, 6, 5, 4, 3, 2, 1])
    predictions = [Prediction(str(label), label, logits) for label in (0, 4, 5, 6)]
    scores = score(predictions, "abcdefg")
    assert scores.top5 == pytest.approx(0.5)
    assert scores.top1 == pytest.approx(0.25)


@pytest.mark.parametrize("num_classes", [1, 2, 5, 6])
def test_top5_wants_six_classes(num_classes: int) -> None:
    """Under six classes five guesses say nothing: null."""
    scores = _scored([(0, 0)], num_classes=num_classes)
    assert (scores.top5 is None) == (num_classes < 6)
    assert scores.top1 == 1
    assert scores.confusion.shape == (num_classes, num_classes)


def test_equal_logits_count_as_the_first_class() -> None:
    """Of equal logits the first is predicted, in every table."""
    prediction = Prediction("a", 1, torch.zeros(3))
    assert prediction.predicted == 0
    assert score([prediction], "abc").confusion[1, 0] == 1


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30))
def test_scores_equal_a_plain_count(pairs: list[tuple[int, int]]) -> None:
    """For any labels and predictions the scores are those of counting one by one."""
    scores = _scored(pairs, num_classes=7)
    assert scores.top1 == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    present = {label for label, _ in pairs}
    own = [
        sum(a == b for a, b in pairs if a == label) / sum(a == label for a, _ in pairs)
        for label in present
    ]
    assert scores.mean_class_accuracy == pytest.approx(sum(own) / len(own))
    assert int(scores.confusion.sum()) == len(pairs)
    assert scores.top5 is not None
    assert scores.top5 >= scores.top1


def test_predictions_on_disk(tmp_path: Path) -> None:
    """One row per video: softmax scores that sum to 1; names with commas and quotes are whole."""
    classes = ["pour, slowly", 'say "x"']
    prediction = Prediction("a,1", 0, torch.tensor([0.0, 1.0]))
    write_predictions(tmp_path / "p.csv", score([prediction], classes))
    header, row = _rows(tmp_path / "p.csv")
    assert header == ["id", "label", "predicted", "score:pour, slowly", 'score:say "x"']
    assert row[:3] == ["a,1", "pour, slowly", 'say "x"']
    assert [float(value) for value in row[3:]] == pytest.approx([0.26894142, 0.73105858])


def test_per_class_and_confusion_on_disk(tmp_path: Path) -> None:
    """Counts and accuracy of each class; a class without videos has no accuracy."""
    results = _scored([(0, 0), (0, 0), (0, 1), (1, 0)], num_classes=3)
    write_per_class(tmp_path / "c.csv", results)
    assert _rows(tmp_path / "c.csv") == [
        ["class", "num_videos", "num_correct", "accuracy"],
        ["a", "3", "2", "0.666667"],
        ["b", "1", "0", "0.000000"],
        ["c", "0", "0", ""],
    ]
    write_confusion(tmp_path / "m.csv", results)
    assert _rows(tmp_path / "m.csv") == [
        ["true\\predicted", "a", "b", "c"],
        ["a", "2", "1", "0"],
        ["b", "1", "0", "0"],
        ["c", "0", "0", "0"],
    ]


def test_metrics_on_disk(tmp_path: Path) -> None:
    """One row per epoch, counted from 1; a figure that was not measured, or is not finite, is empty."""
    history = [
        {"train_loss": 1.25, "seconds": float("inf")},
        {"train_loss": 1.0, "val_top1": 1 / 3},
    ]
    write_history(tmp_path / "m.csv", history)
    header, *rows = _rows(tmp_path / "m.csv")
    assert header == list(COLUMNS)
    found = [{k: v for k, v in zip(header, row, strict=True) if v} for row in rows]
    assert found == [
        {"epoch": "1", "train_loss": "1.25"},
        {"epoch": "2", "train_loss": "1", "val_top1": "0.333333333"},
    ]
