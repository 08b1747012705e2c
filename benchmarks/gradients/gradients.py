"""The paper's claim, measured: how close the gradient through the clustering is to that over all frames.

Usage: python benchmarks/gradients/gradients.py --out FOLDER [--videos 16] NAME=TRAINING [NAME=TRAINING ...]

Each TRAINING is a folder that `fvar train` wrote; its network is measured as it was after its last epoch, on
videos it was trained on, with and without temporal shift. Prints a table for each and writes gradients.csv
and gradients.png.
"""

import argparse
import csv
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path

import torch
from gradient_cosines import STAGES, LabelledClip, without_shift
from gradient_plot import draw_cosines
from gradient_statistics import BATCH, CLUSTERS, Cosine, measure
from rich.console import Console
from rich.table import Table

from cli.console import ConsoleReporter
from fvar.errors import FvarError
from fvar.loading.dataset import StoredVideo, VideoDataset
from fvar.loading.sampling import draw_key
from fvar.loading.view import evaluation_view
from fvar.store.files import atomic_open
from fvar.training.distributed import join_world
from fvar.training.trained_run import open_trained_run

COLUMNS = (
    "data",
    "network",
    "shift",
    "method",
    "k",
    "scope",
    "stage",
    "cosine",
    "standard_error",
    "n",
    "seconds_per_video",
    "over_even",
    "over_even_standard_error",
)
SHIFTS = {"on": CLUSTERS, "off": (8,)}  # at which k; off is a check on one argument, so one will do
TABLE_WIDTH = 144  # also where the output is no terminal

Row = tuple[str, str, str, Cosine]  # data, network, shift, what was found


def spread_over_classes(videos: Sequence[StoredVideo], num: int) -> list[StoredVideo]:
    """Return `num` videos in turn from each class, within a class in an order that their ids alone decide."""
    by_class: dict[int, list[StoredVideo]] = {}
    for video in sorted(videos, key=lambda video: draw_key(video.id, "gradients")):
        by_class.setdefault(video.label, []).append(video)
    turns = zip_longest(*(by_class[label] for label in sorted(by_class)))
    return [video for video in chain.from_iterable(turns) if video is not None][:num]


def labelled_clips(dataset: VideoDataset) -> Iterator[LabelledClip]:
    """Yield videos with all their pictures, one at a time."""
    for at in range(len(dataset)):
        clip = dataset[0, at]
        yield LabelledClip(clip.id, clip.pictures(range(clip.num_frames)), clip.label)


def measure_training(name: str, folder: Path, *, num: int) -> Iterator[list[Row]]:
    """Yield what is found of one training with the temporal shift on, then off."""
    with join_world("cpu") as world:
        run = open_trained_run(folder, checkpoint="last", world=world)
        frames = run.open_frames(None, world)
        videos = spread_over_classes(frames.videos("train", run.classes, allow_partial=False), num)
        view = replace(evaluation_view(run.config), num_samples=None)
        dataset = VideoDataset(frames.folder, videos, view, device=world.device)
        recognizer, shifted = run.recognizer, run.recognizer.backbone
        for shift, clusters in SHIFTS.items():
            recognizer.backbone = shifted if shift == "on" else without_shift(shifted)
            title = f"{name}, shift {shift}"
            with ConsoleReporter().progress(title, total=len(videos), unit="videos") as bar:
                clips = labelled_clips(dataset)
                found = measure(recognizer, clips, clusters=clusters, advance=bar.advance)
            yield [(name, run.config.backbone, shift, one) for one in found]


def cosine_table(title: str, found: Sequence[Cosine]) -> Table:
    """Lay out one data set: a row a method and k, mean and standard error a stage, the batch, the time.

    Beside the whole gradient stands how much closer than `even` it is on the same videos.
    """
    table = Table(title=title, box=None, header_style="bold")
    for column in ("method", "k", *STAGES, "over even", "all, batch", "s/video"):
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    cells = {(one.method, one.clusters, one.scope, one.stage): one for one in found}
    for method, k in dict.fromkeys((one.method, one.clusters) for one in found):
        by_stage = [cells[method, k, "video", stage] for stage in STAGES]
        whole, batch = by_stage[-1], cells.get((method, k, "batch", "all"))
        table.add_row(
            method,
            "" if k is None else str(k),
            *(_shown(one.mean, one.error) for one in by_stage),
            _shown(whole.over_even, whole.over_even_error),
            "" if batch is None else _shown(batch.mean, batch.error),
            "" if whole.seconds is None else f"{whole.seconds:.2f}",
        )
    return table


def _shown(mean: float | None, error: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.2f}" if error is None else f"{mean:.2f} ±{error:.2f}"


def write_cosines(path: Path, rows: Sequence[Row]) -> None:
    """Write a row a cosine: data, network, shift and what was found."""
    with atomic_open(path, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for data, network, shift, one in rows:
            measured = (
                one.mean,
                one.error,
                one.num,
                one.seconds,
                one.over_even,
                one.over_even_error,
            )
            shown = ["" if v is None else f"{v:.6g}" for v in measured]
            k = "" if one.clusters is None else one.clusters
            writer.writerow([data, network, shift, one.method, k, one.scope, one.stage, *shown])


def print_table(rows: Sequence[Row]) -> None:
    """Print what was found of one training with one setting of the shift."""
    data, network, shift, _one = rows[0]
    found = [row[3] for row in rows]
    num = max(one.num for one in found)
    title = f"{data}: {network}, shift {shift}, {num} videos"
    Console(width=TABLE_WIDTH).print(cosine_table(title, found), "")


def write_files(rows: Sequence[Row], out_dir: Path) -> None:
    """Write gradients.csv and, of single videos with the shift on, gradients.png."""
    write_cosines(out_dir / "gradients.csv", rows)
    shifted: dict[str, list[Cosine]] = {}
    for data, network, shift, one in rows:
        if shift == "on" and one.scope == "video":
            shifted.setdefault(f"{data}: {network}", []).append(one)
    draw_cosines(out_dir / "gradients.png", shifted)


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r}: must be NAME=TRAINING")
    return name, Path(folder)


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trainings", nargs="+", type=_named_folder, metavar="NAME=TRAINING")
    parser.add_argument("--out", type=Path, required=True, help="folder of the table and the plot")
    parser.add_argument("--videos", type=int, default=16, help="of each training")
    flags = parser.parse_args()
    names = [name for name, _folder in flags.trainings]
    if len(set(names)) < len(names):
        parser.error(f"names {', '.join(names)}: must differ")
    if flags.videos < 2:
        parser.error(f"--videos {flags.videos}: must be at least 2")
    return flags


def main() -> None:
    """Measure every training that the command line names; what is measured is kept, whatever comes after."""
    flags = _flags()
    rows: list[Row] = []
    try:
        for name, folder in flags.trainings:
            for found in measure_training(name, folder, num=flags.videos):
                print_table(found)
                rows += found
                write_files(rows, flags.out)
    except FvarError as error:
        sys.exit(f"error: {error}")
    print(
        f"cosine to the gradient over all frames, ± standard error; batch: sums over {BATCH} videos"
    )
    print(f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}")
    print(f"table: {flags.out / 'gradients.csv'}, plot: {flags.out / 'gradients.png'}")


if __name__ == "__main__":
    main()
