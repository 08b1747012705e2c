"""What is kept from sweep to sweep: never more than the budget, outputs before tapes, each once."""

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from engine_steps import make_recognizer, make_sweep, take_step
from hypothesis import given
from hypothesis import strategies as st
from tensor_clips import random_clips, settled_backbone
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional

from fvar.model.activation_cache import ActivationCache, ChunkKey, TapeMeter

FRAME_BYTES = 8  # an output of one float64 per frame
# Of up to 48 frames: some of the outputs, or all of them beside some of the tapes.
BUDGETS = st.integers(0, 100) | st.integers(0, 400) | st.integers(0, 3_500)
NUM_FRAMES = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=3)
FACTORS = st.integers(1, 9)  # how many times larger than its output a tape is
Videos = list[list[int]]  # frames of each chunk of each video


@dataclass(frozen=True)
class Filled:
    """A cache and what it keeps: outputs alone, and those with their tape, in bytes by chunk."""

    cache: ActivationCache
    outputs: dict[ChunkKey, int]
    tapes: dict[ChunkKey, int]


def _chunks(videos: Videos) -> dict[ChunkKey, int]:
    """Return the number of frames of each chunk, in order."""
    return {
        (video, sum(chunks[:at])): num_frames
        for video, chunks in enumerate(videos)
        for at, num_frames in enumerate(chunks)
    }


def _fill(
    videos: Videos, budget: int, factor: int, *, outputs: bool = True, tapes: bool = True
) -> Filled:
    """Put every chunk into a cache as the engine does: with a tape while one may be kept."""
    num_frames = sum(map(sum, videos))
    cache = ActivationCache(budget, num_frames=num_frames, outputs=outputs, tapes=tapes)
    filled = Filled(cache, {}, {})
    for chunk, frames in _chunks(videos).items():
        taped, size = cache.wants_tapes, frames * FRAME_BYTES
        output = torch.zeros(frames, 1, 1, 1, dtype=torch.float64, requires_grad=taped)
        cache.put(chunk, output, tape_bytes=factor * size if taped else 0)
        kept = cache._by_chunk.get(chunk)
        if kept is not None:
            assert kept.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
            where = filled.tapes if kept.requires_grad else filled.outputs
            where[chunk] = factor * size if kept.requires_grad else size
    return filled


@given(NUM_FRAMES, BUDGETS, FACTORS, st.booleans(), st.booleans())
def test_what_is_kept_fits_the_budget(
    videos: Videos, budget: int, factor: int, outputs: bool, tapes: bool
) -> None:
    """Outputs and tapes together never exceed the budget, and only what was asked for is kept."""
    found = _fill(videos, budget, factor, outputs=outputs, tapes=tapes)
    assert sum(found.outputs.values()) + sum(found.tapes.values()) <= budget
    assert outputs or not found.outputs
    assert tapes or not found.tapes


@given(NUM_FRAMES, BUDGETS, FACTORS)
def test_no_tape_takes_an_outputs_place(videos: Videos, budget: int, factor: int) -> None:
    """Chunks whose output is kept are the same with tapes as without: a tape is kept only beside them."""
    alone, both = _fill(videos, budget, factor, tapes=False), _fill(videos, budget, factor)
    assert both.outputs.keys() | both.tapes.keys() == alone.outputs.keys()
    every = sum(map(sum, videos)) * FRAME_BYTES
    if budget >= every:
        assert alone.outputs.keys() == _chunks(videos).keys()
    if budget >= factor * every:
        assert both.tapes.keys() == _chunks(videos).keys()


@given(NUM_FRAMES, BUDGETS, FACTORS)
def test_what_is_kept_is_returned_once_for_each_use(
    videos: Videos, budget: int, factor: int
) -> None:
    """An output is detached and, without a tape, returned once; then a tape is returned, once.

    Chunks that were not kept are not kept either when they are computed again.
    """
    found = _fill(videos, budget, factor)
    for chunk, num_frames in _chunks(videos).items():
        kept = chunk in found.outputs or chunk in found.tapes
        assert (chunk in found.cache) == kept
        assert not kept or not found.cache.output(chunk).requires_grad
        assert (chunk in found.cache) == (chunk in found.tapes)
        assert chunk not in found.cache or found.cache.tape(chunk).requires_grad
        if not kept:
            taped = found.cache.wants_tapes
            again = torch.zeros(num_frames, 1, 1, 1, dtype=torch.float64, requires_grad=taped)
            found.cache.put(chunk, again, tape_bytes=factor * num_frames * FRAME_BYTES)
        assert chunk not in found.cache


