"""The engines: chunks give what plain back-propagation through every frame gives, without its memory."""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import oracle
import pytest
import torch
from engine_steps import (
    NUM_CLASSES,
    PLENTY,
    Step,
    assert_same_step,
    backward,
    distance,
    make_recognizer,
    make_sweep,
    take_step,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensor_clips import TensorClip, pixel_backbone, random_clips, settled_backbone
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from fvar.model.backbone import Backbone
from fvar.model.clustering import METHODS, ClusteringMethod, averaging_matrix, cluster
from fvar.model.conv_bn_fusion import depends_on_batch
from fvar.model.engine import (
    ENGINES,
    chunked_rows,
    measure_steps,
    plain_rows,
)
from fvar.model.interface import Engine, Sweep
from fvar.model.recognizer import Recognizer
from fvar.model.shift import RowLayout

OUTPUTS_ALONE = (
    10 * 32 * 4 * 4 * 8
)  # bytes of tiny's stem outputs for 10 frames of 16 px in float64
EVERY_METHOD = st.sampled_from(list(METHODS))
CPU = torch.device("cpu")


def _tiny(*, stage: int = 1, dtype: torch.dtype = torch.float64) -> Recognizer:
    return make_recognizer(settled_backbone("tiny", stage=stage, dtype=dtype))


def _spans(sweep: Sweep, clip: TensorClip, output: Tensor) -> list[tuple[int, int]]:
    """Return a video's runs by the definitions; random cuts, which have none, by the library."""
    method, k = sweep.clustering, sweep.num_clusters
    if method != "random":
        return oracle.runs(str(method), oracle.step_distances(output.detach().numpy()), k)
    steps, length = torch.zeros(clip.num_frames, dtype=torch.int64), torch.tensor([clip.num_frames])
    runs = cluster("random", steps, length, num_clusters=k, cut_keys=[clip.cut_key])
    return list(zip(runs.starts[0].tolist(), runs.stops[0].tolist(), strict=True))


def _reference(
    recognizer: Recognizer, clips: Sequence[TensorClip], sweep: Sweep
) -> tuple[Step, list[list[tuple[int, int]]]]:
    """Do what the definitions say with autograd alone, all frames of a video in one piece."""
    outputs = [recognizer.backbone.stem(clip.frames) for clip in clips]
    spans = [_spans(sweep, clip, x) for clip, x in zip(clips, outputs, strict=True)]
    rows = [
        x[start:stop].mean(dim=0)
        for x, runs in zip(outputs, spans, strict=True)
        for start, stop in runs
    ]
    k = sweep.num_clusters
    features = recognizer.backbone.trunk(
        torch.stack(rows), RowLayout.of([k] * len(clips), device=CPU)
    )
    logits = recognizer.classifier(features).view(len(clips), k, -1).mean(dim=1)
    return backward(recognizer, logits), spans


def _assert_exact(recognizer: Recognizer, clips: Sequence[TensorClip], sweep: Sweep) -> None:
    """Hold both engines against the reference: boundaries, logits, loss and every gradient."""
    wanted, spans = _reference(recognizer, clips, sweep)
    for engine, rows_of in ENGINES.items():
        runs = rows_of(recognizer.backbone, clips, sweep).runs
        assert runs is not None
        pairs = torch.stack([runs.starts, runs.stops], dim=2).tolist()
        assert [[tuple(pair) for pair in video] for video in pairs] == spans
        found = take_step(recognizer, clips, replace(sweep, engine=engine))
        assert set(found[2]) == {name for name, _ in recognizer.named_parameters()}
        assert_same_step(found, wanted)


@settings(max_examples=20)
@given(
    lengths=st.lists(st.integers(1, 11), min_size=1, max_size=3),
    method=EVERY_METHOD,
    k=st.integers(1, 6),
    chunk=st.integers(1, 12),
    keep=st.sampled_from([0, 100_000, PLENTY]),
    stage=st.integers(1, 3),
    seed=st.integers(0, 100),
)
@example(lengths=[1, 9, 2], method="slope", k=4, chunk=3, keep=0, stage=4, seed=0)
def test_both_engines_equal_plain_back_propagation(
    lengths: list[int],
    method: ClusteringMethod,
    k: int,
    chunk: int,
    keep: int,
    stage: int,
    seed: int,
) -> None:
    """In float64 both engines agree with autograd through every frame, whatever the chunks, lengths and K."""
    sweep = make_sweep(method, k, chunk=chunk, keep=keep)
    _assert_exact(_tiny(stage=stage), random_clips(lengths, seed=seed), sweep)


def test_gradient_through_the_means_passes_gradcheck() -> None:
    """With fixed boundaries the chunked means have the gradient that finite differences see."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 2, 1, dtype=torch.float64)
    backbone = Backbone(
        convolution,
        units=[convolution, nn.Softplus()],
        num_stem_units=2,
        shifted=[],
        num_features=2,
    )
    clips = random_clips([5, 2, 1], size=2)

    def means(*_parameters: Tensor) -> Tensor:
        return chunked_rows(backbone, clips, make_sweep("even", 2, chunk=2)).activations

    assert torch.autograd.gradcheck(means, tuple(convolution.parameters()))


INTEGER_WEIGHT = torch.tensor([[1.0, -1.0, 0.0], [2.0, 1.0, -1.0], [-1.0, 0.0, 1.0]])


def _integer_clips(lengths: Sequence[int], *, seed: int) -> list[TensorClip]:
    """Return clips of small integers, on which convolutions in any order are exact."""
    rng = np.random.default_rng(seed)
    return [
        TensorClip(torch.from_numpy(rng.integers(-3, 4, (length, 3, 2, 2)).astype(np.float32)), key)
        for key, length in enumerate(lengths)
    ]


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    method=EVERY_METHOD,
    k=st.integers(1, 9),
    chunks=st.tuples(st.integers(1, 41), st.integers(1, 41)),
    seed=st.integers(0, 10**6),
)
def test_distances_and_runs_do_not_depend_on_the_chunks(
    lengths: list[int],
    method: ClusteringMethod,
    k: int,
    chunks: tuple[int, int],
    seed: int,
) -> None:
    """Steps between chunks count like those within: distances and boundaries are the same for any size."""
    backbone, clips = pixel_backbone(INTEGER_WEIGHT), _integer_clips(lengths, seed=seed)
    first, second = (chunked_rows(backbone, clips, make_sweep(method, k, chunk=n)) for n in chunks)
    assert first.runs is not None
    assert second.runs is not None
    assert torch.equal(first.runs.starts, second.runs.starts)
    assert torch.equal(first.runs.stops, second.runs.stops)
    assert first.num_bits == second.num_bits == 3 * 2 * 2
    outputs = [backbone.stem(clip.frames).detach().numpy() for clip in clips]
    expected = [distance for x in outputs for distance in (*oracle.step_distances(x), 0)]
    if first.steps is not None:
        assert first.steps.tolist() == expected
    measured = torch.cat([measure_steps(backbone, clip, make_sweep(chunk=3)) for clip in clips])
    assert measured.tolist() == expected


@pytest.mark.parametrize("engine", ENGINES)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    method=EVERY_METHOD,
    chunk=st.integers(1, 5),
)
@settings(max_examples=15)
def test_rows_of_a_video_do_not_depend_on_its_batch(
    engine: Engine, lengths: list[int], method: ClusteringMethod, chunk: int
) -> None:
    """To the bit, also in float32, a video's runs and means are the same alone and among others."""
    backbone = settled_backbone("tiny", dtype=torch.float32)
    clips = random_clips(lengths, dtype=torch.float32)
    sweep = make_sweep(method, 3, chunk=chunk)
    together = ENGINES[engine](backbone, clips, sweep).activations.detach()
    alone = [ENGINES[engine](backbone, [clip], sweep).activations.detach() for clip in clips]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", METHODS)
def test_two_thousand_frames_are_all_averaged(engine: Engine, method: ClusteringMethod) -> None:
    """In a video of 2,001 frames the sum of size x mean is the sum of the stem's outputs, none left out."""
    backbone = pixel_backbone(INTEGER_WEIGHT.double())
    frames = torch.from_numpy(np.random.default_rng(0).normal(size=(2_001, 3, 1, 1)))
    rows = ENGINES[engine](backbone, [TensorClip(frames)], make_sweep(method, 8, chunk=16))
    assert rows.runs is not None
    sizes = (rows.runs.stops - rows.runs.starts)[0].double()
    assert sizes.sum() == 2_001
    total = (sizes[:, None, None, None] * rows.activations).sum(dim=0)
    torch.testing.assert_close(total, backbone.stem(frames).sum(dim=0), rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("k", [1, 8, 3_000])
def test_two_thousand_frames_all_reach_the_gradient(k: int) -> None:
    """The stem's gradient over 2,001 frames is that of the plain engine, for T above and below K."""
    frames = torch.from_numpy(np.random.default_rng(0).normal(size=(2_001, 3, 1, 1)))
    gradients = []
    for engine in ENGINES.values():
        backbone = pixel_backbone(INTEGER_WEIGHT.double())
        rows = engine(backbone, [TensorClip(frames)], make_sweep("cumulative", k, chunk=16))
        (rows.activations**2).sum().backward()
        gradients.append(backbone.network.weight.grad)
    assert distance(gradients[0], gradients[1]) <= 1e-10


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


def test_every_frame_receives_its_share_of_the_gradient() -> None:
    """The gradient at a frame's stem output is the row's divided by the run's size, summed over its rows."""
    grad_rows = torch.arange(1.0, 5.0, dtype=torch.float64)
    starts, stops = torch.tensor([0, 1, 4, 6]), torch.tensor([1, 4, 6, 8])
    matrix = averaging_matrix(
        starts, stops, stops - starts, frames=torch.arange(8), dtype=torch.float64
    )
    expected = [1, *[2 / 3] * 3, *[3 / 2] * 2, *[4 / 2] * 2]
    torch.testing.assert_close(matrix.T @ grad_rows, torch.tensor(expected, dtype=torch.float64))
    starts = torch.tensor([0, 0, 1, 1])
    short = averaging_matrix(
        starts, starts + 1, torch.ones(4), frames=torch.arange(2), dtype=torch.float64
    )
    assert (short.T @ grad_rows).tolist() == [3, 7]


@pytest.mark.parametrize("method", ["cumulative", "even"])
def test_kept_outputs_change_no_bit(method: ClusteringMethod) -> None:
    """Kept, partly kept or recomputed stem outputs give the same logits and gradients, to the bit."""
    clips = random_clips([9, 4], dtype=torch.float32)
    results = [
        take_step(_tiny(dtype=torch.float32), clips, make_sweep(method, chunk=2, keep=keep))
        for keep in (0, 20_000, PLENTY)
    ]
    for logits, loss, gradients in results[1:]:
        assert torch.equal(logits, results[0][0])
        assert torch.equal(loss, results[0][1])
        assert all(torch.equal(gradients[name], g) for name, g in results[0][2].items())


@pytest.mark.parametrize(
    ("method", "keep", "frozen", "sweeps"),
    [
        ("cumulative", PLENTY, False, 1),
        ("cumulative", OUTPUTS_ALONE, False, 2),
        ("cumulative", 0, False, 3),
        ("cumulative", OUTPUTS_ALONE, True, 1),
        ("cumulative", 0, True, 2),
        ("even", PLENTY, False, 1),
        ("even", OUTPUTS_ALONE, False, 2),
        ("even", 0, True, 1),
    ],
)
def test_the_stem_goes_over_the_frames_no_more_than_needed(
    method: ClusteringMethod, keep: int, *, frozen: bool, sweeps: int
) -> None:
    """A sweep asks for each frame once; kept outputs save one, kept tapes two, a frozen stem the last."""
    recognizer = _tiny()
    for parameter in recognizer.backbone.stem_parameters():
        parameter.requires_grad_(not frozen)
    (clip,) = random_clips([10])
    _, _, gradients = take_step(recognizer, [clip], make_sweep(method, chunk=4, keep=keep))
    assert clip.requests == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)] * sweeps
    assert ("backbone.network.conv1.weight" in gradients) == (not frozen)
    assert "backbone.network.layer2.0.conv1.weight" in gradients


