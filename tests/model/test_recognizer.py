"""The recognizer: evaluation sees what training sees, every frame of a video and nothing of other videos."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import oracle
import pytest
import torch
from engine_steps import make_sweep
from hypothesis import given, settings
from hypothesis import strategies as st
from tensor_clips import TensorClip, random_clips, settled_backbone
from torch import Tensor, nn

from fvar.model.interface import Engine
from fvar.model.recognizer import CLASSIFIER_STD, Inference, NormMode, Recognizer
from fvar.names import clustering_names

EVERY_CLUSTERING = st.sampled_from([*clustering_names(), None])
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def _recognizer(*, norm: NormMode = "frozen", dropout: float = 0.0) -> Recognizer:
    backbone = settled_backbone("tiny", dtype=torch.float32)
    built = Recognizer(backbone, num_classes=4, dropout=dropout, norm=norm)
    generator = torch.Generator().manual_seed(2)
    built.classifier.weight.data.copy_(torch.randn(4, 128, generator=generator))
    return built


def _clips(lengths: Sequence[int], *, seed: int = 0) -> list[TensorClip]:
    return random_clips(lengths, seed=seed, dtype=torch.float32)


def _same(a: Inference, b: Inference) -> bool:
    return torch.equal(a.logits, b.logits) and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("boundaries", "step_distances", "num_bits")
    )


@pytest.mark.slow
@settings(max_examples=25)
@given(
    EVERY_CLUSTERING,
    st.sampled_from(["plain", "chunked"]),
    st.integers(1, 12),
    st.integers(0, 10**6),
)
def test_inference_is_the_training_forward(
    clustering: str | None, engine: Engine, num_frames: int, seed: int
) -> None:
    """Evaluation clusters the very frames that training clusters: the same logits, to the bit in chunks.

    The plain engine sums a mean in one piece, so there the last bits may differ.
    """
    recognizer, sweep = _recognizer().eval(), make_sweep(clustering, engine=engine)
    (clip,) = _clips([num_frames], seed=seed)
    logits = recognizer([clip], sweep).detach()
    inferred = recognizer.infer(clip, sweep).logits
    assert inferred.dtype == torch.float32
    assert not inferred.requires_grad
    torch.testing.assert_close(inferred, logits[0], rtol=1e-4, atol=1e-5)
    if engine == "chunked" or clustering is None:
        assert torch.equal(inferred, logits[0])


@pytest.mark.slow
@settings(max_examples=15)
@given(EVERY_CLUSTERING, LENGTHS, st.randoms(use_true_random=False))
def test_inference_does_not_depend_on_other_videos(
    clustering: str | None, lengths: list[int], random: Random
) -> None:
    """What is inferred of a video is the same to the bit in any order and after any others."""
    recognizer, clips = _recognizer().eval(), _clips(lengths)
    sweep = replace(make_sweep(clustering), with_steps=True)
    first = [recognizer.infer(clip, sweep) for clip in clips]
    order = list(range(len(clips)))
    random.shuffle(order)
    again = {at: recognizer.infer(clips[at], sweep) for at in order}
    assert all(_same(again[at], inference) for at, inference in enumerate(first))


@pytest.mark.slow
@settings(max_examples=20)
@given(EVERY_CLUSTERING, st.sampled_from(["plain", "chunked"]), LENGTHS)
def test_logits_of_a_video_do_not_depend_on_its_batch(
    clustering: str | None, engine: Engine, lengths: list[int]
) -> None:
    """In a ragged batch each video gets the logits it gets alone, but for rounding in the trunk."""
    recognizer, clips = _recognizer().eval(), _clips(lengths)
    sweep = make_sweep(clustering, engine=engine)
    together = recognizer(clips, sweep).detach()
    alone = torch.cat([recognizer([clip], sweep).detach() for clip in clips])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_consensus_is_the_mean_of_the_logits() -> None:
    """A video's logits are the mean over its representations, whose number may differ between videos."""
    recognizer = _recognizer().eval()
    features: list[Tensor] = []
    recognizer.classifier.register_forward_hook(lambda *call: features.append(call[-1]))
    logits = recognizer(_clips([5, 2, 1]), make_sweep(None))
    (each,) = features
    assert each.shape == (8, 4)
    expected = [each[:5].mean(dim=0), each[5:7].mean(dim=0), each[7]]
    torch.testing.assert_close(logits, torch.stack(expected))