@contextmanager
def _without_collector() -> Iterator[None]:
    """Let references alone decide what lives."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _metered(weight: Tensor, pictures: Tensor) -> tuple[TapeMeter, Tensor, list[Tensor]]:
    """Run a small graph under a meter; return what it saves: products their factors, ReLU its result."""
    meter = TapeMeter(apart_from=[weight])
    with meter.running():
        scaled = pictures * weight  # saves pictures; the weight is there anyway
        active = scaled.relu()  # saves its result
        output = active * active[:, :1]  # saves its result again, and a view of it
    return meter, output, [pictures, active]


def test_the_meter_counts_each_storage_once() -> None:
    """What a known graph saves is counted to the byte: inputs and results, not weights, no storage twice."""
    weight = torch.randn(1, 6, 1, 1, requires_grad=True)
    meter, _, saved = _metered(weight, torch.randn(2, 6, 4, 4))
    assert meter.num_bytes == sum(tensor.nbytes for tensor in saved) == 2 * (2 * 6 * 4 * 4 * 4)


def test_the_meter_counts_whole_storages_while_it_runs() -> None:
    """A saved view counts as its whole storage; what is saved before, after or without a tape does not."""
    weight, pictures = torch.ones(1, requires_grad=True), torch.randn(10, 3)
    meter = TapeMeter(apart_from=[weight])
    before = weight.exp()
    with meter.running():
        _ = pictures[:2] * weight
        with torch.no_grad():
            weight.exp()
    after = weight.exp()
    assert meter.num_bytes == 10 * 3 * 4
    assert before.requires_grad
    assert after.requires_grad


def test_a_result_beside_the_tape_counts_once() -> None:
    """Added to the tape, a result that no graph saves counts, one that its graph saves does not again."""
    weight, pictures = torch.ones(1, requires_grad=True), torch.randn(10, 3)
    meter = TapeMeter(apart_from=[weight])
    with meter.running():
        product, powers = pictures * weight, weight.exp()
    assert meter.num_bytes == 10 * 3 * 4 + 4
    meter.add(product)
    meter.add(product[:2])
    meter.add(powers)
    assert meter.num_bytes == 2 * (10 * 3 * 4) + 4


def test_measuring_changes_no_gradient() -> None:
    """The backward pass of a measured graph gives the gradients of one that was not."""
    weight, pictures = torch.randn(1, 6, 1, 1, requires_grad=True), torch.randn(2, 6, 4, 4)
    _, output, _ = _metered(weight, pictures)
    (found,) = torch.autograd.grad(output.sum(), weight)
    active = (pictures * weight).relu()
    (wanted,) = torch.autograd.grad((active * active[:, :1]).sum(), weight)
    assert torch.equal(found, wanted)


def test_measuring_leaves_no_cycle() -> None:
    """A measured output that its own graph saves dies with its last reference, without the collector."""
    weight = torch.randn(4, 3, 1, 1, requires_grad=True)
    with _without_collector():
        meter = TapeMeter(apart_from=[weight])
        with meter.running():
            output = functional.conv2d(torch.randn(2, 3, 4, 4), weight).relu()
        tensor, storage = weakref.ref(output), StorageWeakRef(output.untyped_storage())
        assert tensor() is not None
        assert not storage.expired()
        del output
        assert tensor() is None
        assert storage.expired()


def _live_bytes_of_a_chunk(name: str) -> tuple[int, int]:
    """Return what a taped stem output of 2 frames keeps alive: by its graph, and with itself."""
    stem = settled_backbone(name, dtype=torch.float32).folded_stem
    weights = [weight.detach().requires_grad_() for weight in stem.weights()]
    apart = {weight.data_ptr() for weight in weights}
    sizes = dict[int, int]()

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in apart:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    (clip,) = random_clips([2], size=32, dtype=torch.float32)
    with saved_tensors_hooks(note, lambda tensor: tensor):
        output = stem(clip.frames[[0, 1]], weights)
    by_graph = sum(sizes.values())
    note(output.detach())
    return by_graph, sum(sizes.values())


@pytest.mark.parametrize("name", ["tiny", "mobilenet_v2"])
def test_a_kept_tape_is_charged_with_its_output(name: str) -> None:
    """A budget of all that a chunk keeps alive holds it, a byte less does not.

    A ReLU's result is part of its tape; MobileNetV2's stem ends in a convolution, whose result is not.
    """
    by_graph, together = _live_bytes_of_a_chunk(name)
    assert (together > by_graph) == (name == "mobilenet_v2")
    for budget, sweeps in ((together, 1), (together - 1, 2)):
        backbone = settled_backbone(name, dtype=torch.float32)
        sweep = make_sweep("even", 2, chunk=2, keep=budget)
        (clip,) = random_clips([2], size=32, dtype=torch.float32)
        take_step(make_recognizer(backbone), [clip], sweep)
        assert clip.requests == [(0, 1)] * sweeps, budget