def test_a_stem_trained_in_part_gets_the_gradients_it_asks_for() -> None:
    """With some of the stem's parameters frozen the others' gradients are the reference's."""
    recognizer, sweep = _tiny(), make_sweep(chunk=3)
    recognizer.backbone.network.conv1.requires_grad_(False)
    recognizer.backbone.network.layer1[0].bn2.bias.requires_grad_(False)
    clips = random_clips([6, 2])
    wanted, _ = _reference(recognizer, clips, sweep)
    assert_same_step(take_step(recognizer, clips, sweep), wanted)


class _TapeMeter:
    """Counts the bytes that autograd keeps for the backward pass, parameters aside."""

    def __init__(self) -> None:
        self.live = self.peak = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        with saved_tensors_hooks(self._pack, lambda held: held.tensor):
            yield

    def _pack(self, tensor: Tensor) -> "_Held":
        held = _Held(tensor)
        if not isinstance(tensor, nn.Parameter):
            size = tensor.numel() * tensor.element_size()
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(held, self._release, size)
        return held

    def _release(self, size: int) -> None:
        self.live -= size


class _Held:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _peak_bytes(engine: Engine, num_frames: int) -> int:
    """Return the most that the tape holds in a step, the chunks of the backward pass included."""
    sweep, meter = make_sweep("cumulative", 2, engine=engine, chunk=4, keep=0), _TapeMeter()
    with meter.running():
        take_step(_tiny(), random_clips([num_frames]), sweep)
    assert meter.live == 0
    return meter.peak


