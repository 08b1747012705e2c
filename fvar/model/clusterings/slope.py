"""The clustering `slope`: cuts at the largest steps.

Source: "No frame left behind: Full Video Action Recognition", CVPR 2021.
Letters: B videos, T frames, N = sum of all T, K clusters.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fvar.model.clusterings.even import or_even

EXPLANATION = (
    "The video is cut at its k-1 largest steps: a boundary stands on each of the highest bars."
)
NEEDS = "distances"
IS_RANDOM = False


def boundaries(
    steps: Tensor, lengths: Tensor, num_clusters: int, _cut_keys: Sequence[int]
) -> Tensor:
    """Return the places of the K-1 largest steps of each video, of equal steps the earlier: (B, K-1)."""
    last = lengths.cumsum(0) - 1
    video_of_frame = torch.repeat_interleave(
        torch.arange(len(lengths), device=steps.device), lengths
    )
    size = steps.clone()
    size[last] = -1  # no step leaves a video's last frame
    largest_first = size.argsort(descending=True, stable=True)
    by_video = largest_first[video_of_frame[largest_first].argsort(stable=True)]
    firsts = (last + 1 - lengths)[:, None]
    rank = torch.arange(num_clusters - 1, device=steps.device)
    places = firsts + torch.minimum(rank, lengths[:, None] - 1)  # inside the video also for T < K
    cuts = (by_video[places] - firsts + 1).sort(dim=1).values
    largest = size[by_video[firsts[:, 0]]]  # a video of one frame has none: -1
    return or_even(cuts, largest, lengths)
