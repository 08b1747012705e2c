"""From activations to clusters: patterns, step distances and the cut into clusters, as functions of tensors.

Source: "No frame left behind: Full Video Action Recognition", CVPR 2021 (Hamming distances of ReLU sign
patterns); the edge cases are settled so that no frame is ever dropped. Where a video is cut is decided by one
of the files in `clusterings`.

Letters: B videos, T frames of a video, N = sum of all T, n frames of a chunk, K clusters, M = C*H*W
activations of a frame. Frames of several videos are concatenated, without padding; ``lengths`` says how many
belong to each. Distances are integers, because exact ties are common and float sums would break them
differently at every size. Nothing here loops over frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fvar.model.clusterings import even, load_clustering


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


def cluster(
    clustering: str,
    steps: Tensor,
    lengths: Tensor,
    *,
    num_clusters: int,
    cut_keys: Sequence[int] = (),
) -> Clusters:
    """Cut B videos into K clusters each.

    Args:
        clustering: The name of a file in `clusterings`.
        steps: (N,) int64, distance of each frame to the next; 0 at the last frame of each video.
        lengths: (B,) int64, frames of each video, all at least 1.
        num_clusters: K.
        cut_keys: For ``random``: a seed for each video.

    Returns:
        The clusters, on the device of `steps`.
    """
    chosen = load_clustering(clustering)
    cuts = chosen.boundaries(steps, lengths, num_clusters, cut_keys)
    if chosen.NEEDS_DISTANCES:
        still = _total_change(steps, lengths)[:, None] == 0
        cuts = torch.where(still, even.boundaries(steps, lengths, num_clusters), cuts)
    first, last = torch.zeros_like(lengths)[:, None], lengths[:, None]
    ranks = torch.arange(num_clusters, device=lengths.device)
    repeated = ranks * lengths[:, None] // num_clusters  # (B, K): cluster j is frame floor(j*T/K)
    short = last < num_clusters
    return Clusters(
        starts=torch.where(short, repeated, torch.cat([first, cuts], dim=1)),
        stops=torch.where(short, repeated + 1, torch.cat([cuts, last], dim=1)),
    )


def _total_change(steps: Tensor, lengths: Tensor) -> Tensor:
    """Return the sum of each video's step distances: (N,) and (B,) -> (B,) int64."""
    until = torch.nn.functional.pad(steps.cumsum(0), (1, 0))
    stops = lengths.cumsum(0)
    return until[stops] - until[stops - lengths]
