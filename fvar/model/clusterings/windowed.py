"""The clustering `windowed`: each cluster gets an equal part of the video's change above its quiet level.

Like `cumulative`, but noise does not count as change. Change is measured between the mean descriptors of the
frames before and after each step, so noise averages out; the video's own quiet level, which noise and slow
drift make, is taken off.

Letters: B videos, T frames, N = sum of all T, K clusters, D numbers of a descriptor.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fvar.model.clusterings import cumulative
from fvar.model.clusterings.variance import BLOCK, gains

EXPLANATION = (
    "Each step is measured between the means of the frames shortly before and after it, and what the quiet "
    "steps of the video have, noise and drift, is taken off. The video is cut wherever the rest has grown by "
    "another 1/k of the whole. The line shows the distances of activation patterns; these cuts are made by "
    "what the frames show where."
)
NEEDS = "descriptors"
IS_RANDOM = False

# Chosen on training clips of UT-Interaction made untrimmed, with noise, and trimmed (docs/results.md).
WINDOW = 4  # frames before and after a step
QUIET_SHARE = 0.25  # of the steps that are taken for quiet
FLOOR = 1.5  # what is taken off, in changes of the largest quiet step
_UNITS = 2**24  # the largest step in whole numbers, whose sums are exact


def boundaries(
    descriptors: Tensor, lengths: Tensor, num_clusters: int, cut_keys: Sequence[int]
) -> Tensor:
    """Return where the change above the quiet level crosses equal parts of its total: (B, K-1)."""
    videos = torch.split(descriptors, lengths.tolist())
    steps = torch.cat([_steps(frames) for frames in videos])
    return cumulative.boundaries(steps, lengths, num_clusters, cut_keys)


def _steps(frames: Tensor) -> Tensor:
    """Return the change from each frame of a video to the next above the quiet level, (T, D) -> (T,) int64.

    In units of the largest one; 0 at the last frame.
    """
    steps = torch.zeros(len(frames), dtype=torch.int64, device=frames.device)
    if len(frames) > 1:
        change = changes(frames)
        quiet = change.sort().values[int(QUIET_SHARE * (len(change) - 1))]
        above = (change - FLOOR * quiet).clamp(min=0)
        steps[:-1] = (above * (_UNITS / above.max().clamp(min=1e-30))).round()
    return steps


def changes(frames: Tensor) -> Tensor:
    """Return the change at each step of a video, from its windows: (T, D) -> (T-1,) float64.

    The root of what cutting there gains within the windows: for independent noise it has the same size
    everywhere, also at the ends of the video, where windows are shorter.
    """
    cut = torch.arange(1, len(frames), device=frames.device)
    first, last = (cut - WINDOW).clamp(min=0), (cut + WINDOW).clamp(max=len(frames))
    total = torch.zeros(len(cut), dtype=torch.float64, device=frames.device)
    for block in torch.split(frames, BLOCK, dim=1):
        sums = torch.nn.functional.pad(block.to(torch.float64).cumsum(dim=0), (0, 0, 1, 0))
        before, after = sums[cut] - sums[first], sums[last] - sums[cut]
        total += gains(before, cut - first, after, last - cut)
    return total.sqrt()
