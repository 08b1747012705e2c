"""The engines from outside: precision, scaling, clipping, accumulation, processes know nothing of chunks."""

from pathlib import Path

import pytest
import torch
from engine_steps import (
    ENGINES,
    NUM_CLASSES,
    PLENTY,
    assert_same_gradients,
    backward,
    gradients_of,
    make_recognizer,
    make_sweep,
    take_step,
    total_distance,
)
from parallel_steps import BATCHES, load_steps, save_steps, take_steps
from processes import processes
from tensor_clips import TensorClip, random_clips, settled_backbone
from torch import Tensor, nn
from torch.nn import functional

from fvar.model.engine import represent
from fvar.model.interface import Engine, Sweep
from fvar.model.recognizer import Recognizer
from fvar.training.distributed import World

CPU = torch.device("cpu")
SCALE = 2.0**16
BOTH_ENGINES = pytest.mark.parametrize("engine", ENGINES)


def _tiny(*, dtype: torch.dtype = torch.float64, seed: int = 0) -> Recognizer:
    return make_recognizer(settled_backbone("tiny", dtype=dtype, seed=seed))


def _sweep(engine: Engine) -> Sweep:
    """Return a sweep whose chunks are partly kept with tapes, partly computed again."""
    return make_sweep("even", 3, engine=engine, chunk=3, keep=300_000)


@BOTH_ENGINES
@pytest.mark.parametrize("keep", [0, PLENTY])
@pytest.mark.parametrize("backward_inside", [False, True])
def test_autocast_works_from_outside(engine: Engine, *, backward_inside: bool, keep: int) -> None:
    """Under bfloat16 autocast sweeps and means are in bfloat16; gradients are float32, and near exact."""
    sweep = make_sweep("even", engine=engine, chunk=4, keep=keep)
    recognizer, clips = _tiny(dtype=torch.float32), random_clips([9, 2], dtype=torch.float32)
    _, _, exact = take_step(recognizer, clips, sweep)
    seen = set()
    for stem in (recognizer.backbone.network, recognizer.backbone.folded_stem.shape):
        first = next(module for module in stem.modules() if isinstance(module, nn.Conv2d))
        first.register_forward_hook(lambda *call: seen.add(call[-1].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert represent(recognizer.backbone, clips, sweep).activations.dtype == torch.bfloat16
        logits = recognizer(clips, sweep)
        found = backward(recognizer, logits) if backward_inside else None
    _, _, gradients = found or backward(recognizer, logits)
    assert seen == {torch.bfloat16}
    for name, gradient in exact.items():
        assert gradients[name].dtype == torch.float32
        cosine = functional.cosine_similarity(gradients[name].flatten(), gradient.flatten(), dim=0)
        assert cosine > 0.95, name


@BOTH_ENGINES
def test_means_are_added_up_in_float32(engine: Engine) -> None:
    """Of 150 frames in bfloat16 the mean is the exact one, rounded once."""
    recognizer = _tiny(dtype=torch.float32)
    clips = random_clips([150], dtype=torch.float32)
    sweep = make_sweep("even", 1, engine=engine, chunk=3)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = represent(recognizer.backbone, clips, sweep).activations
        stem = recognizer.backbone.folded_stem if engine == "chunked" else None
        chunks = [clips[0].pictures(range(at, at + 3)) for at in range(0, 150, 3)]
        outputs = [
            recognizer.backbone.stem(x) if stem is None else stem(x, stem.weights()) for x in chunks
        ]
    mean = torch.cat(outputs).double().mean(dim=0)
    assert ((found.double() - mean).abs() <= 2**-8 * mean.abs() + 1e-6).all()


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


@BOTH_ENGINES
def test_an_empty_batch_gives_no_logits_and_zero_gradients(engine: Engine) -> None:
    """A process whose share of the batch is empty takes part: (0, classes) logits, gradients of zero."""
    recognizer = _tiny()
    logits = recognizer([], make_sweep(engine=engine))
    assert logits.shape == (0, NUM_CLASSES)
    logits.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in recognizer.parameters())


def _bf16_distances(seed: int) -> dict[str, float]:
    """Return how far each engine's gradient under bfloat16 autocast is from plain's in float32."""
    clips = random_clips([7, 2], seed=seed, size=32, dtype=torch.float32)
    recognizer = _tiny(dtype=torch.float32, seed=seed)
    exact = take_step(recognizer, clips, _sweep("plain")).gradients
    found = {}
    for engine in ENGINES:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = recognizer(clips, _sweep(engine))
        found[engine] = total_distance(backward(recognizer, logits).gradients, exact)
    return found


@pytest.mark.slow
def test_bfloat16_in_chunks_is_no_further_off_than_plain() -> None:
    """Over all seeds, the chunked bfloat16 gradient is at most 1.5 times as far from float32 as plain's."""
    cases = [_bf16_distances(seed) for seed in range(6)]
    plain, chunked = (sum(case[engine] for case in cases) for engine in ("plain", "chunked"))
    assert 0.001 < plain / len(cases) < 0.5
    assert chunked <= 1.5 * plain


def _loss(
    recognizer: Recognizer, clips: list[TensorClip], engine: Engine, *, batch_size: int
) -> Tensor:
    """Return what `clips`, labeled by their keys, add to the mean loss of a batch of `batch_size`."""
    labels = torch.tensor([clip.cut_key for clip in clips])
    return (
        functional.cross_entropy(recognizer(clips, _sweep(engine)), labels, reduction="sum")
        / batch_size
    )


def _after(recognizer: Recognizer, *losses: Tensor) -> dict[str, Tensor]:
    """Return the gradients of the sum of `losses`, a backward pass each."""
    recognizer.zero_grad()
    for loss in losses:
        torch.autograd.backward(loss)
    return gradients_of(recognizer)


@BOTH_ENGINES
def test_gradient_scaling_changes_no_bit(engine: Engine) -> None:
    """A loss scaled by 2**16 and gradients unscaled are the unscaled loss's: a power of 2 rounds nothing."""
    recognizer = _tiny(dtype=torch.float32)
    clips = random_clips([7, 2], dtype=torch.float32)
    wanted = _after(recognizer, _loss(recognizer, clips, engine, batch_size=2))
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    optimizer = torch.optim.SGD(recognizer.parameters(), lr=0.1)
    scaled = _after(recognizer, scaler.scale(_loss(recognizer, clips, engine, batch_size=2)))
    assert all(torch.equal(scaled[name], SCALE * gradient) for name, gradient in wanted.items())
    scaler.unscale_(optimizer)
    found = gradients_of(recognizer)
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())
    before = recognizer.classifier.weight.detach().clone()
    scaler.step(optimizer)
    assert not torch.equal(recognizer.classifier.weight, before)


