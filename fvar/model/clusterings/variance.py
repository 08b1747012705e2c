"""The clustering `variance`: the parts of the video that differ least from their own means.

Averaging a cluster loses the squared distance of its frames to their mean. Greedy splitting begins with the
whole video and cuts, K-1 times, where the loss falls most. Noise between frames adds the same loss wherever
the cuts are, so unlike in `cumulative` it does not draw the cuts apart evenly.

Letters: B videos, T frames, n frames of a segment, K clusters, D numbers of a descriptor.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fvar.model.clusterings.even import even_cuts

EXPLANATION = (
    "The video is cut, one cut after another, where that brings the frames of a cluster nearest to their "
    "mean: each cluster shows about one thing. The line shows the distances of activation patterns; these "
    "cuts are made by what the frames show where."
)
NEEDS = "descriptors"
IS_RANDOM = False

BLOCK = 256  # numbers of a descriptor that are summed at once: 2 KB per frame


def boundaries(
    descriptors: Tensor, lengths: Tensor, num_clusters: int, _cut_keys: Sequence[int]
) -> Tensor:
    """Return the cuts of greedy splitting, of equal gains the earlier: (B, K-1).

    A video whose frames have one and the same descriptor is cut like `even`.
    """
    cuts = even_cuts(lengths, num_clusters)
    for video, frames in enumerate(torch.split(descriptors, lengths.tolist())):
        if len(frames) >= num_clusters and (frames != frames[0]).any():
            cuts[video] = torch.tensor(_split(frames, num_clusters - 1), device=cuts.device)
    return cuts


def gains(left: Tensor, num_left: Tensor, right: Tensor, num_right: Tensor) -> Tensor:
    """Return by how much two groups of frames lose less with two means than with one.

    ``n1 n2 / (n1 + n2) |S1/n1 - S2/n2|^2``, for every row; in this order of operations equal gains are equal
    to the bit.

    Args:
        left: (n, D) float64, the sums S1 of the descriptors of one group.
        num_left: (n,), its number of frames n1.
        right: (n, D) float64, S2.
        num_right: (n,), n2.
    """
    gap = left * num_right[:, None] - right * num_left[:, None]
    return gap.square().sum(dim=1) / (num_left * num_right * (num_left + num_right))


def _split(frames: Tensor, num_cuts: int) -> list[int]:
    """Return the cuts of a video of at least `num_cuts` + 1 frames (T, D), rising."""
    segments = [(0, len(frames), *_best_cut(frames))]
    for _ in range(num_cuts):
        at = max(range(len(segments)), key=lambda i: (segments[i][2], -i))
        start, stop, _, cut = segments[at]
        parts = ((start, start + cut), (start + cut, stop))
        segments[at : at + 1] = [(a, b, *_best_cut(frames[a:b])) for a, b in parts]
    return [start for start, *_ in segments[1:]]


def _best_cut(frames: Tensor) -> tuple[float, int]:
    """Return the gain of the best cut of a segment (n, D) and the first frame after it; -1 where n is 1."""
    if len(frames) == 1:
        return -1.0, 0
    num_left = torch.arange(1, len(frames), device=frames.device)
    total = torch.zeros(len(num_left), dtype=torch.float64, device=frames.device)
    for block in torch.split(frames, BLOCK, dim=1):
        sums = block.to(torch.float64).cumsum(dim=0)
        total += gains(sums[:-1], num_left, sums[-1] - sums[:-1], len(frames) - num_left)
    gain, cut = total.max(dim=0)
    return gain.item(), int(cut) + 1
