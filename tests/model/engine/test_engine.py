"""The engines: chunks give what plain back-propagation through every frame gives, without its memory."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import oracle
import pytest
import torch
from engine_steps import (
    ENGINES,
    PLENTY,
    Step,
    assert_same_step,
    backward,
    distance,
    make_recognizer,
    make_sweep,
    spans_of,
    take_step,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensor_clips import TensorClip, pixel_backbone, random_clips, settled_backbone
from torch import Tensor, nn

from fvar.model.averaging import mean
from fvar.model.backbone import Backbone
from fvar.model.clustering import cluster
from fvar.model.conv_bn_fusion import depends_on_batch
from fvar.model.engine import represent
from fvar.model.interface import Engine, Sweep
from fvar.model.recognizer import Recognizer
from fvar.model.shift import VideoLayout
from fvar.names import clustering_names

EVERY_CLUSTERING = st.sampled_from(clustering_names())
CPU = torch.device("cpu")


@lru_cache
def _narrow(name: str) -> Backbone:
    return settled_backbone(name, dtype=torch.float32)


def _tiny(*, stage: int = 1, dtype: torch.dtype = torch.float64) -> Recognizer:
    return make_recognizer(settled_backbone("tiny", stage=stage, dtype=dtype))


def _spans(sweep: Sweep, clip: TensorClip, output: Tensor) -> list[tuple[int, int]]:
    """Return a video's clusters by the definitions; random cuts, which have none, by the library."""
    k = sweep.num_clusters
    if sweep.clustering != "random":
        steps = oracle.step_distances(output.detach().numpy())
        return oracle.clusters(str(sweep.clustering), steps, k)
    steps, length = torch.zeros(clip.num_frames, dtype=torch.int64), torch.tensor([clip.num_frames])
    return spans_of(cluster("random", steps, length, num_clusters=k, cut_keys=[clip.cut_key]))[0]


def _reference(
    recognizer: Recognizer, clips: Sequence[TensorClip], sweep: Sweep
) -> tuple[Step, list[list[tuple[int, int]]]]:
    """Do what the definitions say with autograd alone, all frames of a video in one piece."""
    outputs = [recognizer.backbone.stem(clip.frames) for clip in clips]
    spans = [_spans(sweep, clip, x) for clip, x in zip(clips, outputs, strict=True)]
    means = [
        x[start:stop].mean(dim=0)
        for x, of_video in zip(outputs, spans, strict=True)
        for start, stop in of_video
    ]
    k = sweep.num_clusters
    layout = VideoLayout.of([k] * len(clips), device=CPU)
    features = recognizer.backbone.trunk(torch.stack(means), layout)
    logits = recognizer.classifier(features).view(len(clips), k, -1).mean(dim=1)
    return backward(recognizer, logits), spans


@pytest.mark.slow
@settings(max_examples=20)
@given(
    lengths=st.lists(st.integers(1, 11), min_size=1, max_size=3),
    name=EVERY_CLUSTERING,
    k=st.integers(1, 6),
    chunk=st.integers(1, 12),
    keep=st.sampled_from([0, 100_000, PLENTY]),
    stage=st.integers(1, 3),
    seed=st.integers(0, 100),
)
@example(lengths=[1, 9, 2], name="slope", k=4, chunk=3, keep=0, stage=4, seed=0)
def test_both_engines_equal_plain_back_propagation(
    lengths: list[int], name: str, k: int, chunk: int, keep: int, stage: int, seed: int
) -> None:
    """In float64 both engines agree with autograd through every frame, whatever the chunks, lengths and K."""
    recognizer, clips = _tiny(stage=stage), random_clips(lengths, seed=seed)
    sweep = make_sweep(name, k, chunk=chunk, keep=keep)
    wanted, spans = _reference(recognizer, clips, sweep)
    for engine in ENGINES:
        sweep = replace(sweep, engine=engine)
        assert spans_of(represent(recognizer.backbone, clips, sweep).clusters) == spans
        found = take_step(recognizer, clips, sweep)
        assert set(found.gradients) == {name for name, _ in recognizer.named_parameters()}
        assert_same_step(found, wanted)