def test_the_tape_does_not_grow_with_the_frames() -> None:
    """From 16 to 64 frames the chunked engine's tape stays as it is, the plain engine's grows with them."""
    assert _peak_bytes("chunked", 64) == _peak_bytes("chunked", 16)
    assert _peak_bytes("plain", 64) > 3 * _peak_bytes("plain", 16)
    assert _peak_bytes("chunked", 64) < _peak_bytes("plain", 64) / 4


@pytest.mark.parametrize(
    ("engine", "keep", "alive"),
    [("chunked", 0, 0), ("chunked", OUTPUTS_ALONE, 0), ("chunked", PLENTY, 6), ("plain", 0, 6)],
)
def test_no_stem_output_outlives_the_forward_pass(engine: Engine, keep: int, alive: int) -> None:
    """After the forward pass the chunked engine holds stem outputs only as kept tapes, for sweep 3."""
    recognizer, outputs = _tiny(), list[weakref.ref[Tensor]]()
    for stem in (recognizer.backbone.network, recognizer.backbone.folded_stem._shape):
        found = dict(stem.named_modules())
        convolution = found.get("layer1.0.conv2") or found["4.conv2"]
        convolution.register_forward_hook(lambda *call: outputs.append(weakref.ref(call[-1])))
    logits = recognizer(random_clips([10, 11]), make_sweep(engine=engine, chunk=4, keep=keep))
    assert len(outputs) == {0: 12, OUTPUTS_ALONE: 9, PLENTY: 6}[keep] or engine == "plain"
    assert sum(output() is not None for output in outputs) == alive
    assert logits.requires_grad


