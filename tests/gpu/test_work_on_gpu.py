"""On a GPU pictures made ahead are right, the host does not wait, memory is flat, and the commands run."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from engine_steps import ENGINES, PLENTY, Step, distance, make_recognizer, make_sweep, take_step
from tensor_clips import settled_backbone
from torch import Tensor
from training_samples import (
    run_training,
    sample_clip,
    sample_pictures,
    training_metrics,
    write_frames,
)

from fvar.config import EvalConfig
from fvar.fields import PrecisionName
from fvar.loading.clip import EncodedClip
from fvar.model.interface import Clip, Engine, Sweep
from fvar.model.recognizer import Recognizer
from fvar.reporting import SilentReporter
from fvar.stages.evaluate import evaluate

pytestmark = pytest.mark.gpu
SIZE = 32  # px
SYNC = "called a synchronizing CUDA operation"


def _recognizer(device: torch.device) -> Recognizer:
    return make_recognizer(settled_backbone("tiny", dtype=torch.float32)).to(device)


def _clips(device: torch.device, lengths: Sequence[int] = (9, 1, 20)) -> list[EncodedClip]:
    return [
        replace(sample_clip(str(length), sample_pictures(str(length), length)), device=device)
        for length in lengths
    ]


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Let cuDNN take the same algorithm each time, and no TF32."""
    with torch.backends.cudnn.flags(deterministic=True, benchmark=False, allow_tf32=False):
        yield


def test_pictures_are_those_of_the_host(device: torch.device) -> None:
    """Resized on the device, a picture is the host's up to rounding: 2 of 255 levels."""
    clips = zip(_clips(device), _clips(torch.device("cpu")), strict=True)
    for there, here in clips:
        found = there.pictures(range(there.num_frames))
        assert found.device.type == device.type
        wanted = here.pictures(range(here.num_frames))
        assert (found.cpu() - wanted).abs().max() < 2 / 255 / 0.224


@pytest.mark.parametrize("keep", [0, PLENTY])
@pytest.mark.parametrize("engine", ENGINES)
def test_pictures_made_ahead_change_nothing(
    device: torch.device, engine: Engine, keep: int
) -> None:
    """Logits are the same to the bit; gradients up to the order of sums, which max pooling does not fix."""
    sweep, steps = make_sweep("cumulative", engine=engine, keep=keep), list[Step]()
    with _exact_convolutions():
        for ahead in (0, 2, 2, 2):
            ahead_sweep = replace(sweep, chunks_ahead=ahead)
            steps.append(take_step(_recognizer(device), _clips(device), ahead_sweep))
    for step in steps[1:]:
        assert torch.equal(step.logits, steps[0].logits)
        for name, gradient in steps[0].gradients.items():
            assert distance(step.gradients[name], gradient) < 1e-4, name


def test_pictures_made_ahead_are_copied_in_the_stream_of_the_stem(gpu: torch.device) -> None:
    """In a stream that is not the default one, too, the stem waits for the pictures."""
    sweep = replace(make_sweep("even", keep=0), chunks_ahead=2)
    recognizer, clips = _recognizer(gpu), _clips(gpu)
    with torch.no_grad(), _exact_convolutions():
        wanted = recognizer(clips, sweep)
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(20):
                assert torch.equal(recognizer(clips, sweep), wanted)


def _num_syncs(action: Callable[[], object]) -> int:
    """Return how often the host waits for the device."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            action()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum(SYNC in str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    ("engine", "fraction"), [("plain", 1.0), ("chunked", 1.0), ("chunked", 0.5)]
)
def test_the_host_does_not_wait_within_a_sweep(
    gpu: torch.device, engine: Engine, fraction: float
) -> None:
    """However many chunks a video has, in a step the host waits for the device equally often."""
    sweep = make_sweep("cumulative", engine=engine, keep=0)
    sweep = replace(sweep, chunks_ahead=2, backward_fraction=fraction)
    recognizer = _recognizer(gpu)
    assert _num_syncs(lambda: torch.zeros(1, device=gpu).item()) >= 1
    few, many = (_clips(gpu, [num_frames]) for num_frames in (8, 40))
    take_step(recognizer, many, sweep)  # what happens only once
    waits = [
        _num_syncs(lambda clips=clips: take_step(recognizer, clips, sweep)) for clips in (few, many)
    ]
    assert waits[0] == waits[1], waits


@dataclass(frozen=True)
class _MadeClip:
    """A video whose pictures are made when asked for: nothing of it is in memory before."""

    num_frames: int
    device: torch.device
    cut_key: int = 0

    def pictures(self, frames: Sequence[int]) -> Tensor:
        generator = torch.Generator().manual_seed(frames[0])
        return torch.randn(len(frames), 3, SIZE, SIZE, generator=generator).to(self.device)


def _peak_bytes(gpu: torch.device, sweep: Sweep, num_frames: int) -> int:
    """Return the most memory that a step takes on the device beyond what was taken before."""
    recognizer, clips = _recognizer(gpu), list[Clip]([_MadeClip(num_frames, gpu)])
    for _ in range(2):  # the first step loads libraries
        recognizer.zero_grad()
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        recognizer(clips, sweep).sum().backward()
    return torch.cuda.max_memory_allocated() - before


def test_memory_does_not_grow_with_the_frames(gpu: torch.device) -> None:
    """From 64 to 512 frames the plain engine's peak grows; the chunked one's by less than a 20th of that."""
    growth = {
        engine: _peak_bytes(gpu, sweep, 512) - _peak_bytes(gpu, sweep, 64)
        for engine in ENGINES
        for sweep in [make_sweep("cumulative", engine=engine, chunk=8, keep=0)]
    }
    assert growth["plain"] > 448 * 32 * 8 * 8 * 4  # the outputs of the stem alone
    assert growth["chunked"] < growth["plain"] / 20, growth


@pytest.mark.parametrize("precision", ["auto", "fp32", "fp16"])
def test_train_and_eval_run(device: torch.device, precision: PrecisionName, tmp_path: Path) -> None:
    """A training and an evaluation on the device end with finite losses and all predictions."""
    frames = write_frames(tmp_path / "frames")
    trained = run_training(frames, tmp_path / "train", device=device.type, precision=precision)
    assert all(math.isfinite(row["train_loss"]) for row in training_metrics(trained))
    settings = EvalConfig(device=device.type)
    evaluate(trained, tmp_path / "eval", settings, SilentReporter())
    assert len((tmp_path / "eval" / "predictions.csv").read_text().splitlines()) == 1 + 3
