"""Which frames are averaged into which rows: what every sweep after the first goes by.

Letters: B videos, T frames, n frames of a chunk, K clusters.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fvar.model.clustering import Runs, averaging_matrix
from fvar.model.interface import Clip


@dataclass(frozen=True)
class Membership:
    """Which frames of each video are averaged into which rows.

    Attributes:
        frames: Of each video, rising: all, or those that a cheaper backward pass visits.
        starts: (B, K) int64, first frame of each run.
        stops: (B, K) int64, one past the last.
        sizes: (B, K) int64, how many of `frames` are in each run.
        on_host: `starts` and `stops`, copied once a step, so that no chunk waits for the device.
    """

    frames: Sequence[Sequence[int]]
    starts: Tensor
    stops: Tensor
    sizes: Tensor
    on_host: tuple[list[list[int]], list[list[int]]]

    @classmethod
    def of_all(cls, runs: Runs, clips: Sequence[Clip]) -> "Membership":
        """Every frame is averaged."""
        on_host = runs.starts.tolist(), runs.stops.tolist()
        frames = [range(clip.num_frames) for clip in clips]
        return cls(frames, runs.starts, runs.stops, runs.stops - runs.starts, on_host)

    def thinned(self, share: float, clips: Sequence[Clip]) -> "Membership":
        """Draw a share of each run's frames, at least one: their mean is the run's in expectation."""
        if share == 1:
            return self
        drawn = [
            [
                _draw(span, share, np.random.default_rng([clip.cut_key, row]))
                for row, span in enumerate(zip(*runs, strict=True))
            ]
            for clip, *runs in zip(clips, *self.on_host, strict=True)
        ]
        return replace(
            self,
            frames=[sorted({frame for run in runs for frame in run}) for runs in drawn],
            sizes=torch.tensor([[len(run) for run in runs] for runs in drawn]).to(
                self.sizes.device
            ),
        )

    def chunks(self, video: int, chunk_frames: int) -> Iterator[Sequence[int]]:
        """Yield the frames of a video, so many at once."""
        frames = self.frames[video]
        for first in range(0, len(frames), chunk_frames):
            yield frames[first : first + chunk_frames]

    def matrix(
        self, video: int, chunk: Sequence[int], *, dtype: torch.dtype
    ) -> tuple[slice, Tensor]:
        """Return the rows that `chunk` touches, all next to each other, and their averaging matrix."""
        starts, stops = (ends[video] for ends in self.on_host)
        rows = slice(bisect_right(stops, chunk[0]), bisect_left(starts, chunk[-1] + 1))
        return rows, averaging_matrix(
            self.starts[video, rows],
            self.stops[video, rows],
            self.sizes[video, rows],
            frames=torch.tensor(chunk, device=self.starts.device),
            dtype=dtype,
        )


def _draw(span: tuple[int, int], share: float, generator: np.random.Generator) -> list[int]:
    """Draw a share of the frames [start, stop), rounded up."""
    size = span[1] - span[0]
    drawn = generator.choice(size, math.ceil(share * size), replace=False)
    return [span[0] + int(frame) for frame in drawn]