@contextmanager
def _bf16() -> Iterator[None]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("keep", [0, PLENTY])
@pytest.mark.parametrize("backward_inside", [False, True])
def test_autocast_works_from_outside(engine: Engine, *, backward_inside: bool, keep: int) -> None:
    """Under bfloat16 autocast every sweep runs in bfloat16; means and gradients are float32, near exact."""
    sweep = make_sweep("even", engine=engine, chunk=4, keep=keep)
    recognizer, clips = _tiny(dtype=torch.float32), random_clips([9, 2], dtype=torch.float32)
    _, _, exact = take_step(recognizer, clips, sweep)
    seen = set()
    for stem in (recognizer.backbone.network, recognizer.backbone.folded_stem._shape):
        first = next(module for module in stem.modules() if isinstance(module, nn.Conv2d))
        first.register_forward_hook(lambda *call: seen.add(call[-1].dtype))
    with _bf16():
        rows = ENGINES[engine](recognizer.backbone, clips, sweep)
        assert rows.activations.dtype == torch.float32
        logits = recognizer(clips, sweep)
        found = backward(recognizer, logits) if backward_inside else None
    _, _, gradients = found or backward(recognizer, logits)
    assert seen == {torch.bfloat16}
    for name, gradient in exact.items():
        assert gradients[name].dtype == torch.float32
        cosine = functional.cosine_similarity(gradients[name].flatten(), gradient.flatten(), dim=0)
        assert cosine > 0.95, name


