"""``fvar compare``: evaluations -> a table, and a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import print_summary, print_table
from cli.options import Overwrite

if TYPE_CHECKING:
    from fvar.report.comparison import Compared

_FIGURES = ("clustering", "k", "frames seen", "train s", "top-1", "mean class", "minus first", "p")
_FLIPS = ("gained", "lost")


def compare(
    evaluations: Annotated[
        list[Path], typer.Argument(help="Folders that `fvar eval` wrote, of the same videos.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the tables and the page; without it no file.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare evaluations of the same videos with the first of them.

    Accuracies are in %, with 95 % intervals from resampling the videos.
    Differences are paired by video; p is McNemar's exact test. Writes
    OUT/comparison.csv, OUT/flips.csv, OUT/comparison.png and OUT/index.html.

    [bold]Examples[/bold]

    fvar compare runs/a/eval runs/b/eval

    fvar compare runs/a/eval runs/b/eval --out runs/a-b
    """
    from fvar.stages import compare as stage

    compared = stage.compare(evaluations, out, overwrite=overwrite)
    columns = [_cells(found) for found in compared]
    names = [found.evaluation.name for found in compared]
    print_table(("", *names), list(zip((*_FIGURES, *_FLIPS), *columns, strict=True)))
    figures = {"videos compared": compared[0].evaluation.summary.labelled}
    then = None if out is None else ["fvar", "verify", out]
    print_summary("compare", figures, wrote=out, then=then)


def _cells(found: "Compared") -> list[str]:
    evaluation, summary = found.evaluation, found.evaluation.summary
    seconds = evaluation.train_seconds
    cells = [
        *(summary.clustering, str(summary.clusters), str(summary.frames)),
        "" if seconds is None else f"{seconds:.0f}",
        *(str(found.top1), str(found.mean_class)),
    ]
    if found.difference is None or found.p is None:
        return [*cells, "", "", "", ""]
    counts = (str(len(found.gained)), str(len(found.lost)))
    return [*cells, str(found.difference), f"{found.p:.2g}", *counts]