@BOTH_ENGINES
def test_accumulated_batches_are_one_batch(engine: Engine) -> None:
    """The gradients of two batches add up to those of one batch of both, in whatever order they are taken."""
    recognizer, clips = _tiny(), random_clips([7, 2, 1, 5])
    wanted = _after(recognizer, _loss(recognizer, clips, engine, batch_size=4))
    parts = [_loss(recognizer, part, engine, batch_size=4) for part in (clips[:1], clips[1:])]
    assert_same_gradients(_after(recognizer, *parts), wanted)
    parts = [_loss(recognizer, part, engine, batch_size=4) for part in (clips[:1], clips[1:])]
    assert_same_gradients(_after(recognizer, *reversed(parts)), wanted)


@pytest.mark.slow
@BOTH_ENGINES
def test_two_processes_take_the_steps_of_one(engine: Engine, tmp_path: Path) -> None:
    """Through DistributedDataParallel 2 processes' gradients, step for step, are those of one, silently."""
    ended = processes(2, save_steps, engine, tmp_path)
    assert ended == [(0, "", "")] * 2
    wanted = take_steps(engine, World(0, 1, CPU))
    for rank in range(2):
        found = load_steps(tmp_path / f"{rank}.pt")
        assert len(found) == len(BATCHES) + 1
        for step, (mine, alone) in enumerate(zip(found, wanted, strict=True)):
            assert mine.keys() == alone.keys(), step
            assert_same_gradients(mine, alone)
