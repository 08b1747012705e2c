"""From frames to rows: the stem over all frames of a video, in memory that does not grow with it.

Two engines, one result. ``plain`` lets autograd keep everything. ``chunked`` exploits that the mean over a
cluster is linear: once the boundaries are known, the gradient at every frame's stem output follows from the
gradients of the K means alone (``averaging_matrix``), so that no activation of the stem outlives its chunk:

* sweep 1, no tape: patterns -> distances -> boundaries;
* sweep 2, no tape: means (from sweep 1's outputs while they fit ``keep_bytes``, else recomputed);
* sweep 3, in the backward pass, with a tape, chunk by chunk: push ``A^T dL/dy`` into the stem.

This holds as long as a frame's stem output does not depend on its chunk, so ``chunked`` refuses a stem
whose batch norm trains. Chunks are cut within a video at fixed sizes: what a video gives never depends, to
the bit, on the other videos of the batch.

Letters: B videos, T frames, n frames of a chunk, K clusters, R rows, C H W.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fvar.model.backbone import Backbone
from fvar.model.clustering import (
    NEEDS_DISTANCES,
    ClusteringMethod,
    Runs,
    averaging_matrix,
    cluster,
    sign_pattern,
    step_distances,
)
from fvar.model.rows import Clip, Rows, Sweep

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def depends_on_batch(modules: Iterator[nn.Module]) -> bool:
    """Tell whether a batch norm among `modules` takes its statistics from the batch it is given."""
    return any(isinstance(module, BATCH_NORMS) and module.training for module in modules)


def plain_rows(backbone: Backbone, clips: Sequence[Clip], sweep: Sweep) -> Rows:
    """Run the stem with a tape over everything: memory grows with the frames."""
    outputs = list(_taped_outputs(backbone, clips, sweep))
    num_bits = outputs[0][0].numel()
    if sweep.method is None:
        return Rows(torch.cat(outputs), tuple(map(len, outputs)), None, None, num_bits)
    steps = None
    if sweep.method in NEEDS_DISTANCES:
        with torch.no_grad():
            steps = torch.cat([_closed(step_distances(sign_pattern(x))) for x in outputs])
    runs = _runs(sweep.method, clips, steps, sweep.num_clusters, device=outputs[0].device)
    means = [
        _averaged(
            x, averaging_matrix(starts, stops, first=0, num_frames=len(x), dtype=_sum_dtype(x))
        )
        for x, starts, stops in zip(outputs, runs.starts, runs.stops, strict=True)
    ]
    return Rows(torch.cat(means), (sweep.num_clusters,) * len(clips), runs, steps, num_bits)


def _taped_outputs(backbone: Backbone, clips: Sequence[Clip], sweep: Sweep) -> Iterator[Tensor]:
    """Yield each video's stem outputs (T, C, H, W). A batch norm that trains sees the whole batch at once."""
    if depends_on_batch(backbone.stem_modules()):
        lengths = [clip.num_frames for clip in clips]
        pictures = torch.cat([clip.pictures(range(clip.num_frames)) for clip in clips])
        yield from torch.split(backbone.stem(pictures), lengths)
        return
    for clip in clips:
        yield torch.cat([backbone.stem(clip.pictures(chunk)) for chunk in _chunks(clip, sweep)])


def chunked_rows(backbone: Backbone, clips: Sequence[Clip], sweep: Sweep) -> Rows:
    """Run the stem without a tape; the backward pass goes over the frames again.

    Raises:
        ValueError: The stem has a batch norm that trains, or there is nothing to cluster.
    """
    if sweep.method is None:
        raise ValueError("method None: without clusters every frame is a row; use the plain engine")
    if depends_on_batch(backbone.stem_modules()):
        raise ValueError(
            "the stem's batch norm trains: its statistics would come from a chunk, not the batch"
        )
    kept = _Kept(sweep.keep_bytes)
    steps, num_bits = None, 0
    if sweep.method in NEEDS_DISTANCES:
        steps, num_bits = _distances(backbone, clips, sweep, kept=kept)
    device = next(backbone.parameters()).device
    runs = _runs(sweep.method, clips, steps, sweep.num_clusters, device=device)
    means = _ClusterMeans.apply(backbone, clips, runs, sweep, kept, *backbone.stem_parameters())
    num_bits = num_bits or means[0].numel()
    return Rows(means, (sweep.num_clusters,) * len(clips), runs, steps, num_bits)


@torch.no_grad()
def measure_steps(backbone: Backbone, clip: Clip, sweep: Sweep) -> tuple[Tensor, int]:
    """Return one video's step distances, (T,) int64 with 0 at the end, and the length M of a pattern."""
    return _distances(backbone, [clip], sweep, kept=_Kept(0))


ENGINES = {"plain": plain_rows, "chunked": chunked_rows}
EngineMethod = Literal["plain", "chunked"]


