"""The picture of gradient cosines: against K, a line a method, a panel a stage, a row of them a data set."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from gradient_cosines import STAGES
from gradient_statistics import CLUSTERS, OTHER_CLASS, SAME_CLASS, Cosine
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from fvar.report.colors import FAINT_INK, INK, PALETTE, RULE

# Adaptive cuts solid, the others dashed; what samples frames dotted.
_LINES = {
    "cumulative": (PALETTE[0], "-", "o"),
    "cumulative by size": (PALETTE[4], "-", "s"),
    "slope": (PALETTE[5], "-", "^"),
    "even": (PALETTE[2], "--", "o"),
    "random": (PALETTE[3], "--", "v"),
    "uniform": (PALETTE[1], ":", "D"),
    "uniform drawn": (FAINT_INK, ":", "x"),
}
_CONTROLS = {SAME_CLASS: "-", OTHER_CLASS: ":"}


def draw_cosines(path: Path, found: Mapping[str, Sequence[Cosine]]) -> None:
    """Write the picture.

    Args:
        path: A .png.
        found: Name of the data -> what was measured on single videos.
    """
    figure = Figure(figsize=(15, 2.5 * len(found) + 0.9), layout="constrained")
    grid = figure.subplots(len(found), len(STAGES), sharex=True, sharey=True, squeeze=False)
    for row, (name, results) in zip(grid, found.items(), strict=True):
        for axes, stage in zip(row, STAGES, strict=True):
            _panel(axes, [result for result in results if result.stage == stage])
        row[0].set_ylabel(f"{name}\ncosine to all frames' gradient", color=INK)
    for axes, stage in zip(grid[0], STAGES, strict=True):
        axes.set_title(stage, color=INK, fontsize=11)
    for axes in grid[-1]:
        axes.set_xlabel("k, rows per video", color=INK)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80)
    with Image.open(drawn) as picture:  # lines need few colors: a third of the bytes
        picture.convert("RGB").quantize(64).save(path, optimize=True)


def _panel(axes: Axes, results: Sequence[Cosine]) -> None:
    for name, (colour, line, marker) in _LINES.items():
        points = [result for result in results if result.method == name]
        axes.errorbar(
            [point.clusters or 0 for point in points],
            [point.mean for point in points],
            yerr=[point.error or 0.0 for point in points],
            color=colour,
            linestyle=line,
            marker=marker,
            markersize=4,
            linewidth=1.4,
            elinewidth=0.7,
            label=name,
        )
    for name, line in _CONTROLS.items():
        for result in results:
            if result.method == name:
                axes.axhline(result.mean, color=INK, linestyle=line, linewidth=0.8, label=name)
    axes.set_xscale("log", base=2)
    axes.margins(x=0.1)
    axes.set_xticks(CLUSTERS, [str(k) for k in CLUSTERS])
    axes.tick_params(colors=FAINT_INK, labelsize=9)
    axes.grid(axis="y", color=RULE, linewidth=0.5)
    for side in axes.spines.values():
        side.set_color(RULE)
