"""One training step by each engine: time, peak memory and their ratios, each in a process of its own.

Usage: python tests/benchmarks/engines.py [--backbone resnet50] [--size 112] [--frames 32 64 128]

Pictures are random and made when asked for, as a clip's are decoded when asked for; a step is forward and
backward of one video with frozen batch norm statistics and a stem that trains. Peak memory is the process's
largest resident set beyond what it held before the step.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table

from fvar.config import TrainConfig
from fvar.model.build import build_recognizer
from fvar.training.host_memory import keep_freed_memory

REPEATS = 3  # of which the fastest counts: others ran beside something else
_KB_PER_MB = 1024


class RandomClip:
    """A video of noise, the same at every call."""

    cut_key = 0

    def __init__(self, num_frames: int, size: int) -> None:
        self.num_frames, self._size = num_frames, size

    def pictures(self, frames: Sequence[int]) -> torch.Tensor:
        """Return (n, 3, S, S) float32, each frame from its own seed."""
        pictures = torch.empty(len(frames), 3, self._size, self._size)
        for row, frame in enumerate(frames):
            pictures[row].normal_(generator=torch.Generator().manual_seed(frame))
        return pictures


def measure(backbone: str, engine: str, num_frames: int, size: int) -> tuple[float, float]:
    """Return seconds and MB of one step, in this process."""
    keep_freed_memory()
    config = TrainConfig(
        backbone=backbone,
        weights="none",
        norm="frozen",
        freeze_stem=False,
        engine=engine,
        size=size,
    )
    recognizer = build_recognizer(config, num_classes=10)
    recognizer([RandomClip(8, size)]).sum().backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        recognizer([RandomClip(num_frames, size)]).sum().backward()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return min(seconds), (peak - before) / _KB_PER_MB


def measure_apart(backbone: str, engine: str, num_frames: int, size: int) -> tuple[float, float]:
    """Return what `measure` does, from a fresh process."""
    command = [sys.executable, __file__, "--one", backbone, engine, str(num_frames), str(size)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(answer[0]), float(answer[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--frames", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        backbone, engine, num_frames, size = flags.one
        print(*measure(backbone, engine, int(num_frames), int(size)))
        return
    title = f"{flags.backbone}, {flags.size} px, k = 8, float32: chunked against plain"
    table = Table(title=title, box=None, header_style="bold")
    for column in ("frames", "plain s", "chunked s", "ratio", "plain MB", "chunked MB", "ratio"):
        table.add_column(column, justify="right")
    for num_frames in flags.frames:
        (plain_s, plain_mb), (chunked_s, chunked_mb) = (
            measure_apart(flags.backbone, engine, num_frames, flags.size)
            for engine in ("plain", "chunked")
        )
        table.add_row(
            str(num_frames),
            f"{plain_s:.2f}",
            f"{chunked_s:.2f}",
            f"{chunked_s / plain_s:.2f}",
            f"{plain_mb:.0f}",
            f"{chunked_mb:.0f}",
            f"{chunked_mb / plain_mb:.2f}",
        )
    Console(width=100).print(table)
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, fastest of {REPEATS}"
    )


if __name__ == "__main__":
    main()
