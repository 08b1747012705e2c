"""The temporal shift: an eighth of the channels looks one representation ahead, an eighth one back.

Source: "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019, applied to the
representations that the clustering leaves.
Letters: R representations of all videos, one video after the other, C channels, H, W.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FOLD_DIVISOR = 8  # the paper's fraction of channels that moves in each direction


@dataclass(frozen=True)
class VideoLayout:
    """Which representations are neighbors in one video.

    Attributes:
        has_next: (R, 1, 1, 1) bool, false at the last representation of each video.
        has_previous: (R, 1, 1, 1) bool, false at the first representation of each video.
    """

    has_next: Tensor
    has_previous: Tensor

    @classmethod
    def of(cls, counts: Sequence[int], *, device: torch.device) -> "VideoLayout":
        """Return the layout of videos with these numbers of representations, each at least 1."""
        if min(counts) < 1:
            raise ValueError(f"counts {list(counts)}: every video has at least one representation")
        per_video = torch.tensor(counts)
        stops = per_video.cumsum(0)
        has_next = torch.ones(sum(counts), 1, 1, 1, dtype=torch.bool)
        has_previous = has_next.clone()
        has_next[stops - 1] = False
        has_previous[stops - per_video] = False
        return cls(has_next.to(device), has_previous.to(device))


def temporal_shift(x: Tensor, layout: VideoLayout) -> Tensor:
    """Shift channels between neighboring representations of the same video.

    Channels ``[0, fold)`` take the next one's value, ``[fold, 2*fold)`` the previous one's, zeros at the
    ends; the others stay; ``fold = floor(C/8)``.

    Args:
        x: (R, C, H, W).
        layout: Which representations are neighbors.

    Returns:
        (R, C, H, W), a new tensor.
    """
    fold = x.shape[1] // FOLD_DIVISOR
    ahead = torch.where(layout.has_next, x[:, :fold].roll(-1, dims=0), 0.0)
    back = torch.where(layout.has_previous, x[:, fold : 2 * fold].roll(1, dims=0), 0.0)
    return torch.cat([ahead, back, x[:, 2 * fold :]], dim=1)