class _Kept:
    """Stem outputs of sweep 1, by video and first frame, while they fit a budget."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes, self._outputs = budget_bytes, dict[tuple[int, int], Tensor]()

    def put(self, video: int, first: int, output: Tensor) -> None:
        size = output.numel() * output.element_size()
        if size <= self._budget_bytes:
            self._budget_bytes -= size
            self._outputs[video, first] = output

    def take(self, video: int, first: int) -> Tensor | None:
        return self._outputs.pop((video, first), None)


@torch.no_grad()
def _distances(
    backbone: Backbone, clips: Sequence[Clip], sweep: Sweep, *, kept: _Kept
) -> tuple[Tensor, int]:
    """Sweep 1. Chunks overlap by one pattern, so that no step between chunks is lost."""
    steps, num_bits = [], 0
    for video, clip in enumerate(clips):
        parts, before = list[Tensor](), None
        for chunk in _chunks(clip, sweep):
            output = backbone.stem(clip.pictures(chunk))
            pattern = sign_pattern(output)
            parts.append(
                step_distances(pattern if before is None else torch.cat([before, pattern]))
            )
            before, num_bits = pattern[-1:], pattern.shape[1]
            kept.put(video, chunk[0], output)
        steps.append(_closed(torch.cat(parts)))
    return torch.cat(steps), num_bits


def _closed(steps: Tensor) -> Tensor:
    """Append the 0 that stands at a video's last frame: (T-1,) -> (T,)."""
    return torch.nn.functional.pad(steps, (0, 1))


def _runs(
    method: ClusteringMethod,
    clips: Sequence[Clip],
    steps: Tensor | None,
    num_clusters: int,
    *,
    device: torch.device,
) -> Runs:
    lengths = [clip.num_frames for clip in clips]
    if steps is None:
        steps = torch.zeros(sum(lengths), dtype=torch.int64, device=device)
    return cluster(
        method,
        steps,
        torch.tensor(lengths, device=device),
        num_clusters=num_clusters,
        cut_keys=[clip.cut_key for clip in clips],
    )


def _chunks(clip: Clip, sweep: Sweep) -> Iterator[range]:
    for first in range(0, clip.num_frames, sweep.chunk_frames):
        yield range(first, min(first + sweep.chunk_frames, clip.num_frames))


def _sum_dtype(x: Tensor) -> torch.dtype:
    """Means are summed in float32 at least: a cluster may have thousands of frames."""
    return torch.promote_types(x.dtype, torch.float32)


def _averaged(x: Tensor, matrix: Tensor) -> Tensor:
    """Apply an averaging matrix (K, n) to activations (n, C, H, W), outside of autocast."""
    with torch.autocast(x.device.type, enabled=False):
        means = matrix @ x.to(matrix.dtype).flatten(1)
        return means.view(len(matrix), *x.shape[1:])


class _ClusterMeans(torch.autograd.Function):
    """Means over clusters: the stem's parameters go in, sweep 3 is the backward pass.

    Autocast, gradient scaling, accumulation and DistributedDataParallel work from outside: to them this is
    one operation on the stem's parameters.
    """

    @staticmethod
    def forward(
        ctx: Any,
        backbone: Backbone,
        clips: Sequence[Clip],
        runs: Runs,
        sweep: Sweep,
        kept: _Kept,
        *parameters: nn.Parameter,
    ) -> Tensor:
        ctx.backbone, ctx.clips, ctx.runs, ctx.sweep = backbone, clips, runs, sweep
        ctx.trained = [parameter for parameter in parameters if parameter.requires_grad]
        ctx.num_parameters = len(parameters)
        ctx.autocast = _AutocastState.current(runs.starts.device.type)
        means = []
        for video, clip in enumerate(clips):
            parts = _parts(backbone, clip, runs, sweep, video=video, kept=kept)
            total = next(parts)
            for part in parts:
                total.add_(part)
            means.append(total)
        return torch.cat(means)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_means: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [torch.zeros_like(parameter) for parameter in ctx.trained]
        per_video = torch.split(grad_means, ctx.sweep.num_clusters)
        for video, clip in enumerate(ctx.clips):
            for chunk in _chunks(clip, ctx.sweep):
                with torch.enable_grad(), ctx.autocast.entered():
                    output = ctx.backbone.stem(clip.pictures(chunk))
                grad_output = _averaged(per_video[video], _matrix(ctx.runs, video, chunk, output).T)
                parts = torch.autograd.grad(output, ctx.trained, grad_output.to(output.dtype))
                for gradient, part in zip(gradients, parts, strict=True):
                    gradient.add_(part)
        found = iter(gradients)
        needed = ctx.needs_input_grad[-ctx.num_parameters :]
        return (*([None] * 5), *(next(found) if wanted else None for wanted in needed))


def _parts(
    backbone: Backbone, clip: Clip, runs: Runs, sweep: Sweep, *, video: int, kept: _Kept
) -> Iterator[Tensor]:
    """Sweep 2: yield what each chunk adds to the means of one video, (K, C, H, W)."""
    for chunk in _chunks(clip, sweep):
        output = kept.take(video, chunk[0])
        if output is None:
            output = backbone.stem(clip.pictures(chunk))
        yield _averaged(output, _matrix(runs, video, chunk, output))


def _matrix(runs: Runs, video: int, chunk: range, output: Tensor) -> Tensor:
    return averaging_matrix(
        runs.starts[video],
        runs.stops[video],
        first=chunk[0],
        num_frames=len(chunk),
        dtype=_sum_dtype(output),
    )


@dataclass(frozen=True)
class _AutocastState:
    """Autocast as it stood in the forward pass: the backward pass must see the same dtypes."""

    device_type: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def current(cls, device_type: str) -> "_AutocastState":
        enabled = torch.is_autocast_enabled(device_type)
        return cls(device_type, enabled, torch.get_autocast_dtype(device_type))

    def entered(self) -> torch.autocast:
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.enabled)
