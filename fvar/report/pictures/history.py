"""The curves of a training as a picture: loss and accuracy by epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fvar.report.colors import FAINT_INK, RULE, line_color
from fvar.store.files import atomic_path

_DPI = 120
_NAMES = {"train_loss": "train", "train_top1": "train", "val_top1": "val"}


def write_curves(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write the curves as the PNG file `path`.

    Args:
        path: The file.
        history: A row of metrics for each epoch.

    Raises:
        StoppedError: The disk is full.
    """
    figure = Figure(figsize=(9.6, 3.6), dpi=_DPI, facecolor="white", layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    _draw(loss, history, ["train_loss"], title="Loss")
    _draw(accuracy, history, ["train_top1", "val_top1"], title="Top-1 accuracy")
    accuracy.set_ylim(0, 1.03)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": "fvar"})


def _draw(
    axes: Axes, history: Sequence[Mapping[str, float]], columns: Sequence[str], *, title: str
) -> None:
    epochs = range(1, len(history) + 1)
    for number, column in enumerate(columns):
        if column in history[-1]:
            values = [row[column] for row in history]
            color = line_color(number)
            axes.plot(epochs, values, marker="o", markersize=3, color=color, label=_NAMES[column])
    axes.set_title(title, fontsize=12, loc="left")
    axes.set_xlabel("epoch", color=FAINT_INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.legend(frameon=False)
    axes.tick_params(colors=FAINT_INK, length=3)
    for side in axes.spines.values():
        side.set_color(RULE)
