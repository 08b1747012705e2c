"""The clustering `even`: clusters of equal length.

Letters: B videos, T frames, K clusters.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

EXPLANATION = "The video is cut into clusters of equal length, whatever it shows."
NEEDS = "nothing"
IS_RANDOM = False


def boundaries(
    _measured: Tensor, lengths: Tensor, num_clusters: int, _cut_keys: Sequence[int]
) -> Tensor:
    """Return ``b[j] = floor(j*T/K)`` for j = 1..K-1: (B, K-1)."""
    return even_cuts(lengths, num_clusters)


def even_cuts(lengths: Tensor, num_clusters: int) -> Tensor:
    """Return ``floor(j*T/K)`` for j = 1..K-1, of videos with `lengths` (B,): (B, K-1)."""
    return torch.arange(1, num_clusters, device=lengths.device) * lengths[:, None] // num_clusters


def or_even(cuts: Tensor, total: Tensor, lengths: Tensor) -> Tensor:
    """Return `cuts` (B, K-1), and even ones for the videos whose `total` change (B,) is 0."""
    even = even_cuts(lengths, cuts.shape[1] + 1)
    return torch.where(total[:, None] == 0, even, cuts)
