"""The clustering of frames in time: step distances, boundaries and means, as functions of tensors.

Source: "No frame left behind: Full Video Action Recognition", CVPR 2021 (cumulative and slope clustering,
Hamming distances of ReLU sign patterns); the edge cases are settled so that no frame is ever dropped.

Letters: B videos, T frames of a video, N = sum of all T, K clusters, R rows (what the trunk sees), M = C*H*W
activations of a frame. Frames of several videos are concatenated, without padding; ``lengths`` says how many
belong to each. Distances are integers, because exact ties are common and float sums would break them
differently at every size. Nothing here loops over frames; `random` alone, whose cuts are drawn on the host,
copies lengths there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

ClusteringMethod = Literal["cumulative", "slope", "even", "random"]


@dataclass(frozen=True)
class Runs:
    """K runs of frames for each of B videos: row j of video b is the mean over ``[starts, stops)``.

    For T >= K the runs are a partition of [0, T). For T < K row j shows frame ``floor(j*T/K)`` alone, so that
    every frame appears, some repeatedly.

    Attributes:
        starts: (B, K) int64, first frame of each run, counted within its video.
        stops: (B, K) int64, one past the last frame.
    """

    starts: Tensor
    stops: Tensor

    def __post_init__(self) -> None:
        if self.starts.shape != self.stops.shape or self.starts.ndim != 2:
            raise ValueError(
                f"starts {tuple(self.starts.shape)} and stops {tuple(self.stops.shape)}: both (B, K)"
            )

    def __repr__(self) -> str:
        videos, clusters = self.starts.shape
        return f"Runs(videos={videos}, clusters={clusters})"


def one_row_a_frame(activations: Tensor) -> Tensor:
    """Return each frame's activations as a row, (n, C, H, W) -> (n, M): a view of what lies channels last."""
    return activations.permute(0, 2, 3, 1).flatten(1)


def sign_pattern(activations: Tensor) -> Tensor:
    """Return which activations are on, ``x > 0``: (n, C, H, W) -> a row of M bits for each frame.

    After a ResNet stage this is the ReLU's own pattern; after a MobileNetV2 stage, a linear projection, it is
    the sign pattern as a stand-in. On a host 8 bits are packed into a byte, (n, ceil(M/8)) uint8; elsewhere
    each is a byte, (n, M) bool.
    """
    rows = one_row_a_frame(activations)
    if rows.device.type != "cpu":
        return rows > 0
    # By numpy, whose comparison takes half the time of torch's; it knows no bfloat16.
    on = rows.to(torch.promote_types(rows.dtype, torch.float32)).numpy() > 0
    return torch.from_numpy(np.packbits(on, axis=1))


def step_distances(patterns: Tensor) -> Tensor:
    """Return the Hamming distance of each frame's pattern to the next one's: n rows -> (n-1,) int64."""
    differing = patterns[1:] ^ patterns[:-1]
    return _COUNTS[patterns.dtype](differing)


def _count_bits(packed: Tensor) -> Tensor:
    return torch.from_numpy(np.bitwise_count(packed.numpy()).sum(axis=1, dtype=np.int64))


def _count_bytes(differing: Tensor) -> Tensor:
    """Add in bytes first: 7 times faster than in int32 at once."""
    whole = differing.shape[1] // _ADDED_IN_A_BYTE * _ADDED_IN_A_BYTE
    by_byte = differing[:, :whole].reshape(
        len(differing), _ADDED_IN_A_BYTE, whole // _ADDED_IN_A_BYTE
    )
    in_bytes = by_byte.sum(1, dtype=torch.uint8)
    counts = in_bytes.sum(1, dtype=torch.int32) + differing[:, whole:].sum(1, dtype=torch.int32)
    return counts.to(torch.int64)


_ADDED_IN_A_BYTE = 128  # at most 255
_COUNTS = {torch.uint8: _count_bits, torch.bool: _count_bytes}


def cluster(
    method: ClusteringMethod,
    steps: Tensor,
    lengths: Tensor,
    *,
    num_clusters: int,
    cut_keys: Sequence[int] = (),
) -> Runs:
    """Cut B videos into K runs each.

    Args:
        method: Which of `METHODS`.
        steps: (N,) int64, distance of each frame to the next; 0 at the last frame of each video.
        lengths: (B,) int64, frames of each video, all at least 1.
        num_clusters: K.
        cut_keys: For ``random``: a seed for each video.

    Returns:
        The runs, on the device of `steps`.
    """
    boundaries = METHODS[method](steps, lengths, num_clusters, cut_keys)
    rows = torch.arange(num_clusters, device=lengths.device)
    repeated = rows * lengths[:, None] // num_clusters  # (B, K): row j shows frame floor(j*T/K)
    short = (lengths < num_clusters)[:, None]
    return Runs(
        starts=torch.where(short, repeated, boundaries[:, :-1]),
        stops=torch.where(short, repeated + 1, boundaries[:, 1:]),
    )


def even_boundaries(lengths: Tensor, num_clusters: int) -> Tensor:
    """Return ``b[j] = floor(j*T/K)``: (B,) -> (B, K+1) int64."""
    return torch.arange(num_clusters + 1, device=lengths.device) * lengths[:, None] // num_clusters


