"""The parts of a batch that go forward and backward one after the other within one optimization step."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TypeVar

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fvar.model.backbone import Backbone
from fvar.model.conv_bn_fusion import depends_on_batch
from fvar.model.interface import Sweep

_Video = TypeVar("_Video")
_Result = TypeVar("_Result")


def split_step(
    backbone: Backbone, videos: Sequence[_Video], sweep: Sweep
) -> list[Sequence[_Video]]:
    """Return the videos of a step one by one where their gradients just add up, else the whole batch.

    One by one, each video has all of `Sweep.keep_bytes` for its tapes, so fewer chunks run twice. Where a
    batch norm of the trunk trains, the loss of a video depends on the whole batch. Where the stem is frozen,
    there are no tapes. On a GPU the trunk, with one video's representations, would wait for the host: that
    is an estimate (benchmarks/README.md), not a measurement.

    Args:
        backbone: In training mode, where the step is going to run.
        videos: This process's part of the batch, none or more.
        sweep: How the stem goes over their frames.
    """
    stem = backbone.stem_parameters()
    trains_stem = any(parameter.requires_grad for parameter in stem)
    on_cpu = all(parameter.device.type == "cpu" for parameter in stem)
    adds_up = not depends_on_batch(backbone.network.modules())
    if videos and sweep.engine == "chunked" and trains_stem and adds_up and on_cpu:
        return [[video] for video in videos]
    return [videos]


def run_parts(
    parallel: nn.Module,
    parts: Sequence[Sequence[_Video]],
    run: Callable[[Sequence[_Video]], _Result],
) -> list[_Result]:
    """Return what `run`, a forward and backward pass through `parallel`, returns for each part.

    Processes exchange gradients in the last part alone, so each may have its own number of parts.
    """
    *first, last = parts
    apart = parallel.no_sync() if isinstance(parallel, DistributedDataParallel) else nullcontext()
    with apart:
        results = [run(part) for part in first]
    return [*results, run(last)]
