"""Descriptors of frames, and the clusterings that cut by them."""

import numpy as np
import pytest
import torch
from engine_steps import cluster_frames
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fvar.model.clustering import cluster, descriptors
from fvar.names import clustering_names

SEEDS = st.integers(0, 10**6)


def _noisy_burst(seed: int, num_frames: int = 120) -> tuple[Tensor, range]:
    """Return frames of noise, of which 24 in a row change, and which these are."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(num_frames, 8, 12, 12, generator=generator) + 1
    burst = range(40, 64)
    rise = torch.arange(0.0, 12)
    frames[burst, :, :6] += torch.cat([rise, rise.flip(0)])[:, None, None, None]
    return frames, burst


@pytest.mark.parametrize("seed", range(3))
def test_noise_does_not_draw_adaptive_cuts_apart(seed: int) -> None:
    """Where every frame is noisy, `variance` and `windowed` put most clusters on the part that changes.

    `cumulative` cuts almost like `even` there, because noise adds up.
    """
    frames, burst = _noisy_burst(seed)
    num_inside = {
        name: sum(start in burst for start, _ in cluster_frames(name, frames, 8)[0])
        for name in ("even", "cumulative", "variance", "windowed")
    }
    assert max(num_inside["even"], num_inside["cumulative"]) <= 3
    assert min(num_inside["variance"], num_inside["windowed"]) >= 6


@pytest.mark.parametrize("seed", range(3))
def test_the_quiet_level_is_taken_off(seed: int) -> None:
    """However long the noise before and after, `windowed` spends its clusters on the part that changes."""
    frames, burst = _noisy_burst(seed, num_frames=600)
    assert sum(start in burst for start, _ in cluster_frames("windowed", frames, 8)[0]) >= 6


def test_variance_breaks_ties_by_time() -> None:
    """Of two cuts that gain the same, the earlier one is taken."""
    frames = torch.tensor([0.0, 1.0, 0.0])[:, None]
    found = cluster("variance", frames, torch.tensor([3]), num_clusters=2)
    assert found.starts[0].tolist() == [0, 1]


def test_sums_are_wider_than_descriptors() -> None:
    """Sums over many frames need more than 16 bits: a step of one in a thousand is found."""
    values = [1000.0] * 150 + [1001.0] * 50
    frames = torch.tensor(values, dtype=torch.float16)[:, None]
    found = cluster("variance", frames, torch.tensor([200]), num_clusters=2)
    assert found.starts[0].tolist() == [0, 150]


@given(SEEDS, st.permutations(range(6)), st.integers(2, 5))
def test_cuts_do_not_depend_on_the_order_of_channels(seed: int, order: list[int], k: int) -> None:
    """Every clustering cuts a video the same when its channels are permuted."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(-3, 4, (9, 6, 8, 8), generator=generator).float()
    for name in clustering_names():
        assert cluster_frames(name, frames, k) == cluster_frames(name, frames[:, order], k)


@given(SEEDS, st.integers(1, 9))
def test_descriptors_are_means_over_cells(seed: int, num_frames: int) -> None:
    """A descriptor holds the mean of each channel in each of 4 x 4 cells, in float16, whatever the chunk."""
    rng = np.random.default_rng(seed)
    activations = rng.standard_normal((num_frames, 3, 8, 12)).astype(np.float32)
    cells = activations.reshape(num_frames, 3, 4, 2, 4, 3).mean(axis=(3, 5)).reshape(num_frames, -1)
    found = descriptors(torch.from_numpy(activations))
    assert found.dtype == torch.float16
    np.testing.assert_allclose(found.numpy(), cells, rtol=1e-3, atol=1e-3)
    alone = [descriptors(frame) for frame in torch.from_numpy(activations).split(1)]
    assert torch.equal(torch.cat(alone), found)


@pytest.mark.parametrize(
    ("channels", "side", "numbers"),
    [
        (24, 28, 24 * 16),
        (1024, 14, 1024 * 16),
        (2048, 7, 2048 * 4),
        (20_000, 1, 20_000),
        (8, 2, 8 * 16),
    ],
)
def test_descriptors_have_fewer_cells_for_many_channels(
    channels: int, side: int, numbers: int
) -> None:
    """A descriptor takes at most 32 KB, as long as one cell of all channels does."""
    assert descriptors(torch.ones(1, channels, side, side)).shape == (1, numbers)


def test_descriptors_are_finite() -> None:
    """An activation that is not finite, or too large for float16, gives the largest number or 0."""
    frames = torch.tensor([torch.inf, -torch.inf, torch.nan, 1e30])[:, None, None, None]
    assert descriptors(frames)[:, 0].tolist() == [65504, -65504, 0, 65504]


@given(SEEDS, st.integers(8, 20))
def test_variance_sums_all_numbers_of_a_descriptor(seed: int, num_frames: int) -> None:
    """Long descriptors are summed in blocks: the first cut gains most over all numbers together."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(-9, 10, (num_frames, 600)).astype(np.float64)
    lost = [
        ((part - part.mean(0)) ** 2).sum() + ((rest - rest.mean(0)) ** 2).sum()
        for part, rest in ((frames[:cut], frames[cut:]) for cut in range(1, num_frames))
    ]
    lengths = torch.tensor([num_frames])
    found = cluster("variance", torch.from_numpy(frames), lengths, num_clusters=2)
    assert found.starts[0].tolist() == [0, 1 + int(np.argmin(lost))]
