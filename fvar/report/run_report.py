"""The report of an evaluation: figures, curves, which classes are taken for which, and how to repeat it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from fvar.config import ExtractConfig
from fvar.report.clusters_page.page import as_json
from fvar.report.templates import load_template
from fvar.settings import Settings
from fvar.store.files import atomic_open

MAX_MATRIX = 40  # classes; with more, the most frequent confusions stand for the matrix
_CONFUSIONS = 20
_WIDTH, _HEIGHT = 420, 170  # of a chart of curves, SVG units


@dataclass(frozen=True, eq=False, repr=False)
class Verdicts:
    """What an evaluation says of each of N videos.

    Attributes:
        ids: Of the videos.
        labels: Position of their class; -1 without a label.
        predicted: Position of the predicted class.
        confidence: Its score.
        matrix: (C, C) int64, rows true, columns predicted.
        classes: Names of the C classes.
    """

    ids: Sequence[str]
    labels: Sequence[int]
    predicted: Sequence[int]
    confidence: Sequence[float]
    matrix: npt.NDArray[np.int64]
    classes: Sequence[str]


@dataclass(frozen=True, eq=False, repr=False)
class RunReport:
    """What a report says beside its verdicts.

    Attributes:
        title: Of the page.
        figures: The headline figures: name, value, explanation.
        settings: What the top of the page says about the training.
        history: The rows of the training's ``metrics.csv``; none where it is gone.
        chain: Path and hash of every file that the evaluation was made from.
        commands: That repeat it.
        toml: The settings of the training, for its command.
    """

    title: str
    figures: Sequence[tuple[str, str, str]]
    settings: Mapping[str, str]
    history: Sequence[Mapping[str, str]]
    chain: Sequence[tuple[str, str]]
    commands: Sequence[str]
    toml: str


def write_run_report(path: Path, verdicts: Verdicts, report: RunReport) -> None:
    """Write the HTML file `path`, ``report.html``, which needs no network.

    Raises:
        StoppedError: The disk is full.
    """
    classes, matrix = verdicts.classes, verdicts.matrix
    videos = zip(
        verdicts.ids, verdicts.labels, verdicts.predicted, verdicts.confidence, strict=True
    )
    pieces = load_template("report.html.j2").generate(
        report=report,
        curves=_curves(report.history),
        width=_WIDTH,
        height=_HEIGHT,
        matrix=_matrix(matrix) if len(classes) <= MAX_MATRIX else None,
        confusions=_confusions(matrix, classes),
        per_class=_per_class(matrix, classes),
        classes=classes,
        data=Markup(as_json([[i, t, p, round(c, 4)] for i, t, p, c in videos])),  # noqa: S704
    )
    with atomic_open(path) as file:
        file.writelines(pieces)


def _matrix(matrix: npt.NDArray[np.int64]) -> list[list[tuple[int, float]]]:
    """Return the count of each cell, and its fraction of the row."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return [
        list(zip(*rows, strict=True)) for rows in zip(matrix.tolist(), shares.tolist(), strict=True)
    ]


def _confusions(
    matrix: npt.NDArray[np.int64], classes: Sequence[str]
) -> list[tuple[int, int, str, str, int, float]]:
    """Return the most frequent mistakes: both classes by position and name, count, fraction of the class."""
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    totals = matrix.sum(axis=1)
    pairs = [(int(at) // len(classes), int(at) % len(classes)) for at in order]
    return [
        (t, p, classes[t], classes[p], int(wrong[t, p]), float(wrong[t, p] / totals[t]))
        for t, p in pairs
        if wrong[t, p]
    ]


def _per_class(
    matrix: npt.NDArray[np.int64], classes: Sequence[str]
) -> list[tuple[int, str, int, int, float | None, float | None]]:
    """Return position, name, videos, right, recall and precision of each class, the hardest first."""
    right, true, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    rows = [
        (
            at,
            name,
            int(true[at]),
            int(right[at]),
            float(right[at] / true[at]) if true[at] else None,
            float(right[at] / predicted[at]) if predicted[at] else None,
        )
        for at, name in enumerate(classes)
    ]
    return sorted(rows, key=lambda row: (row[4] is None, row[4] or 0.0))


@dataclass(frozen=True)
class _Curve:
    name: str
    last: str
    points: str


@dataclass(frozen=True)
class _Chart:
    title: str
    top: str
    curves: list[_Curve]


def _curves(history: Sequence[Mapping[str, str]]) -> list[_Chart]:
    """Return loss and accuracies by epoch as the points of polylines."""
    charts = []
    accuracies = {
        "train_top1": "train",
        "val_top1": "val",
        "val_mean_class_accuracy": "val, mean class",
    }
    for title, columns in (("Loss", {"train_loss": "train"}), ("Accuracy", accuracies)):
        lines = {
            name: [(at, float(row[column])) for at, row in enumerate(history) if row.get(column)]
            for column, name in columns.items()
        }
        values = [value for line in lines.values() for _, value in line]
        top = 1.0 if title == "Accuracy" else max(values, default=1.0)
        curves = [
            _Curve(name, f"{line[-1][1]:.3g}", _points(line, len(history), top or 1.0))
            for name, line in lines.items()
            if line
        ]
        if curves:
            charts.append(_Chart(title, f"{top:.3g}", curves))
    return charts


def _points(line: Sequence[tuple[int, float]], count: int, top: float) -> str:
    step = _WIDTH / max(count - 1, 1)
    return " ".join(f"{at * step:.1f},{_HEIGHT * (1 - value / top):.1f}" for at, value in line)


def settings_toml(config: Settings) -> str:
    """Return the settings that differ from the defaults as TOML, for ``--config``."""
    return "".join(
        f"{name} = {json.dumps(value, ensure_ascii=False)}\n"
        for name, value in config.model_dump(mode="json", exclude_defaults=True).items()
        if value is not None
    )


def extract_command(config: ExtractConfig, source: str, out: str) -> str:
    """Return the command of an extraction, with the flags that differ from the defaults."""
    words = ["fvar", "extract", source, "--videos", config.videos, "--out", out]
    ignored = {"videos", "workers", "dask"}  # of the machine
    changed = config.model_dump(mode="json", exclude_defaults=True, exclude=ignored)
    for name, value in changed.items():
        flag = "--time-limit" if name == "time_limit_seconds" else f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)