def test_gradient_through_the_means_passes_gradcheck() -> None:
    """With fixed boundaries the chunked means have the gradient that finite differences see."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 2, 1, dtype=torch.float64)
    units = [convolution, nn.Softplus()]
    backbone = Backbone(convolution, units=units, num_stem_units=2, shifted={}, num_features=2)
    clips = random_clips([5, 2, 1], size=2)

    def means(*_parameters: Tensor) -> Tensor:
        return represent(backbone, clips, make_sweep("even", 2, chunk=2)).activations

    assert torch.autograd.gradcheck(means, tuple(convolution.parameters()))


INTEGER_WEIGHT = torch.tensor([[1.0, -1.0, 0.0], [2.0, 1.0, -1.0], [-1.0, 0.0, 1.0]])


def _integer_clips(lengths: Sequence[int], *, seed: int) -> list[TensorClip]:
    """Return clips of small integers, on which convolutions in any order are exact."""
    rng = np.random.default_rng(seed)
    return [
        TensorClip(torch.from_numpy(rng.integers(-3, 4, (length, 3, 2, 2)).astype(np.float32)), key)
        for key, length in enumerate(lengths)
    ]


@pytest.mark.slow
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    name=EVERY_CLUSTERING,
    k=st.integers(1, 9),
    chunks=st.tuples(st.integers(1, 41), st.integers(1, 41)),
    seed=st.integers(0, 10**6),
)
def test_distances_and_clusters_do_not_depend_on_the_chunks(
    lengths: list[int], name: str, k: int, chunks: tuple[int, int], seed: int
) -> None:
    """Steps between chunks count like those within: distances and boundaries are the same for any size."""
    backbone, clips = pixel_backbone(INTEGER_WEIGHT), _integer_clips(lengths, seed=seed)
    first, second = (represent(backbone, clips, make_sweep(name, k, chunk=n)) for n in chunks)
    assert spans_of(first.clusters) == spans_of(second.clusters)
    assert first.num_bits == second.num_bits == 3 * 2 * 2
    outputs = [backbone.stem(clip.frames).detach().numpy() for clip in clips]
    expected = [distance for x in outputs for distance in (*oracle.step_distances(x), 0)]
    if first.steps is not None:
        assert first.steps.tolist() == expected
    for engine in ENGINES:
        sweep = replace(make_sweep(name, k, chunk=chunks[0], engine=engine), with_steps=True)
        measured = represent(backbone, clips, sweep)
        assert measured.steps is not None
        assert measured.steps.tolist() == expected
        assert spans_of(measured.clusters) == spans_of(first.clusters)


@pytest.mark.parametrize("backbone_name", ["tiny", "mobilenet_v2"])
@pytest.mark.parametrize("engine", ENGINES)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    name=EVERY_CLUSTERING,
    chunk=st.integers(1, 5),
)
@settings(max_examples=8)
def test_means_of_a_video_do_not_depend_on_its_batch(
    backbone_name: str, engine: Engine, lengths: list[int], name: str, chunk: int
) -> None:
    """To the bit, also in float32, a video's clusters and means are the same alone and among others."""
    backbone, clips = _narrow(backbone_name), random_clips(lengths, dtype=torch.float32)
    sweep = make_sweep(name, 3, engine=engine, chunk=chunk)
    together = represent(backbone, clips, sweep)
    alone = [represent(backbone, [clip], sweep) for clip in clips]
    assert torch.equal(together.activations, torch.cat([one.activations for one in alone]))
    assert spans_of(together.clusters) == [spans_of(one.clusters)[0] for one in alone]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", clustering_names())
