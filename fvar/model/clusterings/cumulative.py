"""The clustering `cumulative`: each cluster gets an equal part of the video's total change.

Source: "No frame left behind: Full Video Action Recognition", CVPR 2021. Two edge cases are settled here: no
cluster is empty, and the frames after the last boundary belong to the last cluster.
Letters: B videos, T frames, N = sum of all T, K clusters.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fvar.model.clusterings.even import or_even

EXPLANATION = (
    "The video is cut wherever the change so far has grown by another 1/k of the whole: "
    "the dots on the line rise in about equal steps, and busy moments get short clusters."
)
NEEDS = "distances"
IS_RANDOM = False


def boundaries(
    steps: Tensor, lengths: Tensor, num_clusters: int, _cut_keys: Sequence[int]
) -> Tensor:
    """Return where the cumulative distance D crosses equal parts of the video's total change: (B, K-1).

    The crossing ``raw[j]`` is the first t with ``K*D[t] > j*D[T-1]``; `spread` then keeps every cluster
    non-empty.
    """
    firsts = lengths.cumsum(0) - lengths
    # D of all videos on one rising staircase: a video's first frame stands where the one before it ended.
    rising = steps.cumsum(0) - steps
    base, total = rising[firsts], rising[firsts + lengths - 1] - rising[firsts]
    parts = torch.arange(1, num_clusters, device=steps.device) * total[:, None] // num_clusters
    # K*D > j*D[T-1] exactly when D > floor(j*D[T-1] / K), for integers
    raw = torch.searchsorted(rising, base[:, None] + parts, right=True) - firsts[:, None]
    return or_even(spread(raw, lengths), total, lengths)


def spread(raw: Tensor, lengths: Tensor) -> Tensor:
    """Move boundaries apart so that no cluster is empty: later, by as little as each needs.

    Only at the end of the video, where later clusters would find no frame, do they move earlier.

    ``b[j] = min(max(j, cummax over i<=j of (raw[i] - i) + j), T - K + j)`` for j = 1..K-1.

    Args:
        raw: (B, K-1) int64, never falling from one boundary of a video to the next.
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
