"""The backward pass over a fraction of each cluster: right in expectation, drawn from the video's key."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_clips import TensorClip, random_clips, settled_backbone
from torch import Tensor

from fvar.model.averaging import Aggregator, mean
from fvar.model.engine import represent
from fvar.model.interface import Sweep

SWEEP = Sweep(engine="chunked", clustering="even", num_clusters=2, chunk_frames=3, keep_bytes=0)
BACKBONE = settled_backbone("tiny")


def _gradient(clip: TensorClip, sweep: Sweep) -> Tensor:
    """Return the gradient of the stem for a loss that treats clusters differently, one vector."""
    means = represent(BACKBONE, [clip], sweep).activations
    weight = torch.arange(1.0, len(means) + 1, dtype=means.dtype)[:, None, None, None]
    (means**2 * weight).sum().backward()
    parts = [p.grad.flatten() for p in BACKBONE.stem_parameters() if p.grad is not None]
    BACKBONE.zero_grad()
    return torch.cat(parts)


def rising(starts: Tensor, stops: Tensor, frames: Tensor, dtype: torch.dtype) -> Tensor:
    """Weigh the frames of a cluster 1, 2, 3, ..."""
    place = (frames + 1 - starts[:, None]) * (frames < stops[:, None])
    return place.clamp(min=0).to(dtype)


@pytest.mark.parametrize("aggregator", [mean, rising])
def test_the_expected_gradient_is_the_exact_one(aggregator: Aggregator) -> None:
    """Two clusters of two frames, one of each drawn: the four outcomes average to the exact gradient."""
    (clip,) = random_clips([4])
    sweep = replace(SWEEP, aggregator=aggregator)
    half = replace(sweep, backward_fraction=0.5)
    outcomes: dict[tuple[int, ...], Tensor] = {}
    for key in range(64):
        keyed = TensorClip(clip.frames, cut_key=key)
        gradient = _gradient(keyed, half)
        visited = tuple(frame for request in keyed.requests[2:] for frame in request)
        outcomes[visited] = gradient
    assert set(outcomes) == {(0, 2), (0, 3), (1, 2), (1, 3)}
    exact = _gradient(clip, sweep)
    mean = torch.stack(list(outcomes.values())).mean(dim=0)
    torch.testing.assert_close(mean, exact, rtol=1e-10, atol=1e-12)
    assert all((found - exact).norm() > 1e-3 * exact.norm() for found in outcomes.values())


@settings(max_examples=25)
@given(
    length=st.integers(1, 30),
    k=st.integers(1, 5),
    fraction=st.sampled_from([1e-9, 0.125, 0.3, 0.5, 0.99]),
    key=st.integers(0, 10**6),
)
def test_each_cluster_gives_its_fraction_rounded_up(
    length: int, k: int, fraction: float, key: int
) -> None:
    """The backward pass visits ceil(fraction x size) frames of each cluster, no other, in rising order."""
    frames = random_clips([length], size=8)[0].frames
    clip = TensorClip(frames, cut_key=key)
    _gradient(clip, replace(SWEEP, num_clusters=k, backward_fraction=fraction))
    num_chunks = math.ceil(length / SWEEP.chunk_frames)
    visited = [frame for request in clip.requests[num_chunks:] for frame in request]
    assert visited == sorted(set(visited))
    if length < k:
        assert visited == list(range(length))
        return
    bounds = [j * length // k for j in range(k + 1)]
    for start, stop in itertools.pairwise(bounds):
        drawn = sum(start <= frame < stop for frame in visited)
        assert drawn == math.ceil(fraction * (stop - start))


def test_a_short_video_keeps_its_exact_gradient() -> None:
    """Where each cluster shows one frame there is nothing to draw from."""
    (clip,) = random_clips([3])
    sweep = replace(SWEEP, num_clusters=5)
    torch.testing.assert_close(
        _gradient(clip, replace(sweep, backward_fraction=0.1)),
        _gradient(clip, sweep),
        rtol=1e-12,
        atol=1e-14,
    )


def test_frames_are_drawn_from_the_videos_key() -> None:
    """The same key draws the same frames, another key others; `keep_bytes` changes nothing."""
    frames = random_clips([24])[0].frames
    sweep = replace(SWEEP, backward_fraction=0.25)
    first, same, other = (_gradient(TensorClip(frames, cut_key=key), sweep) for key in (1, 1, 2))
    kept = _gradient(TensorClip(frames, cut_key=1), replace(sweep, keep_bytes=1 << 30))
    assert torch.equal(first, same)
    assert torch.equal(first, kept)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"backward_fraction": value} for value in (0.0, -0.5, 1.5)),
        *({name: value} for name in ("chunk_frames", "num_clusters") for value in (0, -3)),
    ],
    ids=str,
)
def test_a_sweep_refuses_nonsense(wrong: dict[str, Any]) -> None:
    """A fraction is above 0 and at most 1, chunks and clusters at least 1: the message names the value."""
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} {value}: must be"):
        replace(SWEEP, **wrong)
