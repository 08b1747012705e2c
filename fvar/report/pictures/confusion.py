"""The confusion matrix as a picture."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from fvar.errors import one_line
from fvar.report.colors import FAINT_INK, INK, RULE, ink_on
from fvar.store.files import atomic_path

MAX_WRITTEN = 20  # with more classes, the cells are too small for counts
MAX_NAMED = 120  # with more classes, the axes show numbers instead of names

_COLORS = "Blues"
_LONGEST_NAME = 28  # letters that fit beside the axis; confusion.csv has the full names
_DPI = 150


def write_confusion_png(path: Path, matrix: npt.NDArray[np.int64], classes: Sequence[str]) -> None:
    """Write the confusion matrix as the PNG file `path`.

    Args:
        path: The file.
        matrix: Number of videos of class i (row) that were predicted as j (column): int64, shape (C, C).
        classes: The names of the C classes, in order.

    Raises:
        StoppedError: The disk is full.
    """
    figure = confusion_figure(matrix, classes)
    with atomic_path(path) as temporary:
        figure.savefig(
            temporary,
            format="png",
            bbox_inches="tight",
            pad_inches=0.15,
            metadata={"Software": "fvar"},
        )


def confusion_figure(matrix: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Draw the confusion matrix; arguments as in `write_confusion_png`.

    The color of a cell is its fraction of the row, that is of the videos of the class. A class without videos
    has a white row. Counts are written for at most 20 classes, names for at most 120.
    """
    is_written = len(classes) <= MAX_WRITTEN
    cell = 0.52 if is_written else 0.15  # inches: fits a count or a name, until the figure is full
    side = min(max(cell * len(classes), 3.2), 17.0)
    size = (side + 3.4, side + 1.9)
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    totals = matrix.sum(axis=1, keepdims=True)
    fractions = matrix / np.maximum(totals, 1)
    # Without counts in the cells, rare mistakes are made darker.
    norm = PowerNorm(1 if is_written else 0.5, vmin=0, vmax=1)
    image = axes.imshow(fractions, cmap=_COLORS, norm=norm, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, pad=0.02)
    bar.set_label("fraction of the videos of the class", color=FAINT_INK)
    bar.ax.yaxis.set_major_formatter(lambda fraction, _: f"{100 * fraction:.0f} %")
    bar.outline.set_edgecolor(RULE)
    right, total = int(np.trace(matrix)), int(matrix.sum())
    verdict = f"{right:,} of {total:,} right" + (f", {right / total:.1%}" if total else "")
    axes.set_title(verdict, loc="left", color=INK)
    axes.set(xlabel="predicted", ylabel="class")
    _name_axes(axes, classes, totals[:, 0])
    if is_written:
        _write_counts(axes, matrix, fractions)
    return figure


def _name_axes(axes: Axes, classes: Sequence[str], totals: npt.NDArray[np.int64]) -> None:
    number = len(classes)
    axes.tick_params(length=2, colors=FAINT_INK)
    for side in axes.spines.values():
        side.set_color(RULE)
    if number > MAX_NAMED:
        axes.set(xlabel="predicted, number of the class", ylabel="class, by its number from 0")
        return
    fontsize = 10 if number <= MAX_WRITTEN else 8 if number <= 60 else 6.5
    names = [_printable(name) for name in classes]
    rows = [f"{name} ({total:,})" for name, total in zip(names, totals.tolist(), strict=True)]
    places = range(number)
    axes.set_yticks(places, rows, fontsize=fontsize, color=INK, parse_math=False)
    axes.set_xticks(places, names, fontsize=fontsize, color=INK, parse_math=False)
    upright = number > MAX_WRITTEN
    if upright or max(len(name) for name in names) * number > 30:
        axes.tick_params(axis="x", labelrotation=90 if upright else 40)
        for label in axes.get_xticklabels():
            label.set(ha="right", va="center" if upright else "top", rotation_mode="anchor")


def _printable(name: str) -> str:
    """Return the name on one line, cut if too long; letters that the font lacks become their codes."""
    known = get_font(findfont(FontProperties())).get_charmap()
    drawn = "".join(
        letter if ord(letter) in known else letter.encode("unicode_escape").decode()
        for letter in one_line(name)
    )
    if len(drawn) > _LONGEST_NAME:
        drawn = drawn[: _LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return drawn


def _write_counts(
    axes: Axes, matrix: npt.NDArray[np.int64], fractions: npt.NDArray[np.float64]
) -> None:
    colors = mpl.colormaps[_COLORS]
    for row, column in zip(*(places.tolist() for places in np.nonzero(matrix)), strict=True):
        count = f"{matrix[row, column]:,}"
        fontsize = 10 if len(count) <= 4 else 40 / len(count)
        ink = ink_on(colors(float(fractions[row, column])))
        axes.text(column, row, count, ha="center", va="center", fontsize=fontsize, color=ink)
