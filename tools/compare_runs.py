"""Prints evaluations side by side: what was seen, how long training took, how often it was right.

Usage: python tools/compare_runs.py EVAL_FOLDER...
"""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fvar.store.manifest import CheckpointManifest, PredictionsManifest, locate, read_manifest


def main(folders: list[str]) -> None:
    """Print a row for each evaluation."""
    table = Table(box=None, header_style="bold")
    for column in (
        "clustering",
        "k",
        "split",
        "videos",
        "frames seen",
        "train s",
        "top-1",
        "mean class",
    ):
        table.add_column(column, justify="left" if column in {"clustering", "split"} else "right")
    for folder in folders:
        path = locate(Path(folder))
        manifest = read_manifest(path, PredictionsManifest)
        training = read_manifest(path.parent / manifest.inputs[0].path, CheckpointManifest)
        summary = manifest.summary
        table.add_row(
            summary.clustering,
            str(summary.clusters),
            summary.split,
            str(summary.evaluated),
            str(summary.frames),
            f"{training.summary.seconds:.0f}",
            f"{summary.top1:.1%}",
            f"{summary.mean_class_accuracy:.1%}",
        )
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
