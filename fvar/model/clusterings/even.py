"""The clustering `even`: clusters of equal length.

Letters: B videos, T frames, K clusters.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

EXPLANATION = "The video is cut into clusters of equal length, whatever it shows."
NEEDS_DISTANCES = False
IS_RANDOM = False


def boundaries(
    _steps: Tensor, lengths: Tensor, num_clusters: int, _cut_keys: Sequence[int] = ()
) -> Tensor:
    """Return ``b[j] = floor(j*T/K)`` for j = 1..K-1: (B, K-1)."""
    return torch.arange(1, num_clusters, device=lengths.device) * lengths[:, None] // num_clusters
