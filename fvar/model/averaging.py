"""From frames to representations and back: which frame counts how much in which cluster.

A representation is a weighted sum of its cluster's frames, ``y = A x``. That is linear, and so is the way
back, ``dL/dx = A^T dL/dy``. For the mean this is ``dL/dx[t] = dL/dy[j] / size[j]``, summed over the clusters
that hold frame t. Any other linear aggregator works in every engine: pass it as `Sweep.aggregator`.

Letters: B videos, T frames, n frames of a chunk, K clusters.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from fvar.model.clustering import Clusters

# (starts, stops, frames, dtype) -> A, as `mean` does it; A is 0 where a frame is not in the cluster.
Aggregator = Callable[[Tensor, Tensor, Tensor, torch.dtype], Tensor]


def mean(starts: Tensor, stops: Tensor, frames: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the averaging matrix A: what each of `frames` counts in the mean of each cluster.

    Args:
        starts: (K,) int64, of one video.
        stops: (K,) int64.
        frames: (n,) int64, of a chunk.
        dtype: Of the result.

    Returns:
        (K, n); over all chunks together each cluster's weights sum to 1.
    """
    member = (frames >= starts[:, None]) & (frames < stops[:, None])
    return member.to(dtype) / (stops - starts)[:, None].to(dtype)


@dataclass(frozen=True)
class Assignment:
    """Which frames of each video are averaged into which representations.

    Attributes:
        clusters: Of all videos.
        aggregator: Gives the weights of the frames.
        on_host: The clusters' starts and stops, copied once per step so that no chunk waits for the device.
        frames: Of each video, rising: all, or those that a cheaper backward pass visits.
        scale: (B, K), how many frames of its cluster a visited frame stands for; None: 1.
    """

    clusters: Clusters
    aggregator: Aggregator
    on_host: tuple[list[list[int]], list[list[int]]]
    frames: Sequence[Sequence[int]]
    scale: Tensor | None = None

    @classmethod
    def of_all_frames(
        cls, clusters: Clusters, lengths: Sequence[int], aggregator: Aggregator
    ) -> "Assignment":
        """Return the assignment in which every frame takes part.

        Raises:
            ValueError: The clusters of a video leave out a frame or overlap.
        """
        on_host = clusters.starts.tolist(), clusters.stops.tolist()
        for starts, stops, length in zip(*on_host, lengths, strict=True):
            _check_partition(starts, stops, length)
        return cls(clusters, aggregator, on_host, [range(length) for length in lengths])

    def sample(self, fraction: float, cut_keys: Sequence[int]) -> "Assignment":
        """Draw a fraction of each cluster's frames, at least one, weighted to give A in expectation."""
        if fraction == 1:
            return self
        drawn = [
            [
                _draw(span, fraction, np.random.default_rng([key, place]))
                for place, span in enumerate(zip(*clusters, strict=True))
            ]
            for key, *clusters in zip(cut_keys, *self.on_host, strict=True)
        ]
        sizes = self.clusters.stops - self.clusters.starts
        num_drawn = torch.tensor([[len(frames) for frames in of_video] for of_video in drawn])
        return replace(
            self,
            frames=[sorted({t for frames in of_video for t in frames}) for of_video in drawn],
            scale=sizes.double() / num_drawn.to(sizes.device),
        )

    def matrix(
        self, video: int, chunk: Sequence[int], *, dtype: torch.dtype
    ) -> tuple[slice, Tensor]:
        """Return the clusters that `chunk` touches, all next to each other, and their averaging matrix."""
        starts, stops = (ends[video] for ends in self.on_host)
        device = self.clusters.starts.device
        # Pinned: a copy from pageable memory makes the host wait for the device, at every chunk.
        frames = torch.tensor(chunk, pin_memory=device.type == "cuda")
        touched = slice(bisect_right(stops, chunk[0]), bisect_left(starts, chunk[-1] + 1))
        matrix = self.aggregator(
            self.clusters.starts[video, touched],
            self.clusters.stops[video, touched],
            frames.to(device, non_blocking=True),
            dtype,
        )
        if self.scale is not None:
            matrix = matrix * self.scale[video, touched, None].to(dtype)
        return touched, matrix


def _check_partition(starts: Sequence[int], stops: Sequence[int], num_frames: int) -> None:
    """Refuse clusters that do not partition a video of at least K frames: a new clustering may err."""
    bounds = [0, *stops]
    rises = all(a < b for a, b in pairwise(bounds))
    if num_frames >= len(stops) and not (rises and [*starts, num_frames] == bounds):
        raise ValueError(
            f"clusters from {starts} to {stops}: must cover the {num_frames} frames of the video, "
            "each frame once and each cluster with at least one"
        )


def _draw(span: tuple[int, int], fraction: float, generator: np.random.Generator) -> list[int]:
    """Draw a fraction of the frames [start, stop), rounded up."""
    start, stop = span
    drawn = generator.choice(stop - start, math.ceil(fraction * (stop - start)), replace=False)
    return [start + int(frame) for frame in drawn]
