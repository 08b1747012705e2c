"""Prints the accuracy tables in Markdown from the runs' CSVs, and draws accuracy against evidence share.

Usage: python benchmarks/accuracy/report.py [--results benchmarks/results] [--plot FILE.png]

Accuracies are means over seeds and folds. Intervals are 95 % bootstrap intervals over videos; each video
counts with its mean over the seeds. p is McNemar's exact test on the first seed.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fvar.report.intervals import bootstrap, mcnemar_p

Row = dict[str, str]
REFERENCES = ("uniform 8", "even 8", "cumulative 8")
CHANCE = 0.25  # of the toy set
LINES = {  # of the plot: color, dashes
    "uniform 8": ("#999999", "--"),
    "uniform 32": ("#999999", ":"),
    "even 8": ("#333333", "-"),
    "cumulative 8": ("#1f77b4", "-"),
    "variance 8": ("#d62728", "-"),
    "windowed 8": ("#2ca02c", "-"),
}


@dataclass(frozen=True)
class Measured:
    """All runs of one method on one data set.

    Attributes:
        right: (seeds, videos), whether each test video was recognized; videos of all folds one after another.
        rows: Of the CSV.
    """

    right: npt.NDArray[np.float64]
    rows: Sequence[Row]

    @property
    def by_video(self) -> npt.NDArray[np.float64]:
        """(videos,) means over the seeds."""
        return self.right.mean(axis=0)

    def mean(self, column: str) -> str:
        """Return the mean of a column over the runs, in %; empty where it has no values."""
        values = [float(row[column]) for row in self.rows if row[column]]
        return f"{100 * np.mean(values):.0f}" if values else ""

    @property
    def seconds(self) -> float:
        """Mean seconds of a training."""
        return float(np.mean([float(row["train_seconds"]) for row in self.rows]))


def main() -> None:
    """Print every table whose CSV is there, and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--plot", type=Path, default=Path("docs/accuracy-by-share.png"))
    flags = parser.parse_args()
    for name in ("untrimmed", "trimmed", "settings"):
        path = flags.results / f"{name}.csv"
        if path.exists():
            for data, methods in read_results(path).items():
                print_table(f"{name}: {data}", methods)
    toy = flags.results / "toy.csv"
    if toy.exists():
        results = read_results(toy)
        print_toy(results)
        draw_toy(results, flags.plot)


def read_results(path: Path) -> dict[str, dict[str, Measured]]:
    """Return the runs of a table by data set and method."""
    found: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    with path.open() as file:
        for row in csv.DictReader(file):
            method = f"{row['clustering']} {row['clusters']}"
            label = f"{method}, {row['settings']}" if row["settings"] else method
            found[row["data"]][label].append(row)
    return {
        data: {method: join(rows) for method, rows in methods.items()}
        for data, methods in found.items()
    }


def join(rows: Sequence[Row]) -> Measured:
    """Return the runs of one method on one data set; seeds that lack a fold are left out."""
    by_seed: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        by_seed[row["seed"]][row["fold"]] = row["right"]
    folds = sorted(set.union(*(set(of_seed) for of_seed in by_seed.values())))
    complete = [by_seed[seed] for seed in sorted(by_seed) if set(by_seed[seed]) == set(folds)]
    right = [[int(bit) for fold in folds for bit in of_seed[fold]] for of_seed in complete]
    return Measured(np.array(right, np.float64), rows)


def print_table(title: str, methods: dict[str, Measured]) -> None:
    """Print one data set: a line for each method, with its differences to the references."""
    print(f"\n### {title}\n")
    references = [name for name in REFERENCES if name in methods]
    heads = ["method", "seeds", "videos", "top-1 %", *(f"minus {name}" for name in references)]
    print_row([*heads, "clusters on the action %", "best cluster on it %", "training, s"])
    print_row(["---"] * (len(heads) + 3))
    for name, found in methods.items():
        cells = [name, *map(str, found.right.shape), str(bootstrap(found.by_video))]
        cells += [compare(found, methods[reference]) for reference in references]
        cells += [found.mean("share_of_clusters"), found.mean("hit"), f"{found.seconds:.0f}"]
        print_row(cells)


def print_row(cells: Sequence[str]) -> None:
    """Print a line of a Markdown table."""
    print("| " + " | ".join(cells) + " |")


def compare(found: Measured, reference: Measured) -> str:
    """Return the paired difference in points, its interval and p; empty where other videos were seen."""
    if found is reference or len(found.by_video) != len(reference.by_video):
        return ""
    first, second = found.right[0] > 0, reference.right[0] > 0
    p = mcnemar_p(int((first & ~second).sum()), int((second & ~first).sum()))
    return f"{bootstrap(found.by_video - reference.by_video)}, p = {p:.2g}"


def print_toy(results: dict[str, dict[str, Measured]]) -> None:
    """Print the toy table: a line for each data set, a column for each method."""
    methods = sorted({name for found in results.values() for name in found})
    print("\n### toy: top-1 %\n")
    print_row(["layout", "informative %", "noise", *methods])
    print_row(["---"] * (len(methods) + 3))
    for data, found in results.items():
        cells = [
            f"{100 * found[name].by_video.mean():.0f}" if name in found else "" for name in methods
        ]
        print_row([*data.split("-"), *cells])


def draw_toy(results: dict[str, dict[str, Measured]], path: Path) -> None:
    """Draw accuracy against the share of informative frames, one panel for each layout and noise."""
    panels = sorted({tuple(data.split("-")[::2]) for data in results})
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    axes = figure.subplots(2, -(-(len(panels) + 1) // 2), sharey=True, squeeze=False).ravel()
    for (layout, noise), ax in zip(panels, axes, strict=False):
        for name, (color, dashes) in LINES.items():
            points = list(points_of(results, layout, noise, name))
            if points:
                ax.plot(*zip(*points, strict=True), dashes, color=color, marker="o", label=name)
        finish(ax, f"{layout}, noise {noise}")
    axes[0].set_ylabel("top-1, %")
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    axes[-1].legend(handles, labels, loc="center", frameon=False, fontsize=11)
    figure.savefig(path, dpi=110)
    print(f"\nwrote {path}")


def points_of(
    results: dict[str, dict[str, Measured]], layout: str, noise: str, name: str
) -> Iterator[tuple[int, float]]:
    """Yield a method's share of informative frames in % and its accuracy in %, by share."""
    for data in sorted(results, key=lambda data: int(data.split("-")[1])):
        found = results[data].get(name)
        if data.split("-")[::2] == [layout, noise] and found is not None:
            yield int(data.split("-")[1]), 100 * float(found.by_video.mean())


def finish(ax: Axes, title: str) -> None:
    """Label a panel."""
    ax.set_title(title)
    ax.set_xscale("log")
    ax.set_xticks([1, 2, 5, 10, 30], ["1", "2", "5", "10", "30"])
    ax.set_xlabel("frames that show a digit, %")
    ax.axhline(100 * CHANCE, color="#cccccc", linewidth=1)
    ax.set_ylim(0, 103)


if __name__ == "__main__":
    main()
