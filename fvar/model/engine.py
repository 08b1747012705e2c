"""From frames to rows: the stem over all frames of a video, in memory that does not grow with it.

Two engines, one result. ``plain`` lets autograd keep everything. ``chunked`` exploits that the mean over a
cluster is linear: once the boundaries are known, the gradient at every frame's stem output follows from the
gradients of the K means alone (`averaging_matrix`), so that no activation of the stem need outlive its chunk:

* sweep 1, no tape: patterns -> distances -> boundaries;
* sweep 2, no tape: means;
* sweep 3, in the backward pass, with a tape, chunk by chunk: push ``A^T dL/dy`` into the stem.

What fits a budget is kept from sweep to sweep instead of computed again (`Kept`). This holds as long as a
frame's stem output does not depend on its chunk, so ``chunked`` refuses a stem whose batch norm trains.
Chunks are cut within a video at fixed sizes: what a video gives never depends, to the bit, on other videos of
the batch.

Letters: B videos, T frames, n frames of a chunk, K clusters, R rows, M activations of a frame, C H W.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fvar.model.activation_cache import Kept, TapeMeter
from fvar.model.averaging import Membership
from fvar.model.backbone import Backbone
from fvar.model.clustering import (
    NEEDS_DISTANCES,
    ClusteringMethod,
    Runs,
    cluster,
    one_row_a_frame,
    sign_pattern,
    step_distances,
)
from fvar.model.conv_bn_fusion import depends_on_batch
from fvar.model.interface import Clip, Engine, Rows, Sweep
from fvar.system import count_chunk


def plain_rows(backbone: Backbone, clips: Sequence[Clip], sweep: Sweep) -> Rows:
    """Run the stem with a tape over everything: memory grows with the frames."""
    outputs = list(_taped_outputs(backbone, clips, sweep))
    num_bits = outputs[0][0].numel()
    if sweep.clustering is None:
        return Rows(torch.cat(outputs), tuple(map(len, outputs)), None, None, num_bits)
    steps = None
    if sweep.clustering in NEEDS_DISTANCES:
        with torch.no_grad():
            steps = torch.cat([_closed(step_distances(sign_pattern(x))) for x in outputs])
    runs = _runs(sweep.clustering, sweep.num_clusters, clips, steps, device=outputs[0].device)
    members = Membership.of_all(runs, clips)
    means = [
        _weighted(members.matrix(video, range(len(x)), dtype=_wide(x))[1], x)
        for video, x in enumerate(outputs)
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
    if sweep.clustering is None:
        raise ValueError("engine chunked: without a clustering every frame is a row; use plain")
    if depends_on_batch(backbone.stem_modules()):
        raise ValueError(
            "the stem's batch norm trains: its statistics would come from a chunk, not the batch"
        )
    weights = backbone.folded_stem.weights()
    sweeps = _Sweeps(backbone, clips, sweep, weights)
    steps = sweeps.distances() if sweep.clustering in NEEDS_DISTANCES else None
    runs = _runs(sweep.clustering, sweep.num_clusters, clips, steps, device=weights[0].device)
    means = _ClusterMeans.apply(sweeps, Membership.of_all(runs, clips), *weights)
    return Rows(means, (sweep.num_clusters,) * len(clips), runs, steps, means[0].numel())


@torch.no_grad()
def measure_steps(backbone: Backbone, clip: Clip, sweep: Sweep) -> Tensor:
    """Return one video's step distances, (T,) int64 with 0 at the end."""
    once = replace(sweep, keep_bytes=0)
    return _Sweeps(backbone, [clip], once, backbone.folded_stem.weights()).distances()


ENGINES: dict[Engine, Callable[[Backbone, Sequence[Clip], Sweep], Rows]] = {
    "plain": plain_rows,
    "chunked": chunked_rows,
}