def test_two_thousand_frames_are_all_averaged(engine: Engine, name: str) -> None:
    """In a video of 2,001 frames the sum of size x mean is the sum of the stem's outputs, none left out."""
    backbone = pixel_backbone(INTEGER_WEIGHT.double())
    frames = torch.from_numpy(np.random.default_rng(0).normal(size=(2_001, 3, 1, 1)))
    sweep = make_sweep(name, 8, engine=engine, chunk=16)
    found = represent(backbone, [TensorClip(frames)], sweep)
    (spans,) = spans_of(found.clusters)
    sizes = torch.tensor([stop - start for start, stop in spans], dtype=torch.float64)
    assert sizes.sum() == 2_001
    total = (sizes[:, None, None, None] * found.activations).sum(dim=0)
    torch.testing.assert_close(total, backbone.stem(frames).sum(dim=0), rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("k", [1, 8, 3_000])
def test_two_thousand_frames_all_reach_the_gradient(k: int) -> None:
    """The stem's gradient over 2,001 frames is that of the plain engine, for T above and below K."""
    frames = torch.from_numpy(np.random.default_rng(0).normal(size=(2_001, 3, 1, 1)))
    gradients = []
    for engine in ENGINES:
        backbone = pixel_backbone(INTEGER_WEIGHT.double())
        sweep = make_sweep("cumulative", k, engine=engine, chunk=16)
        (represent(backbone, [TensorClip(frames)], sweep).activations ** 2).sum().backward()
        gradients.append(backbone.network.weight.grad)
    assert distance(gradients[0], gradients[1]) <= 1e-10


@pytest.mark.slow
def test_altering_any_single_frame_changes_the_result() -> None:
    """Every frame counts: altering one of 30, the last included, changes the loss and the stem's gradient."""
    recognizer, sweep = _tiny(), make_sweep("even", 4, chunk=7)
    (clip,) = random_clips([30])
    _, loss, gradients = take_step(recognizer, [clip], sweep)
    for frame in range(clip.num_frames):
        frames = clip.frames.clone()
        frames[frame] += 0.1
        _, other_loss, other = take_step(recognizer, [TensorClip(frames)], sweep)
        assert other_loss != loss, frame
        key = "backbone.network.conv1.weight"
        assert not torch.equal(other[key], gradients[key]), frame


def test_every_frame_receives_its_part_of_the_gradient() -> None:
    """A frame's gradient is its cluster's divided by the size, summed over the clusters that show it."""
    grad_means = torch.arange(1.0, 5.0, dtype=torch.float64)
    starts, stops = torch.tensor([0, 1, 4, 6]), torch.tensor([1, 4, 6, 8])
    matrix = mean(starts, stops, torch.arange(8), torch.float64)
    expected = [1, *[2 / 3] * 3, *[3 / 2] * 2, *[4 / 2] * 2]
    torch.testing.assert_close(matrix.T @ grad_means, torch.tensor(expected, dtype=torch.float64))
    starts = torch.tensor([0, 0, 1, 1])
    short = mean(starts, starts + 1, torch.arange(2), torch.float64)
    assert (short.T @ grad_means).tolist() == [3, 7]


@pytest.mark.parametrize("name", ["cumulative", "even"])
def test_kept_outputs_change_no_bit(name: str) -> None:
    """Kept, partly kept or recomputed stem outputs give the same logits and gradients, to the bit."""
    clips = random_clips([9, 4], dtype=torch.float32)
    results = [
        take_step(_tiny(dtype=torch.float32), clips, make_sweep(name, chunk=2, keep=keep))
        for keep in (0, 20_000, PLENTY)
    ]
    for logits, loss, gradients in results[1:]:
        assert torch.equal(logits, results[0][0])
        assert torch.equal(loss, results[0][1])
        assert all(torch.equal(gradients[name], g) for name, g in results[0][2].items())


def test_a_stem_trained_in_part_gets_the_gradients_it_asks_for() -> None:
    """With some of the stem's parameters frozen the others' gradients are the reference's."""
    recognizer, sweep = _tiny(), make_sweep(chunk=3)
    recognizer.backbone.network.conv1.requires_grad_(False)
    recognizer.backbone.network.layer1[0].bn2.bias.requires_grad_(False)
    clips = random_clips([6, 2])
    wanted, _ = _reference(recognizer, clips, sweep)
    assert_same_step(take_step(recognizer, clips, sweep), wanted)


def test_the_plain_engine_gives_a_training_norm_the_whole_batch() -> None:
    """A batch norm that trains sees every frame of every video at once, whatever the chunks."""
    backbone = settled_backbone("tiny")
    backbone.train()
    assert depends_on_batch(backbone.stem_modules())
    clips = random_clips([5, 3])
    sweep = make_sweep("even", 2, engine="plain", chunk=1)
    means = represent(backbone, clips, sweep).activations
    outputs = backbone.stem(torch.cat([clip.frames for clip in clips]))
    expected = [outputs[a:b].mean(dim=0) for a, b in ((0, 2), (2, 5), (5, 6), (6, 8))]
    torch.testing.assert_close(means, torch.stack(expected))


def test_without_clustering_every_frame_is_a_representation() -> None:
    """Without clustering the representations are the stem's outputs, each video with its own number."""
    backbone, clips = settled_backbone("tiny"), random_clips([5, 3])
    found = represent(backbone, clips, make_sweep(None, chunk=2))
    expected = backbone.stem(torch.cat([clip.frames for clip in clips]))
    torch.testing.assert_close(found.activations, expected)
    assert (found.counts, found.clusters, found.steps) == ((5, 3), None, None)
    assert found.num_bits == expected[0].numel()


def test_chunks_are_refused_where_they_would_not_be_exact() -> None:
    """A stem whose batch norm trains and a missing clustering are refused, each by its name."""
    backbone, clips, sweep = settled_backbone("tiny"), random_clips([4]), make_sweep()
    with pytest.raises(ValueError, match="engine chunked: without a clustering"):
        represent(backbone, clips, replace(sweep, clustering=None))
    backbone.network.bn1.train()
    with pytest.raises(ValueError, match="the stem's batch norm trains"):
        represent(backbone, clips, sweep)
    backbone.eval()
    backbone.network.layer2[0].bn1.train()  # in the trunk: no matter
    assert represent(backbone, clips, sweep).counts == (3,)