@pytest.mark.slow
@settings(max_examples=25)
@given(EVERY_CLUSTERING, st.integers(1, 12), st.integers(1, 6), st.booleans())
def test_inference_reports_the_partition(
    clustering: str | None, num_frames: int, k: int, with_steps: bool
) -> None:
    """Clusters partition [0, T), min(K, T) of them, T without clustering; distances are the stem's.

    Unasked, distances are there where the clustering needed them.
    """
    recognizer = _recognizer().eval()
    (clip,) = _clips([num_frames])
    sweep = replace(make_sweep(clustering, k), with_steps=with_steps)
    found = recognizer.infer(clip, sweep)
    output = recognizer.backbone.stem(clip.frames).detach().numpy()
    steps = oracle.step_distances(output)
    if clustering == "random" or clustering is None or num_frames < k:
        number = num_frames if clustering is None else min(k, num_frames)
        assert len(found.boundaries) == number + 1
        assert (found.boundaries[0], found.boundaries[-1]) == (0, num_frames)
        assert (np.diff(found.boundaries) > 0).all()
    else:
        spans = oracle.clusters(clustering, steps, k)
        assert list(pairwise(found.boundaries.tolist())) == spans
    wanted = steps if with_steps or clustering in ("cumulative", "slope") else []
    assert found.step_distances.tolist() == wanted
    assert found.num_bits == output[0].size
    assert found.boundaries.dtype == found.step_distances.dtype == np.int64
    assert repr(found) == f"Inference(logits=(4,), clusters={len(found.boundaries) - 1})"


def test_inference_sees_every_frame() -> None:
    """Evaluation samples nothing: altering any one of 20 frames changes the logits."""
    recognizer, sweep = _recognizer().eval(), make_sweep("even")
    (clip,) = _clips([20])
    logits = recognizer.infer(clip, sweep).logits
    for frame in range(20):
        frames = clip.frames.clone()
        frames[frame] += 0.5
        assert not torch.equal(recognizer.infer(TensorClip(frames), sweep).logits, logits), frame
    assert {frame for request in clip.requests for frame in request} == set(range(20))


def _norms(recognizer: Recognizer) -> dict[str, nn.BatchNorm2d]:
    modules = recognizer.backbone.network.named_modules()
    return {name: module for name, module in modules if isinstance(module, nn.BatchNorm2d)}


STEM_NORMS = {"bn1", "layer1.0.bn1", "layer1.0.bn2"}


@pytest.mark.parametrize("norm", ["frozen", "partial", "stem-frozen", "train"])
def test_norm_modes_freeze_what_they_say(norm: NormMode) -> None:
    """A training forward moves the running statistics of the norms that train, and of no other."""
    recognizer = _recognizer(norm=norm)
    moving = {
        "frozen": set(),
        "partial": {"bn1"},
        "stem-frozen": set(_norms(recognizer)) - STEM_NORMS,
        "train": set(_norms(recognizer)),
    }[norm]
    for _ in range(2):  # the mode set again, as after an evaluation, must freeze the same
        before = copy.deepcopy(_norms(recognizer))
        recognizer(_clips([6, 3]), make_sweep("even", engine="plain"))
        moved = {
            name
            for name, module in _norms(recognizer).items()
            if not torch.equal(module.running_mean, before[name].running_mean)
            or not torch.equal(module.running_var, before[name].running_var)
            or module.num_batches_tracked != before[name].num_batches_tracked
        }
        assert moved == moving
        recognizer.eval()
        assert not any(module.training for module in recognizer.modules())
        recognizer.train()
    assert recognizer.training
    assert recognizer.dropout.training


def test_dropout_drops_in_training_alone() -> None:
    """The fraction of features to drop is dropped in training; evaluation is deterministic."""
    recognizer = _recognizer(dropout=0.9)
    clips, sweep = _clips([6, 3]), make_sweep()
    assert not torch.equal(recognizer(clips, sweep), recognizer(clips, sweep))
    recognizer.eval()
    assert torch.equal(recognizer(clips, sweep), recognizer(clips, sweep))


def test_the_classifier_starts_near_zero() -> None:
    """Fresh classifier weights are drawn from N(0, 0.001), biases are zero."""
    backbone = settled_backbone("tiny")
    torch.manual_seed(0)
    classifier = Recognizer(backbone, num_classes=100, dropout=0, norm="train").classifier
    assert CLASSIFIER_STD == 0.001
    assert classifier.weight.std().item() == pytest.approx(0.001, rel=0.02)  # of 12,800 values
    assert not classifier.bias.any()
