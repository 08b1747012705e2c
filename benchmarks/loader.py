"""Does the loader keep a stem busy? Waiting time and memory over an epoch, by number of reading threads.

Usage: python benchmarks/loader.py [--frames RUN/frames] [--videos 40]
       [--backbone mobilenet_v2] [--size 112]

``--frames`` is an extraction; without it 20 videos of 100 made-up pictures are written to a temporary
folder. A batch is one video. The stem is busy when, after the first batch, less than 2 %
of the epoch is spent waiting for the loader; the rest goes to making pictures and to the network. The time to
the first batch is shown in a column of its own.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from measuring import StillClip, print_machine, print_table, recognizer, step
from store import some_store

from fvar.config import TrainConfig
from fvar.loading.batch import load_batches
from fvar.loading.clip import EncodedClip
from fvar.loading.dataset import StoredVideo, VideoDataset
from fvar.loading.view import evaluation_view
from fvar.model.interface import Sweep
from fvar.model.recognizer import Recognizer

CHUNK = 8  # frames, the default of chunk_frames on a CPU
READERS = (0, 1, 2)
MEMORY_VIDEOS = 240  # in the epoch whose memory is watched
_BYTES_PER_MB = 1e6


class TimedClip:
    """A clip that sums the seconds that its pictures take, to decode and to crop."""

    def __init__(self, clip: EncodedClip) -> None:
        self._clip, self.cut_key, self.num_frames = clip, clip.cut_key, clip.num_frames
        self.seconds = 0.0

    def pictures(self, frames: Sequence[int]) -> torch.Tensor:
        """Return (n, 3, S, S) float32."""
        started = time.perf_counter()
        pictures = self._clip.pictures(frames)
        self.seconds += time.perf_counter() - started
        return pictures


@dataclass
class Spent:
    """Seconds of an epoch: waiting for the first batch; then waiting, making pictures, and the total."""

    first: float = 0.0
    waiting: float = 0.0
    pictures: float = 0.0
    total: float = 0.0
    frames: int = 0
    resident_mb: list[float] = field(default_factory=list)

    def fractions(self) -> tuple[str, ...]:
        """Return the first wait, the fractions of waiting, pictures and the rest, and the rate, as cells."""
        rest = self.total - self.waiting - self.pictures
        parts = [f"{part / self.total:.1%}" for part in (self.waiting, self.pictures, rest)]
        return f"{self.first * 1000:.0f} ms", *parts, f"{self.frames / self.total:.0f}"


Use = Callable[[list[EncodedClip]], float]  # a batch; returns the seconds that its pictures took


class Bench:
    """One store, one network, and what can be done with a batch."""

    def __init__(
        self,
        folder: Path,
        videos: list[StoredVideo],
        network: tuple[Recognizer, Sweep],
        size: int,
    ) -> None:
        view = evaluation_view(TrainConfig(size=size))
        self._dataset = VideoDataset(folder, videos, view, device=torch.device("cpu"))
        self._network, self._settings = network
        self._stem = self._network.backbone.folded_stem
        self._weights = [weight.detach() for weight in self._stem.weights()]

    def epoch(self, use: Use, *, readers: int, num_videos: int) -> Spent:
        """Read `num_videos` videos, use each, and return where the time went."""
        batches = [[(0, number % len(self._dataset))] for number in range(num_videos)]
        spent, asked = Spent(), time.perf_counter()
        started = None
        for batch in load_batches(self._dataset, batches, workers=readers):
            got = time.perf_counter()
            if started is None:
                started, spent.first = got, got - asked
            else:
                spent.waiting += got - asked
            spent.pictures += use(batch)
            spent.frames += sum(clip.num_frames for clip in batch)
            spent.resident_mb.append(resident_mb())
            asked = time.perf_counter()
        spent.total = asked - (started or asked)
        return spent

    def nothing(self, _batch: list[EncodedClip]) -> float:
        """Leave a batch alone."""
        return 0.0

    @torch.no_grad()
    def forward(self, batch: list[EncodedClip]) -> float:
        """Sweep the stem over all frames once."""
        clip = TimedClip(batch[0])
        self._sweep(clip)
        return clip.seconds

    def step(self, batch: list[EncodedClip]) -> float:
        """Go forward and backward by the chunked engine."""
        clip = TimedClip(batch[0])
        step(self._network, self._settings, clip)
        return clip.seconds

    @torch.no_grad()
    def stem_rate(self, *, num_frames: int) -> float:
        """Return the frames/s of the stem alone, on pictures that are ready."""
        some = self._dataset[0, 0].pictures(range(CHUNK))
        still = StillClip(some.repeat(num_frames // CHUNK, 1, 1, 1))
        self._sweep(still)
        started = time.perf_counter()
        self._sweep(still)
        return still.num_frames / (time.perf_counter() - started)

    def _sweep(self, clip: TimedClip | StillClip) -> None:
        for first in range(0, clip.num_frames, CHUNK):
            chunk = range(first, min(first + CHUNK, clip.num_frames))
            self._stem(clip.pictures(chunk), self._weights)


def resident_mb() -> float:
    """Return the resident set of this process, in MB; 0 where the system does not say (Linux alone does)."""
    if sys.platform != "linux":
        return 0.0
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _BYTES_PER_MB


def compare_waiting(bench: Bench, *, num_videos: int) -> None:
    """Print where an epoch's time goes, for a forward sweep and for a whole step."""
    for name, use in (
        ("forward sweep of the stem", bench.forward),
        ("forward and backward", bench.step),
    ):
        bench.epoch(use, readers=0, num_videos=2)  # allocations and caches
        rows = [
            (readers, *bench.epoch(use, readers=readers, num_videos=num_videos).fractions())
            for readers in READERS
        ]
        columns = ("readers", "first batch", "waiting", "pictures", "network", "frames/s")
        print_table(f"an epoch of {num_videos} videos, {name}", columns, rows)


def compare_rates(bench: Bench, *, num_videos: int) -> None:
    """Print the loader alone against the stem on pictures that are ready."""
    rows = []
    for readers in READERS:
        stem = bench.stem_rate(num_frames=512)
        spent = bench.epoch(bench.nothing, readers=readers, num_videos=num_videos)
        rate = spent.frames / spent.total
        rows.append((readers, f"{rate:.0f}", f"{stem:.0f}", f"{rate / stem:.0f}"))
    print_table(
        "frames/s of the loader alone and of the stem on ready pictures",
        ("readers", "loader", "stem", "ratio"),
        rows,
    )


def watch_memory(bench: Bench) -> None:
    """Print the memory of the process a tenth into an epoch of reading, half-way, and at its end."""
    marks = {"10 %": MEMORY_VIDEOS // 10, "50 %": MEMORY_VIDEOS // 2, "end": MEMORY_VIDEOS - 1}
    rows = []
    for readers in READERS:
        found = bench.epoch(bench.nothing, readers=readers, num_videos=MEMORY_VIDEOS).resident_mb
        rows.append((readers, *(f"{found[at]:.0f}" for at in marks.values())))
    print_table(f"MB over an epoch of {MEMORY_VIDEOS} videos", ("readers", *marks), rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--videos", type=int, default=40, help="in an epoch with a network")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=112)
    flags = parser.parse_args()
    with some_store(flags.frames) as (folder, videos):
        bench = Bench(folder, videos, recognizer(flags.backbone, flags.size), flags.size)
        watch_memory(bench)
        compare_rates(bench, num_videos=MEMORY_VIDEOS)
        compare_waiting(bench, num_videos=flags.videos)
    print_machine()


if __name__ == "__main__":
    main()