def cumulative_boundaries(steps: Tensor, lengths: Tensor, num_clusters: int) -> Tensor:
    """Cut where the cumulative distance crosses equal shares of the video's total change.

    ``raw[j]`` is the first t with ``K*D[t] > j*D[T-1]``; `spread` then keeps every cluster non-empty. A video
    that never changes is cut evenly.

    Args:
        steps: (N,) int64, 0 at the last frame of each video.
        lengths: (B,) int64.
        num_clusters: K.

    Returns:
        (B, K+1) int64, valid where T >= K.
    """
    firsts = lengths.cumsum(0) - lengths
    # D of all videos on one rising staircase: a video's first frame stands where the one before it ended.
    rising = steps.cumsum(0) - steps
    base, total = rising[firsts], rising[firsts + lengths - 1] - rising[firsts]
    shares = torch.arange(1, num_clusters, device=steps.device) * total[:, None] // num_clusters
    # K*D > j*D[T-1] exactly when D > floor(j*D[T-1] / K), for integers
    raw = torch.searchsorted(rising, base[:, None] + shares, right=True) - firsts[:, None]
    return _frame(spread(raw, lengths), lengths, total)


def slope_boundaries(steps: Tensor, lengths: Tensor, num_clusters: int) -> Tensor:
    """Cut at the K-1 largest steps; of equal ones the earlier. A video that never changes is cut evenly.

    Arguments and result as for `cumulative_boundaries`.
    """
    videos, last = len(lengths), lengths.cumsum(0) - 1
    video_of_frame = torch.repeat_interleave(torch.arange(videos, device=steps.device), lengths)
    size = steps.clone()
    size[last] = -1  # no step leaves a video's last frame
    largest_first = size.argsort(descending=True, stable=True)
    by_video = largest_first[video_of_frame[largest_first].argsort(stable=True)]
    rank = torch.arange(num_clusters - 1, device=steps.device)
    firsts = last + 1 - lengths
    places = firsts[:, None] + torch.minimum(
        rank, lengths[:, None] - 1
    )  # stays inside videos with T < K
    cuts = (by_video[places] - firsts[:, None] + 1).sort(dim=1).values
    total = torch.zeros_like(lengths).index_add_(0, video_of_frame, steps)
    return _frame(cuts, lengths, total)


def random_boundaries(lengths: Tensor, num_clusters: int, cut_keys: Sequence[int]) -> Tensor:
    """Cut at K-1 distinct places drawn uniformly, for each video from its own key: -> (B, K+1) int64."""
    cuts = torch.zeros(len(cut_keys), num_clusters - 1, dtype=torch.int64)
    for row, (length, key) in enumerate(zip(lengths.tolist(), cut_keys, strict=True)):
        generator = torch.Generator().manual_seed(key)
        drawn = torch.randperm(max(length - 1, 0), generator=generator)[: num_clusters - 1] + 1
        cuts[row, : len(drawn)] = drawn.sort().values
    return _frame(cuts.to(lengths.device), lengths, torch.ones_like(lengths))


def spread(raw: Tensor, lengths: Tensor) -> Tensor:
    """Move boundaries apart so that no cluster is empty: later, by as little as each needs.

    Only at the end of the video, where later clusters would find no frame, do they move earlier.

    ``b[j] = min(max(j, cummax over i<=j of (raw[i] - i) + j), T - K + j)`` for j = 1..K-1.

    Args:
        raw: (B, K-1) int64, not falling along a row.
        lengths: (B,) int64.

    Returns:
        (B, K-1) int64, rising strictly where T >= K.
    """
    if raw.shape[1] == 0:
        return raw
    rank = torch.arange(1, raw.shape[1] + 1, device=raw.device)
    apart = (raw - rank).cummax(dim=1).values + rank
    latest = lengths[:, None] - (raw.shape[1] + 1) + rank
    return torch.minimum(torch.maximum(apart, rank), latest)


def _frame(cuts: Tensor, lengths: Tensor, total: Tensor) -> Tensor:
    """Put 0 and T around the inner cuts (B, K-1); where nothing changes, cut evenly."""
    bounded = torch.cat([torch.zeros_like(lengths)[:, None], cuts, lengths[:, None]], dim=1)
    return torch.where(total[:, None] > 0, bounded, even_boundaries(lengths, bounded.shape[1] - 1))


METHODS: dict[ClusteringMethod, Callable[[Tensor, Tensor, int, Sequence[int]], Tensor]] = {
    "cumulative": lambda steps, lengths, k, _keys: cumulative_boundaries(steps, lengths, k),
    "slope": lambda steps, lengths, k, _keys: slope_boundaries(steps, lengths, k),
    "even": lambda _steps, lengths, k, _keys: even_boundaries(lengths, k),
    "random": lambda _steps, lengths, k, keys: random_boundaries(lengths, k, keys),
}

NEEDS_DISTANCES: frozenset[ClusteringMethod] = frozenset({"cumulative", "slope"})


def averaging_matrix(
    starts: Tensor, stops: Tensor, sizes: Tensor, *, frames: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return A such that ``A @ x`` is what `frames` add to each run's mean.

    The mean over a cluster is linear, ``y = A x``, and so is the way back: ``dL/dx = A^T dL/dy``, that is
    ``dL/dx[t] = dL/dy[j] / size[j]``, summed over the rows that show frame t.

    Args:
        starts: (K,) int64, of one video.
        stops: (K,) int64.
        sizes: (K,) int64, frames that each run is the mean of.
        frames: (n,) int64, of a chunk.
        dtype: Of the result.

    Returns:
        (K, n), rows of all chunks together sum to 1.
    """
    member = (frames >= starts[:, None]) & (frames < stops[:, None])
    return member.to(dtype) / sizes[:, None].to(dtype)
