"""The parts of a batch that go forward and backward one after the other within one optimization step."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TypeVar

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fvar.model.activation_cache import TapeMeter
from fvar.model.backbone import Backbone
from fvar.model.conv_bn_fusion import depends_on_batch
from fvar.model.interface import Clip, Sweep

_Clip = TypeVar("_Clip", bound=Clip)
_Result = TypeVar("_Result")


def split_step(backbone: Backbone, clips: Sequence[_Clip], sweep: Sweep) -> list[Sequence[_Clip]]:
    """Return the clips of a step in parts whose gradients add up to that of the step.

    A part holds at least one clip, and as many as have tapes that fit `Sweep.keep_bytes` together. So fewer
    chunks run twice. The batch stays whole in three cases: a batch norm of the trunk trains, because the loss
    of a clip then depends on the others; there are no tapes; or the stem is on a GPU, where a trunk with few
    representations would wait for the host. The last one is an estimate (benchmarks/README.md).

    Args:
        backbone: In training mode, where the step is going to run.
        clips: This process's part of the batch, none or more.
        sweep: How the stem goes over their frames.
    """
    weights = backbone.stem_parameters()
    keeps_tapes = sweep.engine == "chunked" and sweep.backward_fraction == 1
    has_tapes = keeps_tapes and any(weight.requires_grad for weight in weights)
    on_gpu = any(weight.device.type == "cuda" for weight in weights)
    if len(clips) < 2 or not has_tapes or on_gpu or depends_on_batch(backbone.network.modules()):
        return [clips]
    num_frames = _frames_that_fit(backbone, clips[0], sweep)
    return _pack(clips, num_frames) if num_frames else [clips]


def run_parts(
    parallel: nn.Module,
    parts: Sequence[Sequence[_Clip]],
    run: Callable[[Sequence[_Clip]], _Result],
) -> list[_Result]:
    """Return what `run`, a forward and backward pass through `parallel`, returns for each part.

    Processes exchange gradients in the last part alone, so each may have its own number of parts.
    """
    *first, last = parts
    apart = parallel.no_sync() if isinstance(parallel, DistributedDataParallel) else nullcontext()
    with apart:
        results = [run(part) for part in first]
    return [*results, run(last)]


def _frames_that_fit(backbone: Backbone, clip: Clip, sweep: Sweep) -> int:
    """Return how many frames' tapes fit `Sweep.keep_bytes`, by running the stem on a chunk."""
    frames = range(min(sweep.chunk_frames, clip.num_frames))
    weights = [w.detach().requires_grad_(w.requires_grad) for w in backbone.folded_stem.weights()]
    meter = TapeMeter(apart_from=weights)
    with meter.running():
        output = backbone.folded_stem(clip.pictures(frames), weights)
    meter.add(output)
    return sweep.keep_bytes * len(frames) // meter.num_bytes


def _pack(clips: Sequence[_Clip], num_frames: int) -> list[Sequence[_Clip]]:
    """Return the clips in order, in parts of at most `num_frames` frames or of one clip."""
    parts, room = list[list[_Clip]](), 0
    for clip in clips:
        if clip.num_frames > room:
            parts.append([])
            room = num_frames
        parts[-1].append(clip)
        room -= clip.num_frames
    return list(parts)
