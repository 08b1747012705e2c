"""The temporal shift: rows look at their neighbours within one video, and nowhere else."""

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fvar.model.shift import RowLayout, temporal_shift

NUM_ROWS = st.lists(st.integers(1, 5), min_size=1, max_size=4)
CHANNELS = st.integers(1, 33)
SEEDS = st.integers(0, 10**6)


def _rows(num_rows: list[int], channels: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(num_rows), channels, 2, 3, generator=generator, dtype=torch.float64)


def _shift(rows: Tensor, num_rows: list[int]) -> Tensor:
    return temporal_shift(rows, RowLayout.of(num_rows, device=rows.device))


@given(NUM_ROWS, CHANNELS, SEEDS)
def test_shift_equals_the_oracle(num_rows: list[int], channels: int, seed: int) -> None:
    """Ragged videos are shifted as a loop over rows and channels does it, to the bit."""
    rows = _rows(num_rows, channels, seed=seed)
    before = rows.clone()
    expected = oracle.temporal_shift(rows.numpy(), num_rows)
    np.testing.assert_array_equal(_shift(rows, num_rows).numpy(), expected)
    assert torch.equal(rows, before)


@given(NUM_ROWS, CHANNELS, SEEDS)
def test_shift_is_linear(num_rows: list[int], channels: int, seed: int) -> None:
    """The shift of a weighted sum is the weighted sum of the shifts, to the bit: values only move."""
    a, b = _rows(num_rows, channels, seed=seed), _rows(num_rows, channels, seed=seed + 1)
    together = _shift(3 * a - 0.7 * b, num_rows)
    assert torch.equal(together, 3 * _shift(a, num_rows) - 0.7 * _shift(b, num_rows))


@pytest.mark.parametrize("channels", [8, 16, 20, 64])
def test_a_single_video_is_shifted_too(channels: int) -> None:
    """One video in the batch is shifted as among others: accuracy does not depend on the batch size."""
    rows, fold = _rows([4], channels), channels // 8
    alone = _shift(rows, [4])
    assert torch.equal(alone[:-1, :fold], rows[1:, :fold])
    assert torch.equal(alone[1:, fold : 2 * fold], rows[:-1, fold : 2 * fold])
    among = _shift(torch.cat([_rows([3], channels, seed=5), rows, rows]), [3, 4, 4])
    assert torch.equal(among[3:7], alone)
    assert torch.equal(among[7:], alone)


@given(NUM_ROWS, CHANNELS)
def test_untouched_channels_keep_their_bits(num_rows: list[int], channels: int) -> None:
    """Channels from 2*floor(C/8) on stay as they are, below 8 channels all of them."""
    rows = _rows(num_rows, channels)
    rows[0] = float("nan")  # must not spread either
    shifted, stay = _shift(rows, num_rows), 2 * (channels // 8)
    assert shifted[:, stay:].numpy().tobytes() == rows[:, stay:].numpy().tobytes()


@given(NUM_ROWS)
def test_ends_of_each_video_are_zero(num_rows: list[int]) -> None:
    """A video's last row has nothing to look ahead to, its first nothing behind it: both see zero."""
    shifted = _shift(_rows(num_rows, 16), num_rows)
    for video in torch.split(shifted, num_rows):
        assert not video[-1, :2].any()
        assert not video[0, 2:4].any()


@given(NUM_ROWS, SEEDS)
def test_gradients_travel_back_where_values_came_from(num_rows: list[int], seed: int) -> None:
    """The backward pass is the transpose: <shift(x), y> = <x, gradient>, for random x and y."""
    x = _rows(num_rows, 17, seed=seed).requires_grad_()
    y, other = _rows(num_rows, 17, seed=seed + 1), _rows(num_rows, 17, seed=seed + 2)
    (gradient,) = torch.autograd.grad((_shift(x, num_rows) * y).sum(), x)
    torch.testing.assert_close((gradient * other).sum(), (_shift(other, num_rows) * y).sum())


@pytest.mark.parametrize("num_rows", [[3, 0, 2], [-1]])
def test_a_video_without_rows_is_refused(num_rows: list[int]) -> None:
    """A layout with an empty video is refused with all its numbers."""
    with pytest.raises(
        ValueError, match=rf"num_rows \[{num_rows[0]}.*\]: every video has at least"
    ):
        RowLayout.of(num_rows, device=torch.device("cpu"))
