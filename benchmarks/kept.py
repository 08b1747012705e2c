"""Trainings on kept representations against trainings on sampled frames, in CPU seconds, as ratios.

Usage: python benchmarks/kept.py DATA [--weights FILE] [--epochs 20] [--rounds 2] [--work runs/kept]

DATA is a folder with `ut_interaction` in it: 83 clips to train and 37 to test. The settings are the defaults
of `fvar train` for MobileNetV2 at 112 px. Each training is a command of its own, on one thread, so that
start-up counts. A round trains on all frames without anything kept, then on 8 sampled frames, and then again
on all frames with another rate. Without weights the stem is random and frozen, which takes the same time.
"""

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from measuring import fastest, jpeg_clip, print_machine, print_table, recognizer

from fvar.model.interface import Representations
from fvar.model.recognizer import Recognizer
from fvar.store.manifest import PredictionsManifest
from fvar.store.manifest_file import read_manifest
from fvar.training.representer import Representer

NETWORK = ["--backbone", "mobilenet_v2", "--size", "112"]
FOLDERS = {"all frames": "first", "8 frames sampled": "sampled", "all frames, kept": "second"}

NETWORKS = (("mobilenet_v2", 112, 1), ("resnet50", 224, 1), ("resnet50", 224, 3))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/kept"))
    flags = parser.parse_args()
    print_costs()
    if not (flags.data / "ut_interaction").is_dir():
        print(f"{flags.data}/ut_interaction is not there: kept representations were not measured")
        return
    weights = ["--weights", str(flags.weights)] if flags.weights else ["--weights", "none"]
    settings = [*NETWORK, *weights, "--freeze-stem", "--epochs", str(flags.epochs)]
    extract(flags.data / "ut_interaction", flags.work)
    rounds = [measure(flags.work, settings, seed=2 * at) for at in range(flags.rounds)]
    print_trainings(rounds, flags.epochs)
    print_passes(flags.work, flags.rounds)
    print_machine()


def extract(data: Path, work: Path) -> None:
    """Write the official split's frames to the folder `frames`, unless they are there."""
    if (work / "frames" / "manifest.json").is_file():
        return
    work.mkdir(parents=True, exist_ok=True)
    test = {line.split()[0] for line in (data / "suggested_test.txt").read_text().splitlines()}
    with (data / "all.csv").open() as file, (work / "ut.csv").open("w") as out:
        out.write("id,video,label,split\n")
        for row in csv.DictReader(file):
            split = "test" if row["path"] in test else "train"
            name = row["path"].removesuffix(".avi").replace("/", "-")
            out.write(f"{name},{row['path']},{row['label']},{split}\n")
    fvar("extract", work / "ut.csv", "--videos", data / "videos", "--out", work / "frames")


def measure(work: Path, settings: list[str], *, seed: int) -> dict[str, float]:
    """Train three times; return the CPU seconds of each."""
    for name in (*FOLDERS.values(), "fvar-cache"):
        shutil.rmtree(work / name, ignore_errors=True)
    more = ([], ["--clustering", "uniform"], ["--lr", "0.001"])
    return {
        what: fvar(
            *("train", work / "frames", "--out", work / folder, "--seed", seed, *settings, *extra)
        )
        for (what, folder), extra in zip(FOLDERS.items(), more, strict=True)
    }


def fvar(*arguments: object) -> float:
    """Run a command on one thread, silently; return its CPU seconds."""
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def print_trainings(rounds: list[dict[str, float]], epochs: int) -> None:
    """Print the seconds of each training and their ratio to sampling."""
    print_table(
        f"UT-Interaction, MobileNetV2, 112 px, {epochs} epochs: CPU s, and as a fraction of sampling",
        ("network sees", *(f"round {at + 1}" for at in range(len(rounds))), "ratio"),
        [
            [
                what,
                *(f"{seconds[what]:.0f}" for seconds in rounds),
                f"{ratio(rounds, what):.2f}",
            ]
            for what in FOLDERS
        ],
    )


def ratio(rounds: Iterable[dict[str, float]], what: str) -> float:
    """Return the median over the rounds of a training's time in that of sampling."""
    return statistics.median(seconds[what] / seconds["8 frames sampled"] for seconds in rounds)


def print_passes(work: Path, rounds: int) -> None:
    """Print the seconds of a pass over the test clips: by the stem, and from what it made before."""
    rows = []
    for _ in range(rounds):
        shutil.rmtree(work / "fvar-cache", ignore_errors=True)
        rows.append(
            [evaluation_seconds(work, flag) for flag in ("--no-cache", "--cache", "--cache")]
        )
    print_table(
        "a pass over the 37 test clips: s, start-up not counted",
        ("by the stem", "made and kept", "kept", "kept / by the stem"),
        [[*(f"{s:.2f}" for s in row), f"{row[2] / row[0]:.2f}"] for row in rows],
    )


def evaluation_seconds(work: Path, flag: str) -> float:
    """Evaluate the first training; return the seconds that its summary names."""
    shutil.rmtree(work / "eval", ignore_errors=True)
    fvar("eval", work / "first", "--out", work / "eval", "--split", "test", flag)
    return float(
        read_manifest(work / "eval" / "manifest.json", PredictionsManifest).summary.seconds
    )


def print_costs() -> None:
    """Print what a frame costs the stem, what a video's 8 representations cost the trunk, and their size."""
    rows = []
    for backbone, size, stage in NETWORKS:
        network, sweep = recognizer(
            backbone, size, stage=stage, clustering="cumulative", freeze_stem=True
        )
        representer, clip = Representer(network.backbone, sweep, None), jpeg_clip(64, size)
        mirrored = replace(clip, framing=replace(clip.framing, mirrored=True))
        both = replace(clip, later=[mirrored])
        seen = representer([clip])
        seconds = [
            fastest(partial(representer, [clip]), repeats=3) / 64,
            fastest(partial(representer, [both]), repeats=3) / 64,
            fastest(partial(train_on, network, seen), repeats=3),
        ]
        megabytes = seen.activations.nbytes / 1e6
        rows.append(
            [
                *(backbone, size, stage),
                *(f"{1e3 * s:.1f}" for s in seconds),
                f"{megabytes:.1f}",
                f"{megabytes / 2:.1f}",
            ]
        )
    print_table(
        "costs of a frame in the stem and of 8 representations in the trunk, forward and backward",
        ("network", "px", "stage", "frame ms", "both mirrored ms", "trunk ms", "MB", "MB in fp16"),
        rows,
    )


def train_on(network: Recognizer, seen: Representations) -> None:
    """Run the trunk forward and backward on one video."""
    network.zero_grad()
    torch.nn.functional.cross_entropy(network.classify(seen), torch.zeros(1).long()).backward()


if __name__ == "__main__":
    main()
