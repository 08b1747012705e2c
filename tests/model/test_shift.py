"""The temporal shift: representations look at their neighbors within one video, and nowhere else."""

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fvar.model.shift import VideoLayout, temporal_shift

COUNTS = st.lists(st.integers(1, 5), min_size=1, max_size=4)
CHANNELS = st.integers(1, 33)
SEEDS = st.integers(0, 10**6)


def _random(counts: list[int], channels: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(counts), channels, 2, 3, generator=generator, dtype=torch.float64)


def _shift(x: Tensor, counts: list[int]) -> Tensor:
    return temporal_shift(x, VideoLayout.of(counts, device=x.device))


@given(COUNTS, CHANNELS, SEEDS)
def test_shift_equals_the_oracle(counts: list[int], channels: int, seed: int) -> None:
    """Ragged videos are shifted to the bit as a loop does it; each video's ends see zeros."""
    x = _random(counts, channels, seed=seed)
    before = x.clone()
    np.testing.assert_array_equal(_shift(x, counts), oracle.temporal_shift(x.numpy(), counts))
    assert torch.equal(x, before)


@given(COUNTS, CHANNELS, SEEDS)
def test_shift_is_linear(counts: list[int], channels: int, seed: int) -> None:
    """The shift of a weighted sum is the weighted sum of the shifts, to the bit: values only move."""
    a, b = _random(counts, channels, seed=seed), _random(counts, channels, seed=seed + 1)
    together = _shift(3 * a - 0.7 * b, counts)
    assert torch.equal(together, 3 * _shift(a, counts) - 0.7 * _shift(b, counts))


@pytest.mark.parametrize("channels", [8, 16, 20, 64])
def test_a_single_video_is_shifted_too(channels: int) -> None:
    """One video in the batch is shifted as among others: accuracy does not depend on the batch size."""
    x, fold = _random([4], channels), channels // 8
    alone = _shift(x, [4])
    assert torch.equal(alone[:-1, :fold], x[1:, :fold])
    assert torch.equal(alone[1:, fold : 2 * fold], x[:-1, fold : 2 * fold])
    among = _shift(torch.cat([_random([3], channels, seed=5), x, x]), [3, 4, 4])
    assert torch.equal(among[3:7], alone)
    assert torch.equal(among[7:], alone)


@given(COUNTS, CHANNELS)
def test_untouched_channels_keep_their_bits(counts: list[int], channels: int) -> None:
    """Channels from 2*floor(C/8) on stay as they are, below 8 channels all of them."""
    x = _random(counts, channels)
    x[0] = float("nan")  # must not spread either
    shifted, stay = _shift(x, counts), 2 * (channels // 8)
    assert shifted[:, stay:].numpy().tobytes() == x[:, stay:].numpy().tobytes()


@given(COUNTS, SEEDS)
def test_gradients_travel_back_where_values_came_from(counts: list[int], seed: int) -> None:
    """The backward pass is the transpose: <shift(x), y> = <x, gradient>, for random x and y."""
    x = _random(counts, 17, seed=seed).requires_grad_()
    y, other = _random(counts, 17, seed=seed + 1), _random(counts, 17, seed=seed + 2)
    (gradient,) = torch.autograd.grad((_shift(x, counts) * y).sum(), x)
    torch.testing.assert_close((gradient * other).sum(), (_shift(other, counts) * y).sum())


@pytest.mark.parametrize("counts", [[3, 0, 2], [-1]])
def test_a_video_without_representations_is_refused(counts: list[int]) -> None:
    """A layout with an empty video is refused with all its numbers."""
    with pytest.raises(ValueError, match=rf"counts \[{counts[0]}.*\]: every video has at least"):
        VideoLayout.of(counts, device=torch.device("cpu"))
