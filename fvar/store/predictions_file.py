"""``predictions.csv`` of an evaluation, read again: what was predicted for each video, with all scores.

Letters: N videos, C classes.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fvar.errors import ManifestError

_SCORE = "score:"


@dataclass(frozen=True, eq=False, repr=False)
class PredictionsTable:
    """The rows of ``predictions.csv``.

    Attributes:
        ids: Of the N videos, in the order of the source CSV.
        labels: Their classes; empty where a video has none.
        predicted: The classes that were predicted.
        classes: Names of the C classes.
        scores: (N, C) float64, softmax.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    classes: tuple[str, ...]
    scores: npt.NDArray[np.float64]

    @property
    def right(self) -> npt.NDArray[np.float64]:
        """(N,), 1 where the predicted class is the label, else 0."""
        return np.array([a == b for a, b in zip(self.labels, self.predicted, strict=True)], float)

    def labelled(self) -> "PredictionsTable":
        """Return the rows that have a label."""
        rows = [at for at, label in enumerate(self.labels) if label]
        ids, labels, predicted = (
            tuple(column[at] for at in rows) for column in (self.ids, self.labels, self.predicted)
        )
        return PredictionsTable(ids, labels, predicted, self.classes, self.scores[rows])

    @property
    def columns(self) -> dict[str, npt.NDArray[np.generic]]:
        """The columns by name, each (N,), for example for ``pandas.DataFrame``."""
        texts = {"id": self.ids, "label": self.labels, "predicted": self.predicted}
        scores = {f"{_SCORE}{c}": self.scores[:, at] for at, c in enumerate(self.classes)}
        return {name: np.array(values) for name, values in texts.items()} | scores

    def __repr__(self) -> str:
        return f"PredictionsTable(videos={len(self.ids)}, classes={len(self.classes)})"


def read_predictions_csv(path: Path) -> PredictionsTable:
    """Read the table that `fvar eval` wrote.

    Raises:
        ManifestError: It is not such a table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        names = [name for name in rows[0] if name.startswith(_SCORE)]
        return PredictionsTable(
            ids=tuple(row["id"] for row in rows),
            labels=tuple(row["label"] for row in rows),
            predicted=tuple(row["predicted"] for row in rows),
            classes=tuple(name.removeprefix(_SCORE) for name in names),
            scores=np.array([[float(row[name]) for name in names] for row in rows]),
        )
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise ManifestError(
            path,
            f"is not a readable table of predictions ({error})",
            fix="rerun `fvar eval` with --overwrite",
        ) from error
