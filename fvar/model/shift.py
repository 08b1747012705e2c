"""The temporal shift: an eighth of the channels looks one row ahead, an eighth one row back.

Source: "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019, applied to the rows
that the clustering leaves.
Letters: R rows of all videos one after the other, C channels, H, W.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FOLD_DIVISOR = 8  # the paper's share of channels that moves in each direction


@dataclass(frozen=True)
class RowLayout:
    """Which rows belong to one video.

    Attributes:
        num_rows: Rows of each video, in order.
        has_next: (R, 1, 1, 1) bool, false at the last row of each video.
        has_previous: (R, 1, 1, 1) bool, false at the first row of each video.
    """

    num_rows: tuple[int, ...]
    has_next: Tensor
    has_previous: Tensor

    @classmethod
    def of(cls, num_rows: Sequence[int], *, device: torch.device) -> "RowLayout":
        """Lay out videos of the given numbers of rows, each at least 1."""
        if min(num_rows) < 1:
            raise ValueError(f"num_rows {list(num_rows)}: every video has at least one row")
        total, stops = sum(num_rows), torch.tensor(num_rows).cumsum(0)
        has_next = torch.ones(total, dtype=torch.bool)
        has_next[stops - 1] = False
        has_previous = torch.ones(total, dtype=torch.bool)
        has_previous[stops - torch.tensor(num_rows)] = False
        shape = (total, 1, 1, 1)
        return cls(
            tuple(num_rows), has_next.view(shape).to(device), has_previous.view(shape).to(device)
        )


def temporal_shift(rows: Tensor, layout: RowLayout) -> Tensor:
    """Shift channels between neighbouring rows of the same video.

    Channels ``[0, fold)`` take the next row's value, ``[fold, 2*fold)`` the previous row's, zeros at the
    ends; the others stay; ``fold = floor(C/8)``.

    Args:
        rows: (R, C, H, W).
        layout: Which rows are neighbours.

    Returns:
        (R, C, H, W), a new tensor.
    """
    fold = rows.shape[1] // FOLD_DIVISOR
    ahead = torch.where(layout.has_next, rows[:, :fold].roll(-1, dims=0), 0.0)
    back = torch.where(layout.has_previous, rows[:, fold : 2 * fold].roll(1, dims=0), 0.0)
    return torch.cat([ahead, back, rows[:, 2 * fold :]], dim=1)
