"""From activations to clusters: what is measured of the frames and the cut, as functions of tensors.

Source: "No frame left behind: Full Video Action Recognition", CVPR 2021 (Hamming distances of ReLU sign
patterns); the edge cases are settled so that no frame is ever dropped. Where a video is cut is decided by one
of the files in `clusterings`.

Letters: B videos, T frames of a video, N = sum of all T, n frames of a chunk, K clusters, M = C*H*W
activations of a frame, D numbers of its descriptor. Frames of several videos are concatenated, without
padding; ``lengths`` says how many belong to each. Distances are integers, because exact ties are common and
float sums would break them differently at every size. Nothing here loops over frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fvar.model.clusterings import load_clustering

_CELLS = (4, 2, 1)  # per side of the grid of a descriptor
_LONGEST_DESCRIPTOR = 16384  # D: 32 KB per frame


@dataclass(frozen=True)
class Clusters:
    """K clusters of frames for each of B videos; cluster j of video b holds the frames ``[starts, stops)``.

    For T >= K the clusters are a partition of [0, T). For T < K cluster j is frame ``floor(j*T/K)`` alone, so
    that every frame appears, some repeatedly.

    Attributes:
        starts: (B, K) int64, first frame of each cluster, counted within its video.
        stops: (B, K) int64, one past the last frame.
    """

    starts: Tensor
    stops: Tensor

    def __repr__(self) -> str:
        videos, clusters = self.starts.shape
        return f"Clusters(videos={videos}, clusters={clusters})"


def flatten_frames(activations: Tensor) -> Tensor:
    """Return each frame's activations as a vector, (n, C, H, W) -> (n, M): of channels last, a view."""
    return activations.permute(0, 2, 3, 1).flatten(1)


def sign_pattern(activations: Tensor) -> Tensor:
    """Return which activations are on, ``x > 0``: (n, C, H, W) -> M bits for each frame.

    After a ResNet stage this is the ReLU's own pattern; after a MobileNetV2 stage, a linear projection, it is
    the sign pattern as a stand-in. On a CPU 8 bits are packed into a byte, (n, ceil(M/8)) uint8; elsewhere
    each is a byte, (n, M) bool.
    """
    flat = flatten_frames(activations)
    if flat.device.type != "cpu":
        return flat > 0
    # By numpy, whose comparison takes half the time of torch's; it knows no bfloat16.
    on = flat.to(torch.promote_types(flat.dtype, torch.float32)).numpy() > 0
    return torch.from_numpy(np.packbits(on, axis=1))


def step_distances(patterns: Tensor) -> Tensor:
    """Return the Hamming distance of each frame's pattern to the next one's: n patterns -> (n-1,) int64."""
    differing = patterns[1:] ^ patterns[:-1]
    if differing.dtype == torch.bool:
        return _count_bytes(differing)
    return torch.from_numpy(np.bitwise_count(differing.numpy()).sum(axis=1, dtype=np.int64))


def _count_bytes(differing: Tensor) -> Tensor:
    """Add 128 at a time in bytes, which hold 255: 7 times faster than in int32 at once."""
    num_frames, num_sums = len(differing), differing.shape[1] // 128
    whole = num_sums * 128
    in_bytes = differing[:, :whole].reshape(num_frames, 128, num_sums).sum(1, dtype=torch.uint8)
    counts = in_bytes.sum(1, dtype=torch.int32) + differing[:, whole:].sum(1, dtype=torch.int32)
    return counts.to(torch.int64)


def descriptors(activations: Tensor) -> Tensor:
    """Return what each frame shows where: the mean of each channel in the cells of a grid, in float16.

    The grid has 4 x 4 cells, or fewer where there are so many channels that a descriptor would take more than
    32 KB. A value of float16 is a multiple of 2**-24 below 2**16, so sums over thousands of frames are exact
    in float64: the boundaries depend neither on the order of the sums nor on the chunks.

    Args:
        activations: (n, C, H, W).

    Returns:
        (n, D) float16, finite.
    """
    channels = activations.shape[1]
    cells = next(g for g in _CELLS if g * g * channels <= _LONGEST_DESCRIPTOR or g == 1)
    pooled = torch.nn.functional.adaptive_avg_pool2d(activations.float(), cells).flatten(1)
    return pooled.to(torch.float16).nan_to_num()


class Measured:
    """What was measured of the frames of a batch: chunk by chunk, video by video."""

    def __init__(self, *, distances: bool, descriptors: bool) -> None:
        """Begin without a frame.

        Args:
            distances: Measure step distances.
            descriptors: Measure descriptors.
        """
        self._steps: list[Tensor] | None = [] if distances else None
        self._descriptors: list[Tensor] | None = [] if descriptors else None
        self._before: tuple[int, Tensor] | None = None  # the last frame's video and pattern

    @torch.no_grad()
    def add(self, video: int, activations: Tensor) -> None:
        """Measure the next frames of a video, or the first ones of the next: (n, C, H, W)."""
        if self._descriptors is not None:
            self._descriptors.append(descriptors(activations))
        if self._steps is None:
            return
        pattern = sign_pattern(activations)
        if self._before is not None:
            video_before, before = self._before
            between = step_distances(torch.cat([before, pattern[:1]]))
            self._steps.append(between if video == video_before else 0 * between)
        self._steps.append(step_distances(pattern))
        self._before = video, pattern[-1:].clone()  # not a view, which would hold the chunk's

    @property
    def steps(self) -> Tensor | None:
        """Step distances (N,) int64, 0 at the last frame of each video; None where not measured.

        The step from each chunk to the next counts like those within.
        """
        if self._steps is None:
            return None
        return torch.nn.functional.pad(torch.cat(self._steps), (0, 1))

    def needed_by(self, clustering: str, *, device: torch.device) -> Tensor:
        """Return what a clustering needs, all N frames' distances or descriptors; else an empty tensor."""
        with torch.autocast(
            device.type, enabled=False
        ):  # it cannot join float16 where it computes in bfloat16
            needed = {
                "distances": self.steps,
                "descriptors": None if self._descriptors is None else torch.cat(self._descriptors),
                "nothing": None,
            }[load_clustering(clustering).NEEDS]
        return torch.empty(0, device=device) if needed is None else needed


def cluster(
    clustering: str,
    measured: Tensor,
    lengths: Tensor,
    *,
    num_clusters: int,
    cut_keys: Sequence[int] = (),
) -> Clusters:
    """Cut B videos into K clusters each.

    Args:
        clustering: The name of a file in `clusterings`.
        measured: What the clustering needs, of all N frames: step distances (N,) int64, 0 at the last frame
            of each video, or descriptors (N, D); otherwise anything.
        lengths: (B,) int64, frames of each video, all at least 1.
        num_clusters: K.
        cut_keys: For ``random``: a seed for each video.

    Returns:
        The clusters, on the device of `lengths`.
    """
    cuts = load_clustering(clustering).boundaries(measured, lengths, num_clusters, cut_keys)
    first, last = torch.zeros_like(lengths)[:, None], lengths[:, None]
    ranks = torch.arange(num_clusters, device=lengths.device)
    repeated = ranks * lengths[:, None] // num_clusters  # (B, K): cluster j is frame floor(j*T/K)
    short = last < num_clusters
    return Clusters(
        starts=torch.where(short, repeated, torch.cat([first, cuts], dim=1)),
        stops=torch.where(short, repeated + 1, torch.cat([cuts, last], dim=1)),
    )
