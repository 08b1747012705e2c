"""The tables, the plot and the page of a comparison."""

import base64
import csv
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from fvar.report.colors import INK, RULE, line_color
from fvar.report.comparison import Compared
from fvar.report.intervals import Interval
from fvar.report.templates import load_template
from fvar.store.files import atomic_open

COLUMNS = (
    *("evaluation", "clustering", "clusters", "split", "videos", "frames", "train_seconds"),
    *("top1", "top1_low", "top1_high", "mean_class", "mean_class_low", "mean_class_high"),
    *("difference", "difference_low", "difference_high", "p", "gained", "lost"),
)
_PERCENT = 100


def write_comparison_csv(path: Path, compared: Sequence[Compared]) -> None:
    """Write one row per evaluation; accuracies in 0..1, an unknown figure is empty."""
    with atomic_open(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_row(found) for found in compared)


def _row(found: Compared) -> list[object]:
    evaluation, summary = found.evaluation, found.evaluation.summary
    figures = [found.top1, found.mean_class, found.difference]
    seconds = evaluation.train_seconds
    return [
        *(evaluation.name, summary.clustering, summary.clusters, summary.split),
        *(summary.labelled, summary.frames, "" if seconds is None else f"{seconds:.1f}"),
        *(cell for interval in figures for cell in _cells(interval)),
        "" if found.p is None else f"{found.p:.6g}",
        *(len(found.gained), len(found.lost)),
    ]


def _cells(interval: Interval | None) -> list[str]:
    if interval is None:
        return [""] * 3
    return [f"{value:.6f}" for value in (interval.mean, interval.low, interval.high)]


def write_flips_csv(path: Path, compared: Sequence[Compared]) -> None:
    """Write one row per video that an evaluation recognizes and the first does not, or the other way."""
    with atomic_open(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("evaluation", "id", "flip"))
        for found in compared:
            flips = [(video, "gained") for video in found.gained]
            flips += [(video, "lost") for video in found.lost]
            writer.writerows((found.evaluation.name, *flip) for flip in flips)


def draw_comparison(compared: Sequence[Compared]) -> bytes:
    """Return a PNG: the top-1 accuracy of each evaluation with its interval."""
    figure = Figure(figsize=(8, 0.9 + 0.45 * len(compared)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for row, found in enumerate(compared):
        top1, color = found.top1, line_color(row)
        axes.plot([_PERCENT * top1.low, _PERCENT * top1.high], [row, row], color=color, linewidth=3)
        axes.plot(_PERCENT * top1.mean, row, "o", color=color, markersize=8)
    names = [found.evaluation.name for found in compared]
    axes.set_yticks(range(len(names)), names, parse_math=False, color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 101)
    axes.set_xlabel("top-1, %, with the 95 % interval over videos", color=INK)
    axes.grid(axis="x", color=RULE, linewidth=0.5)
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def write_comparison_page(path: Path, compared: Sequence[Compared], plot: bytes) -> None:
    """Write one HTML file that needs no network.

    Raises:
        StoppedError: The disk is full.
    """
    template = load_template("comparison.html.j2")
    picture = f"data:image/png;base64,{base64.b64encode(plot).decode()}"
    with atomic_open(path) as file:
        file.writelines(template.generate(compared=compared, plot=picture))
