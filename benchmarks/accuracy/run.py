"""Trains and evaluates the runs of an accuracy table with fvar's own stages; one row of a CSV for each run.

Usage: python benchmarks/accuracy/run.py TABLE DATA [--weights FILE] [--work DIR] [--results DIR] [--only T]

TABLE is toy, untrimmed, trimmed or settings. DATA is a folder with `ut_interaction` and `long` in it. A run
whose row is in the CSV is not repeated, so an interrupted table goes on. Several processes may share a table:
with `--only` each takes the runs whose description contains one of the texts. Everything runs on one thread.
"""

import argparse
import csv
import datetime as dt
import fcntl
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, astuple, dataclass, fields
from itertools import groupby
from pathlib import Path
from unittest.mock import patch

import torch
from experiments import TABLES, Run
from places import Place, look_at_places, read_places
from shared_pass import fill_cache
from toy_stem import train_toy_stem
from videos import make_frames

import fvar
from fvar.config import EvalConfig, TrainConfig
from fvar.model.build import freezes_stem
from fvar.model.clusterings import load_clustering
from fvar.names import clustering_names
from fvar.reporting import SilentReporter
from fvar.stages.evaluate import evaluate
from fvar.stages.train import train
from fvar.store.frame_store import FrameStore
from fvar.system import processor_model

COLUMNS = (
    *(field.name for field in fields(Run)),
    *("epochs", "train_seconds", "num_right", "num_videos", "right"),
    *("share_of_clusters", "hit", "date", "machine", "versions"),
)


@dataclass(frozen=True)
class Paths:
    """Where things are.

    Attributes:
        data: Holds `ut_interaction` and `long`.
        work: Data sets, trainings and what a frozen stem made of the videos; may be deleted afterwards.
        weights: Starting weights of MobileNetV2; the toy table needs none.
        table: The CSV.
    """

    data: Path
    work: Path
    weights: Path | None
    table: Path


def main() -> None:
    """Run what is missing of a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--only", nargs="*", default=[""])
    flags = parser.parse_args()
    torch.set_num_threads(1)
    table = flags.results / f"{flags.table}.csv"
    paths = Paths(flags.data, flags.work, flags.weights, table)
    runs = [run for run in TABLES[flags.table]() if any(text in str(run) for text in flags.only)]
    for _, group in groupby(runs, key=lambda run: (run.data, run.fold, run.settings)):
        run_all(list(group), paths)


def run_all(runs: Sequence[Run], paths: Paths) -> None:
    """Run what is missing of the runs on one extraction that differ in clustering, k and seed alone."""
    missing = [run for run in runs if not is_done(run, paths.table)]
    if not missing:
        return
    data = missing[0].data
    weights = train_toy_stem(paths.work) if "-" in data else paths.weights
    if weights is None:
        raise SystemExit("--weights: trainings on real clips need starting weights of MobileNetV2")
    frames = make_frames(data, missing[0].fold, paths.data, paths.work)
    configs = [run.config(weights.resolve()) for run in missing]
    kept = {(c.clustering, c.clusters): c for c in configs if keeps_representations(c)}
    started = time.perf_counter()
    made = fill_cache(frames, frames.parent / "train", list(kept.values())) if kept else 0
    print(
        f"{data}: a pass made {made} entries in {time.perf_counter() - started:.0f} s", flush=True
    )
    places = read_places(frames.parent)
    for run, config in zip(missing, configs, strict=True):
        if not is_done(run, paths.table):  # another process may have done it
            append(paths.table, run, measure(run, config, frames, places))
            print(*astuple(run), flush=True)


def keeps_representations(config: TrainConfig) -> bool:
    """Return whether a training reads no frame after the first pass."""
    name = config.clustering
    return (
        freezes_stem(config) and name in clustering_names() and not load_clustering(name).IS_RANDOM
    )


def measure(
    run: Run, config: TrainConfig, frames: Path, places: Mapping[str, Place]
) -> dict[str, object]:
    """Train and evaluate one run; return the columns of its row."""
    name = "-".join(str(part) for part in astuple(run)[1:])
    out = frames.parent / f"train-{name.replace(' ', '-')}"
    evaluation = out.with_name(out.name + "-eval")
    frames_are_read = nullcontext() if not keeps_representations(config) else refuse_reading()
    with frames_are_read:
        trained = train(frames, out, config, SilentReporter(), overwrite=True)
        settings = EvalConfig(workers=0, cache_gb=config.cache_gb)
        evaluate(out, evaluation, settings, SilentReporter(), overwrite=True)
        share, hit = look_at_places(out, places, settings) if places else (None, None)
    with (evaluation / "predictions.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["id"])
    right = "".join(str(int(row["label"] == row["predicted"])) for row in rows)
    shutil.rmtree(out)
    shutil.rmtree(evaluation)
    return {
        "epochs": config.epochs,
        "train_seconds": f"{trained.summary.seconds:.1f}",
        "num_right": right.count("1"),
        "num_videos": len(right),
        "right": right,
        "share_of_clusters": "" if share is None else f"{share:.4f}",
        "hit": "" if hit is None else f"{hit:.4f}",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{processor_model()}, 1 thread",
        "versions": f"fvar {fvar.__version__}, torch {torch.__version__}",
    }


@contextmanager
def refuse_reading() -> Iterator[None]:
    """Let nothing read frames: what the pass made must be found."""

    def refuse(*_: object) -> None:
        raise SystemExit("a frame was read: what the shared pass kept was not found")

    with patch.object(FrameStore, "read", refuse):
        yield


def is_done(run: Run, table: Path) -> bool:
    """Return whether the table has the run's row."""
    if not table.exists():
        return False
    wanted = [str(value) for value in astuple(run)]
    with table.open() as file:
        return any(
            [row[field.name] for field in fields(Run)] == wanted for row in csv.DictReader(file)
        )


def append(table: Path, run: Run, measured: Mapping[str, object]) -> None:
    """Add a row, also while another process adds one."""
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("a", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        writer = csv.DictWriter(file, COLUMNS)
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(asdict(run) | measured)


if __name__ == "__main__":
    main()
