"""Inference in flat memory: what it holds of a video does not grow with the frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from engine_steps import make_recognizer, make_sweep
from tensor_clips import settled_backbone
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from fvar.model.clustering import ClusteringMethod
from fvar.model.recognizer import Recognizer

CHUNK_FRAMES, CHUNKS_AT_WORK = 8, 2  # the one that comes and the one before it
OUTPUT_BYTES = 32 * 4 * 4 * 4  # of tiny's stem, a frame of 16 px in float32


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


def _watched_inference(
    method: ClusteringMethod, *, num_frames: int, keep_bytes: int
) -> WatchedStem:
    """Infer a video, step distances included, and return what watched."""
    sweep = make_sweep(method, 4, chunk=CHUNK_FRAMES, keep=keep_bytes)
    recognizer = make_recognizer(settled_backbone("tiny", dtype=torch.float32)).eval()
    watched = WatchedStem(recognizer)
    recognizer.backbone.folded_stem = watched
    recognizer.infer(MadeClip(num_frames), sweep, with_steps=True)
    return watched


@pytest.mark.parametrize("kept_frames", [0, 24])
@pytest.mark.parametrize("method", ["cumulative", "even"])
def test_inference_is_flat_in_memory(method: ClusteringMethod, kept_frames: int) -> None:
    """Of 64 and of 1,024 frames inference holds the budget and two chunks of stem outputs at most, no tape.

    It goes over the frames twice, but for those that cumulative clustering finds kept.
    """
    keep_bytes = kept_frames * OUTPUT_BYTES
    short, long = (
        _watched_inference(method, num_frames=num_frames, keep_bytes=keep_bytes)
        for num_frames in (64, 1_024)
    )
    kept = kept_frames if method == "cumulative" else 0
    assert (short.num_frames, long.num_frames) == (2 * 64 - kept, 2 * 1_024 - kept)
    assert long.most_bytes == short.most_bytes
    assert long.most_bytes <= keep_bytes + CHUNKS_AT_WORK * CHUNK_FRAMES * OUTPUT_BYTES
    assert long.bytes_alive() == 0