class _Sweeps:
    """The three sweeps over the frames of a batch, with the stem's weights as they are in this step."""

    def __init__(
        self, backbone: Backbone, clips: Sequence[Clip], sweep: Sweep, weights: Sequence[Tensor]
    ) -> None:
        self._stem, self._clips, self._sweep = backbone.folded_stem, clips, sweep
        # Leaves: gradients are summed over the chunks here; autograd takes the sums on to the parameters.
        self._weights = [w.detach().requires_grad_(w.requires_grad) for w in weights]
        self._autocast = _AutocastState.current(weights[0].device.type)
        self._kept = Kept(
            sweep.keep_bytes,
            num_frames=sum(clip.num_frames for clip in clips),
            outputs=sweep.clustering in NEEDS_DISTANCES,
            tapes=torch.is_grad_enabled()
            and any(w.requires_grad for w in weights)
            and sweep.backward_fraction == 1,
        )

    @torch.no_grad()
    def distances(self) -> Tensor:
        """Sweep 1: return the step distances of all videos, (N,) int64.

        The step from each chunk to the next counts like those within.
        """
        steps = []
        for video, clip in enumerate(self._clips):
            parts, before = list[Tensor](), None
            for chunk in _chunks(clip, self._sweep):
                pattern = sign_pattern(self._output(video, chunk))
                if before is not None:
                    parts.append(step_distances(torch.cat([before, pattern[:1]])))
                parts.append(step_distances(pattern))
                before = pattern[-1:].clone()  # not a view, which would hold the chunk's
            steps.append(_closed(torch.cat(parts)))
        return torch.cat(steps)

    @torch.no_grad()
    def means(self, members: Membership) -> Tensor:
        """Sweep 2: return the means of all clusters, (B*K, C, H, W), float32 at least."""
        totals = list[Tensor]()
        for video in range(len(self._clips)):
            for chunk in members.chunks(video, self._sweep.chunk_frames):
                output = self._output(video, chunk)
                if len(totals) == video:
                    totals.append(_no_rows_yet(self._sweep.num_clusters, output))
                touched, matrix = members.matrix(video, chunk, dtype=totals[video].dtype)
                rows, frames = one_row_a_frame(totals[video]), one_row_a_frame(output)
                rows[touched].addmm_(matrix, frames.to(rows.dtype))
        return torch.cat(totals)

    def gradients(self, members: Membership, grad_means: Tensor) -> list[Tensor | None]:
        """Sweep 3: return the gradient of every weight from those of the means, (B*K, C, H, W)."""
        trained = [weight for weight in self._weights if weight.requires_grad]
        sums = [torch.zeros_like(weight, dtype=_wide(weight)) for weight in trained]
        by_video = torch.split(grad_means, self._sweep.num_clusters)
        visited = members.thinned(self._sweep.backward_fraction, self._clips)
        for video in range(len(self._clips)):
            for chunk in visited.chunks(video, self._sweep.chunk_frames):
                output = self._kept.tape((video, chunk[0]))
                if output is None:
                    output = self._run(video, chunk, tape=True)
                touched, matrix = visited.matrix(video, chunk, dtype=grad_means.dtype)
                grad_output = _weighted(matrix.T, by_video[video][touched]).to(output.dtype)
                parts = torch.autograd.grad(output, trained, grad_output)
                for total, part in zip(sums, parts, strict=True):
                    total.add_(part)
        found = iter(sums)
        return [next(found).to(w.dtype) if w.requires_grad else None for w in self._weights]

    def _output(self, video: int, chunk: Sequence[int]) -> Tensor:
        """Return a chunk's stem output (n, C, H, W), kept or computed; keep it if there is room."""
        place = (video, chunk[0])
        output = self._kept.output(place)
        if output is None:
            meter = TapeMeter(apart_from=self._weights)
            with meter.running():
                output = self._run(video, chunk, tape=self._kept.wants_tapes)
            meter.add(output)  # a ReLU's result is on the tape, a convolution's is not
            self._kept.put(place, output, tape_bytes=meter.num_bytes)
        return output.detach()

    def _run(self, video: int, chunk: Sequence[int], *, tape: bool) -> Tensor:
        count_chunk()
        with torch.set_grad_enabled(tape), self._autocast.entered():
            return self._stem(self._clips[video].pictures(chunk), self._weights)


class _ClusterMeans(torch.autograd.Function):
    """Means over clusters: the stem's weights go in, sweep 3 is the backward pass.

    Autocast, gradient scaling, accumulation and DistributedDataParallel work from outside: to them this is
    one operation on the stem's weights.
    """

    @staticmethod
    def forward(ctx: Any, sweeps: _Sweeps, members: Membership, *_weights: Tensor) -> Tensor:
        ctx.sweeps, ctx.members = sweeps, members
        return sweeps.means(members)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_means: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.sweeps.gradients(ctx.members, grad_means)


def _chunks(clip: Clip, sweep: Sweep) -> Iterator[range]:
    for first in range(0, clip.num_frames, sweep.chunk_frames):
        yield range(first, min(first + sweep.chunk_frames, clip.num_frames))


def _closed(steps: Tensor) -> Tensor:
    """Append the 0 that stands at a video's last frame: (T-1,) -> (T,)."""
    return torch.nn.functional.pad(steps, (0, 1))


def _runs(
    method: ClusteringMethod,
    num_clusters: int,
    clips: Sequence[Clip],
    steps: Tensor | None,
    *,
    device: torch.device,
) -> Runs:
    lengths = torch.tensor([clip.num_frames for clip in clips], device=device)
    if steps is None:
        steps = lengths.new_zeros(sum(clip.num_frames for clip in clips))
    cut_keys = [clip.cut_key for clip in clips]
    return cluster(method, steps, lengths, num_clusters=num_clusters, cut_keys=cut_keys)


def _wide(x: Tensor) -> torch.dtype:
    """Sums are in float32 at least: a cluster may have thousands of frames."""
    return torch.promote_types(x.dtype, torch.float32)


def _weighted(matrix: Tensor, x: Tensor) -> Tensor:
    """Apply a matrix (m, n) to activations (n, C, H, W), outside of autocast: -> (m, C, H, W)."""
    _, channels, height, width = x.shape
    with torch.autocast(x.device.type, enabled=False):
        product = matrix @ one_row_a_frame(x).to(matrix.dtype)
    return product.view(-1, height, width, channels).permute(0, 3, 1, 2)


def _no_rows_yet(num_rows: int, output: Tensor) -> Tensor:
    """Return zeros (K, C, H, W) to add frames to, laid out channels last."""
    _, channels, height, width = output.shape
    zeros = output.new_zeros((num_rows, height, width, channels), dtype=_wide(output))
    return zeros.permute(0, 3, 1, 2)


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
        # Without its cache of weights: one made without a tape would cut the next chunk's.
        return torch.autocast(
            self.device_type, dtype=self.dtype, enabled=self.enabled, cache_enabled=False
        )
