"""The clustering `random`: cuts at random places, for comparison.

Letters: B videos, T frames, K clusters.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

EXPLANATION = "The video is cut at random places, for comparison with the other clusterings."
NEEDS = "nothing"
IS_RANDOM = True


def boundaries(
    _measured: Tensor, lengths: Tensor, num_clusters: int, cut_keys: Sequence[int]
) -> Tensor:
    """Return K-1 distinct places drawn uniformly, for each video from its own key: (B, K-1).

    They are drawn on the host, so `lengths` is copied there.
    """
    cuts = torch.zeros(len(cut_keys), num_clusters - 1, dtype=torch.int64)
    for video, (length, key) in enumerate(zip(lengths.tolist(), cut_keys, strict=True)):
        generator = torch.Generator().manual_seed(key)
        drawn = torch.randperm(max(length - 1, 0), generator=generator)[: num_clusters - 1] + 1
        cuts[video, : len(drawn)] = drawn.sort().values
    return cuts.to(lengths.device)
