"""A step in parts: the gradient of the whole batch, and fewer chunks that run twice."""

from collections.abc import Callable, Sequence

import pytest
import torch
from engine_steps import (
    ENGINES,
    PLENTY,
    assert_same_gradients,
    distance,
    gradients_of,
    make_recognizer,
    make_sweep,
)
from tensor_clips import TensorClip, random_clips, settled_backbone
from torch import Tensor
from torch.nn import functional

from fvar.model.interface import Engine, Sweep
from fvar.model.recognizer import Recognizer
from fvar.training.step import run_parts, split_step

LENGTHS = (12, 12, 1, 9)
KEEP = 600_000  # bytes: enough for the tapes of 13 frames, not for those of 21


def _recognizer() -> Recognizer:
    return make_recognizer(settled_backbone("tiny"))


def _take_step(
    recognizer: Recognizer, parts: Sequence[Sequence[TensorClip]], sweep: Sweep
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the summed loss and the gradients of a step; videos are labeled by their keys."""

    def run(clips: Sequence[TensorClip]) -> Tensor:
        labels = torch.tensor([clip.cut_key for clip in clips])
        loss = functional.cross_entropy(recognizer(clips, sweep), labels, reduction="sum")
        torch.autograd.backward(loss)
        return loss.detach()

    recognizer.zero_grad()
    losses = run_parts(recognizer, parts, run)
    return torch.stack(losses).sum(), gradients_of(recognizer)


@pytest.mark.parametrize(
    ("keep", "lengths"), [(KEEP, [[12], [12, 1], [9]]), (50_000, [[12], [12], [1], [9]])]
)
def test_parts_of_a_step_add_up_to_the_batch(keep: int, lengths: list[list[int]]) -> None:
    """Loss and gradient of a step are those of the batch at once, in float64 to 1e-10."""
    recognizer, clips = _recognizer(), random_clips(LENGTHS)
    sweep = make_sweep("cumulative", 3, keep=keep)
    parts = split_step(recognizer.backbone, clips, sweep)
    assert [[clip.num_frames for clip in part] for part in parts] == lengths
    loss, gradients = _take_step(recognizer, parts, sweep)
    wanted_loss, wanted = _take_step(recognizer, [clips], make_sweep("cumulative", 3, keep=0))
    assert distance(loss, wanted_loss) <= 1e-10
    assert_same_gradients(gradients, wanted)


def test_no_chunk_runs_twice_where_the_tapes_of_one_video_fit() -> None:
    """In parts the stem sees every frame once; the batch at once needs some of them again."""
    recognizer, sweep = _recognizer(), make_sweep("cumulative", 3, keep=KEEP)
    seen = []
    for clips in (random_clips(LENGTHS), random_clips(LENGTHS)):
        parts = [clips] if seen else split_step(recognizer.backbone, clips, sweep)
        for clip in clips:
            clip.requests.clear()  # of the one frame that the split looked at
        _take_step(recognizer, parts, sweep)
        seen.append(sum(len(frames) for clip in clips for frames in clip.requests))
    assert seen[0] == sum(LENGTHS) < seen[1]


def _freeze_stem(recognizer: Recognizer) -> None:
    for parameter in recognizer.backbone.stem_parameters():
        parameter.requires_grad_(requires_grad=False)


@pytest.mark.parametrize(
    ("engine", "change"),
    [
        ("plain", lambda _: None),
        ("chunked", _freeze_stem),
        ("chunked", lambda recognizer: _norms(recognizer)[-1].train()),
    ],
    ids=["plain", "frozen stem", "trunk norm trains"],
)
def test_other_batches_go_at_once(engine: Engine, change: Callable[[Recognizer], None]) -> None:
    """Where clips do not add up, or there are no tapes, the batch is one part."""
    recognizer, clips = _recognizer(), random_clips(LENGTHS)
    change(recognizer)
    sweep = make_sweep(engine=engine, keep=KEEP)
    assert split_step(recognizer.backbone, clips, sweep) == [clips]


@pytest.mark.parametrize("keep", [0, PLENTY])
def test_nothing_is_split_where_nothing_is_gained(keep: int) -> None:
    """Where the tapes of all clips fit, or none, the batch is one part."""
    clips = random_clips(LENGTHS)
    assert split_step(_recognizer().backbone, clips, make_sweep(keep=keep)) == [clips]


def _norms(recognizer: Recognizer) -> list[torch.nn.Module]:
    modules = recognizer.backbone.network.modules()
    return [module for module in modules if isinstance(module, torch.nn.BatchNorm2d)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_process_without_videos_has_one_empty_part(engine: Engine) -> None:
    """It takes part in the exchange of gradients all the same."""
    assert split_step(_recognizer().backbone, [], make_sweep(engine=engine)) == [[]]