def test_gradients_accumulate_and_scale() -> None:
    """To autograd the chunked means are one operation: backward twice adds up, a scaled loss scales."""
    recognizer, sweep = _tiny(), make_sweep()
    clips = random_clips([6, 3])
    _, _, once = take_step(recognizer, clips, sweep)
    recognizer.zero_grad()
    loss = functional.cross_entropy(recognizer(clips, sweep), torch.arange(2)) * 1024
    loss.backward(retain_graph=True)
    loss.backward()
    for name, parameter in recognizer.named_parameters():
        torch.testing.assert_close(parameter.grad, 2048 * once[name])


@pytest.mark.parametrize("engine", ENGINES)
def test_an_empty_batch_gives_no_logits_and_zero_gradients(engine: Engine) -> None:
    """A process whose share of the batch is empty takes part: (0, classes) logits, gradients of zero."""
    recognizer = _tiny()
    logits = recognizer([], make_sweep(engine=engine))
    assert logits.shape == (0, NUM_CLASSES)
    logits.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in recognizer.parameters())


def test_the_plain_engine_gives_a_training_norm_the_whole_batch() -> None:
    """A batch norm that trains sees every frame of every video at once, whatever the chunks."""
    backbone = settled_backbone("tiny")
    backbone.train()
    assert depends_on_batch(backbone.stem_modules())
    clips = random_clips([5, 3])
    rows = plain_rows(backbone, clips, make_sweep("even", 2, chunk=1)).activations
    outputs = backbone.stem(torch.cat([clip.frames for clip in clips]))
    expected = [outputs[a:b].mean(dim=0) for a, b in ((0, 2), (2, 5), (5, 6), (6, 8))]
    torch.testing.assert_close(rows, torch.stack(expected))


@pytest.mark.parametrize("method", [None])
def test_without_clustering_every_frame_is_a_row(method: None) -> None:
    """For method None the plain engine's rows are the stem's outputs, each video with its own number."""
    backbone, clips = settled_backbone("tiny"), random_clips([5, 3])
    rows = plain_rows(backbone, clips, make_sweep(method, chunk=2))
    expected = backbone.stem(torch.cat([clip.frames for clip in clips]))
    torch.testing.assert_close(rows.activations, expected)
    assert (rows.num_rows, rows.runs, rows.steps) == ((5, 3), None, None)
    assert rows.num_bits == expected[0].numel()


def test_chunks_are_refused_where_they_would_not_be_exact() -> None:
    """A stem whose batch norm trains and a missing clustering are refused, each by its name."""
    backbone, clips = settled_backbone("tiny"), random_clips([4])
    with pytest.raises(ValueError, match="engine chunked: without a clustering"):
        chunked_rows(backbone, clips, make_sweep(None))
    backbone.network.bn1.train()
    with pytest.raises(ValueError, match="the stem's batch norm trains"):
        chunked_rows(backbone, clips, make_sweep())
    backbone.eval()
    backbone.network.layer2[0].bn1.train()  # in the trunk: no matter
    assert chunked_rows(backbone, clips, make_sweep()).num_rows == (3,)


@pytest.mark.parametrize("value", [0, -3])
def test_a_sweep_without_frames_or_clusters_is_refused(value: int) -> None:
    """Chunks and clusters are at least 1: the message names the value."""
    with pytest.raises(ValueError, match=f"chunk_frames {value}: must be at least 1"):
        make_sweep(chunk=value)
    with pytest.raises(ValueError, match=f"num_clusters {value}: must be at least 1"):
        make_sweep(k=value)
