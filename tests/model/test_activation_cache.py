"""What is kept from sweep to sweep: never more than the budget, outputs before tapes, each once."""

import gc
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

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

from fvar.model.activation_cache import Kept, Place, TapeMeter

FRAME_BYTES = 8  # an output of one float64 a frame
# Of up to 48 frames: some of the outputs, or all of them beside some of the tapes.
BUDGETS = st.integers(0, 100) | st.integers(0, 400) | st.integers(0, 3_500)
NUM_FRAMES = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=3)


@dataclass(frozen=True)
class Pass:
    """What was kept of some chunks: outputs alone, and those with their tape, in bytes by place."""

    kept: Kept
    outputs: dict[Place, int]
    tapes: dict[Place, int]


def _put_all(videos: Sequence[Sequence[int]], kept: Kept, *, tape_factor: int) -> Pass:
    """Put every chunk as the engine does: with a tape while one may be kept."""
    outputs, tapes = dict[Place, int](), dict[Place, int]()
    for video, chunks in enumerate(videos):
        first = 0
        for num_frames in chunks:
            place, taped = (video, first), kept.wants_tapes
            size = num_frames * FRAME_BYTES
            output = torch.zeros(num_frames, 1, 1, 1, dtype=torch.float64, requires_grad=taped)
            kept.put(place, output, tape_bytes=tape_factor * size if taped else 0)
            held = kept._by_place.get(place)
            if held is not None:
                assert held.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
                (tapes if held.requires_grad else outputs)[place] = (
                    tape_factor * size if held.requires_grad else size
                )
            first += num_frames
    return Pass(kept, outputs, tapes)


def _kept(
    videos: Sequence[Sequence[int]], budget: int, *, outputs: bool = True, tapes: bool = True
) -> Kept:
    num_frames = sum(map(sum, videos))
    return Kept(budget, num_frames=num_frames, outputs=outputs, tapes=tapes)


def _places(videos: Sequence[Sequence[int]]) -> list[Place]:
    return [(v, sum(chunks[:i])) for v, chunks in enumerate(videos) for i in range(len(chunks))]


@given(NUM_FRAMES, BUDGETS, st.integers(1, 9), st.booleans(), st.booleans())
def test_what_is_kept_fits_the_budget(
    videos: list[list[int]], budget: int, tape_factor: int, outputs: bool, tapes: bool
) -> None:
    """Outputs and tapes together never exceed the budget, and only what was asked for is kept."""
    kept = _kept(videos, budget, outputs=outputs, tapes=tapes)
    found = _put_all(videos, kept, tape_factor=tape_factor)
    assert sum(found.outputs.values()) + sum(found.tapes.values()) <= budget
    assert outputs or not found.outputs
    assert tapes or not found.tapes


@given(NUM_FRAMES, BUDGETS, st.integers(1, 9))
def test_no_tape_takes_an_outputs_place(
    videos: list[list[int]], budget: int, tape_factor: int
) -> None:
    """Chunks whose output is kept are the same with tapes as without: a tape is kept only beside them."""
    alone = _put_all(videos, _kept(videos, budget, tapes=False), tape_factor=tape_factor)
    both = _put_all(videos, _kept(videos, budget), tape_factor=tape_factor)
    assert both.outputs.keys() | both.tapes.keys() == alone.outputs.keys()
    every = sum(map(sum, videos)) * FRAME_BYTES
    if budget >= every:
        assert set(alone.outputs) == set(_places(videos))
    if budget >= tape_factor * every:
        assert set(both.tapes) == set(_places(videos))


@given(NUM_FRAMES, BUDGETS, st.integers(1, 9))
def test_what_is_kept_serves_as_often_as_it_is_asked_for(
    videos: list[list[int]], budget: int, tape_factor: int
) -> None:
    """An output is detached and, without a tape, served once; then a tape is served, once."""
    found = _put_all(videos, _kept(videos, budget), tape_factor=tape_factor)
    for place in _places(videos):
        output = found.kept.output(place)
        assert (output is not None) == (place in found.outputs or place in found.tapes)
        assert output is None or not output.requires_grad
        tape = found.kept.tape(place)
        assert (tape is not None) == (place in found.tapes)
        assert tape is None or tape.requires_grad
        assert found.kept.output(place) is None
        assert found.kept.tape(place) is None


@given(NUM_FRAMES, BUDGETS, st.integers(1, 9))
def test_what_comes_again_is_not_kept(
    videos: list[list[int]], budget: int, tape_factor: int
) -> None:
    """After all frames came once, chunks computed again because they were not kept are not kept either."""
    found = _put_all(videos, _kept(videos, budget), tape_factor=tape_factor)
    for place, num_frames in zip(_places(videos), chain(*videos), strict=True):
        if found.kept.output(place) is None:
            taped = found.kept.wants_tapes
            again = torch.zeros(num_frames, 1, 1, 1, dtype=torch.float64, requires_grad=taped)
            found.kept.put(place, again, tape_bytes=tape_factor * num_frames * FRAME_BYTES)
            assert found.kept.output(place) is None
            assert found.kept.tape(place) is None


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


def test_the_meter_counts_all_of_a_storage() -> None:
    """A saved view keeps its whole storage alive, so all of it counts."""
    weight, pictures = torch.ones(1, requires_grad=True), torch.randn(10, 3)
    meter = TapeMeter(apart_from=[weight])
    with meter.running():
        _ = pictures[:2] * weight
    assert meter.num_bytes == 10 * 3 * 4


def test_the_meter_counts_only_while_running() -> None:
    """What is saved before and after is not counted, and nothing is without a tape."""
    weight = torch.ones(3, requires_grad=True)
    meter = TapeMeter(apart_from=[weight])
    before = weight.exp()
    with meter.running(), torch.no_grad():
        weight.exp()
    after = weight.exp()
    assert meter.num_bytes == 0
    assert before.requires_grad
    assert after.requires_grad


def test_a_result_beside_the_tape_counts_once() -> None:
    """Added to the tape, a result that no graph saves counts, one that its graph saves does not again."""
    weight, pictures = torch.ones(1, requires_grad=True), torch.randn(10, 3)
    meter = TapeMeter(apart_from=[weight])
    with meter.running():
        product = pictures * weight
    meter.add(product)
    meter.add(product[:2])
    assert meter.num_bytes == 2 * (10 * 3 * 4)
    meter = TapeMeter(apart_from=[weight])
    with meter.running():
        powers = weight.exp().exp()
    meter.add(powers)
    assert meter.num_bytes == 2 * 4


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
