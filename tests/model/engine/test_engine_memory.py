"""What the engines keep: no more sweeps than needed, and memory that does not grow with the frames."""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
import torch
from engine_steps import PLENTY, make_recognizer, make_sweep, take_step
from tensor_clips import random_clips, settled_backbone
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from fvar.model.interface import Engine
from fvar.model.recognizer import Recognizer

# Bytes of tiny's stem outputs for 10 frames of 16 px in float64.
OUTPUTS_ALONE = 10 * 32 * 4 * 4 * 8
CHUNK_FRAMES, CHUNKS_AT_WORK = 8, 2  # the one that comes and the one before it
OUTPUT_BYTES = 32 * 4 * 4 * 4  # of tiny's stem, a frame of 16 px in float32


def _tiny() -> Recognizer:
    return make_recognizer(settled_backbone("tiny"))


@pytest.mark.parametrize(
    ("name", "keep", "frozen", "sweeps"),
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
    name: str, keep: int, *, frozen: bool, sweeps: int
) -> None:
    """A sweep asks for each frame once; kept outputs save one, kept tapes two, a frozen stem the last."""
    recognizer = _tiny()
    for parameter in recognizer.backbone.stem_parameters():
        parameter.requires_grad_(not frozen)
    (clip,) = random_clips([10])
    _, _, gradients = take_step(recognizer, [clip], make_sweep(name, chunk=4, keep=keep))
    assert clip.requests == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)] * sweeps
    assert ("backbone.network.conv1.weight" in gradients) == (not frozen)
    assert "backbone.network.layer2.0.conv1.weight" in gradients


class _TapeMeter:
    """Counts the bytes that autograd keeps for the backward pass, parameters aside."""

    def __init__(self) -> None:
        self.live = self.peak = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        with saved_tensors_hooks(self._pack, lambda held: held):
            yield

    def _pack(self, tensor: Tensor) -> Tensor:
        held = tensor.detach()
        if not isinstance(tensor, nn.Parameter):
            self.live += tensor.nbytes
            self.peak = max(self.peak, self.live)
            weakref.finalize(held, self._release, tensor.nbytes)
        return held

    def _release(self, size: int) -> None:
        self.live -= size


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
    frames = _peak_bytes("plain", 64) - _peak_bytes("plain", 16)  # the trunk is in both
    assert frames > _peak_bytes("chunked", 64)


@pytest.mark.parametrize(
    ("engine", "keep", "alive"),
    [("chunked", 0, 0), ("chunked", OUTPUTS_ALONE, 0), ("chunked", PLENTY, 6), ("plain", 0, 6)],
)
def test_no_stem_output_outlives_the_forward_pass(engine: Engine, keep: int, alive: int) -> None:
    """After the forward pass the chunked engine holds stem outputs only as kept tapes, for sweep 3."""
    recognizer, outputs = _tiny(), list[weakref.ref[Tensor]]()
    for stem in (recognizer.backbone.network, recognizer.backbone.folded_stem.shape):
        found = dict(stem.named_modules())
        convolution = found.get("layer1.0.conv2") or found["4.conv2"]
        convolution.register_forward_hook(lambda *call: outputs.append(weakref.ref(call[-1])))
    logits = recognizer(random_clips([10, 11]), make_sweep(engine=engine, chunk=4, keep=keep))
    assert len(outputs) == {0: 12, OUTPUTS_ALONE: 9, PLENTY: 6}[keep] or engine == "plain"
    assert sum(output() is not None for output in outputs) == alive
    assert logits.requires_grad


@dataclass(frozen=True)
class MadeClip:
    """A video whose pictures are made when asked for: nothing of it is in memory before."""

    num_frames: int
    cut_key: int = 0

    def pictures(self, frames: Sequence[int]) -> Tensor:
        seeds = [torch.Generator().manual_seed(frame) for frame in frames]
        return torch.stack([torch.randn(3, 16, 16, generator=seed) for seed in seeds])


class WatchedStem:
    """A folded stem that weighs, whenever it has run, which of its outputs are still in memory.

    Storages are watched, not tensors: a detached output is another tensor on the same storage.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        self._stem = recognizer.backbone.folded_stem
        self._outputs = list[tuple[StorageWeakRef, int]]()
        self.most_bytes = self.num_frames = 0

    def weights(self) -> tuple[Tensor, ...]:
        return self._stem.weights()

    def __call__(self, pictures: Tensor, weights: Sequence[Tensor]) -> Tensor:
        output = self._stem(pictures, weights)
        assert not output.requires_grad
        storage = output.untyped_storage()
        self._outputs.append((StorageWeakRef(storage), storage.nbytes()))
        self.num_frames += len(pictures)
        self.most_bytes = max(self.most_bytes, self.bytes_alive())
        return output

    def bytes_alive(self) -> int:
        return sum(size for storage, size in self._outputs if not storage.expired())


def _watched_inference(name: str, *, num_frames: int, keep_bytes: int) -> WatchedStem:
    """Infer a video, step distances included, and return what watched."""
    sweep = replace(make_sweep(name, 4, chunk=CHUNK_FRAMES, keep=keep_bytes), with_steps=True)
    recognizer = make_recognizer(settled_backbone("tiny", dtype=torch.float32)).eval()
    watched = WatchedStem(recognizer)
    recognizer.backbone.folded_stem = watched
    recognizer.infer(MadeClip(num_frames), sweep)
    return watched


@pytest.mark.slow
@pytest.mark.parametrize("kept_frames", [0, 24])
@pytest.mark.parametrize("name", ["cumulative", "even"])
def test_inference_is_flat_in_memory(name: str, kept_frames: int) -> None:
    """Of 64 and of 1,024 frames inference holds the budget and two chunks of stem outputs at most, no tape.

    It goes over the frames twice, but for those that were kept.
    """
    keep_bytes = kept_frames * OUTPUT_BYTES
    short, long = (
        _watched_inference(name, num_frames=num_frames, keep_bytes=keep_bytes)
        for num_frames in (64, 1_024)
    )
    assert (short.num_frames, long.num_frames) == (2 * 64 - kept_frames, 2 * 1_024 - kept_frames)
    assert long.most_bytes == short.most_bytes
    assert long.most_bytes <= keep_bytes + CHUNKS_AT_WORK * CHUNK_FRAMES * OUTPUT_BYTES
    assert long.bytes_alive() == 0
