"""From frames to representations: the stem over all frames of a video, in memory that does not grow with it.

Two engines, one result. ``plain`` lets autograd keep everything. ``chunked`` uses that the mean over a
cluster is linear: once the boundaries are known, the gradient at every frame's stem output follows from the
gradients of the K means alone (`averaging`), so that no activation of the stem has to outlive its chunk:

* sweep 1, no tape: patterns and their distances, or descriptors -> boundaries;
* sweep 2, no tape: means;
* sweep 3, in the backward pass, with a tape, chunk by chunk: push ``A^T dL/dy`` into the stem.

What fits a budget is kept from sweep to sweep instead of computed again (`ActivationCache`). The result holds
as long as a frame's stem output does not depend on its chunk, so ``chunked`` refuses a stem whose batch norm
trains. Chunks are cut within a video at fixed sizes: the result for a video never depends on the other videos
of the batch, not even in its last bit.

Letters: B videos, T frames, n frames of a chunk, N = sum of all T, K clusters, R representations, C H W.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fvar.model.activation_cache import ActivationCache, TapeMeter
from fvar.model.averaging import Assignment
from fvar.model.backbone import Backbone
from fvar.model.chunks import Chunk, cut_chunks, made_ahead
from fvar.model.clustering import Measured, cluster, flatten_frames
from fvar.model.conv_bn_fusion import depends_on_batch
from fvar.model.interface import Clip, Engine, Representations, Sweep
from fvar.system import note_memory_level, return_grown_memory


def represent(backbone: Backbone, clips: Sequence[Clip], sweep: Sweep) -> Representations:
    """Run the stem over all frames of `clips` and average each cluster, by the engine that `sweep` names.

    Raises:
        ValueError: The engine is ``chunked``, but nothing is clustered or a batch norm of the stem trains.
    """
    return _ENGINES[sweep.engine](backbone, clips, sweep)


def _represent_plain(backbone: Backbone, clips: Sequence[Clip], sweep: Sweep) -> Representations:
    """Run the stem with a tape over everything: memory grows with the frames."""
    outputs = list(_taped_outputs(backbone, clips, sweep))
    return represent_outputs(outputs, sweep, [clip.cut_key for clip in clips])


def represent_outputs(
    outputs: Sequence[Tensor], sweep: Sweep, cut_keys: Sequence[int]
) -> Representations:
    """Average the clusters of videos whose stem outputs are in memory; gradients flow to the outputs.

    Args:
        outputs: (T, C, H, W) of each video.
        sweep: How to cluster; without a clustering every frame is a representation.
        cut_keys: The seed of each video's `random` cuts.
    """
    num_bits = outputs[0][0].numel()
    measured = _nothing_measured(sweep)
    for video, x in enumerate(outputs):
        measured.add(video, x.detach())
    steps = measured.steps
    if sweep.clustering is None:
        return Representations(
            torch.cat(list(outputs)), tuple(map(len, outputs)), None, steps, num_bits
        )
    lengths = [len(x) for x in outputs]
    assignment = _assign(
        sweep.clustering, sweep, lengths, cut_keys, measured, device=outputs[0].device
    )
    means = [
        _weighted(assignment.matrix(video, range(len(x)), dtype=_wide(x))[1], x).to(x.dtype)
        for video, x in enumerate(outputs)
    ]
    counts = (sweep.num_clusters,) * len(outputs)
    return Representations(torch.cat(means), counts, assignment.clusters, steps, num_bits)


def _taped_outputs(backbone: Backbone, clips: Sequence[Clip], sweep: Sweep) -> Iterator[Tensor]:
    """Yield each video's stem outputs (T, C, H, W). A batch norm that trains sees the whole batch at once."""

    def make(chunk: Chunk) -> Tensor:
        return clips[chunk[0]].pictures(chunk[1])

    frames = [range(clip.num_frames) for clip in clips]
    if depends_on_batch(backbone.stem_modules()):
        lengths = [clip.num_frames for clip in clips]
        whole = made_ahead(make, enumerate(frames), ahead=sweep.chunks_ahead)
        pictures = torch.cat([of_video for _, of_video in whole])
        yield from torch.split(backbone.stem(pictures), lengths)
        return
    parts = list[Tensor]()
    chunks = cut_chunks(frames, sweep.chunk_frames)
    for (video, chunk), pictures in made_ahead(make, chunks, ahead=sweep.chunks_ahead):
        parts.append(backbone.stem(pictures))
        if chunk[-1] == frames[video][-1]:
            yield torch.cat(parts)
            parts.clear()


def _represent_chunked(backbone: Backbone, clips: Sequence[Clip], sweep: Sweep) -> Representations:
    """Run the stem without a tape; the backward pass goes over the frames again."""
    if sweep.clustering is None:
        raise ValueError("engine chunked: without a clustering there are no means; use plain")
    if depends_on_batch(backbone.stem_modules()):
        raise ValueError(
            "the stem's batch norm trains: its statistics would come from a chunk, not the batch"
        )
    note_memory_level()
    weights = backbone.folded_stem.weights()
    sweeps = _StemSweeps(backbone, clips, sweep, weights)
    measured = sweeps.measure()
    lengths, cut_keys = [clip.num_frames for clip in clips], [clip.cut_key for clip in clips]
    assignment = _assign(
        sweep.clustering, sweep, lengths, cut_keys, measured, device=weights[0].device
    )
    means = _ClusterMeans.apply(sweeps, assignment, *weights)
    counts = (sweep.num_clusters,) * len(clips)
    return Representations(means, counts, assignment.clusters, measured.steps, means[0].numel())


_ENGINES: dict[Engine, Callable[[Backbone, Sequence[Clip], Sweep], Representations]] = {
    "plain": _represent_plain,
    "chunked": _represent_chunked,
}


class _StemSweeps:
    """The three sweeps over the frames of a batch, with the stem's weights as they are in this step."""

    def __init__(
        self, backbone: Backbone, clips: Sequence[Clip], sweep: Sweep, weights: Sequence[Tensor]
    ) -> None:
        self._stem, self._clips, self._sweep = backbone.folded_stem, clips, sweep
        # Leaves: gradients are summed over the chunks here; autograd takes the sums on to the parameters.
        self._weights = [w.detach().requires_grad_(w.requires_grad) for w in weights]
        # Autocast as it is now, in the backward pass too: it must see the same dtypes. Without its cache of
        # weights: one made without a tape would cut the next chunk's.
        device_type = weights[0].device.type
        self._autocast = torch.autocast(
            device_type,
            dtype=torch.get_autocast_dtype(device_type),
            enabled=torch.is_autocast_enabled(device_type),
            cache_enabled=False,
        )
        self._cache = ActivationCache(
            sweep.keep_bytes,
            num_frames=sum(clip.num_frames for clip in clips),
            outputs=sweep.measures,  # only then sweep 2 follows sweep 1
            tapes=torch.is_grad_enabled()
            and any(w.requires_grad for w in weights)
            and sweep.backward_fraction == 1,
        )

    @torch.no_grad()
    def measure(self) -> Measured:
        """Sweep 1: return what the clustering needs of all frames; without a need nothing is swept."""
        measured = _nothing_measured(self._sweep)
        if self._sweep.measures:
            for video, _, output in self._outputs([range(c.num_frames) for c in self._clips]):
                measured.add(video, output)
        return measured

    @torch.no_grad()
    def means(self, assignment: Assignment) -> Tensor:
        """Sweep 2: return the means of all clusters, (B*K, C, H, W), added up in float32 at least."""
        totals = list[Tensor]()
        for video, chunk, output in self._outputs(assignment.frames):
            if len(totals) == video:
                totals.append(_empty_means(self._sweep.num_clusters, output))
            touched, matrix = assignment.matrix(video, chunk, dtype=totals[video].dtype)
            means, frames = flatten_frames(totals[video]), flatten_frames(output)
            means[touched].addmm_(matrix, frames.to(means.dtype))
        return torch.cat(totals).to(output.dtype)

    def gradients(self, assignment: Assignment, grad_means: Tensor) -> list[Tensor | None]:
        """Sweep 3: return the gradient of every weight from those of the means, (B*K, C, H, W)."""
        trained = [weight for weight in self._weights if weight.requires_grad]
        sums = [torch.zeros_like(weight, dtype=_wide(weight)) for weight in trained]
        grad_means = grad_means.to(_wide(grad_means))
        by_video = torch.split(grad_means, self._sweep.num_clusters)
        keys = [clip.cut_key for clip in self._clips]
        visited = assignment.sample(self._sweep.backward_fraction, keys)
        for (video, chunk), pictures in self._pictures(visited.frames):
            if pictures is None:
                output = self._cache.tape((video, chunk[0]))
            else:
                output = self._run(pictures, tape=True)
            touched, matrix = visited.matrix(video, chunk, dtype=grad_means.dtype)
            grad_output = _weighted(matrix.T, by_video[video][touched]).to(output.dtype)
            parts = torch.autograd.grad(output, trained, grad_output)
            for total, part in zip(sums, parts, strict=True):
                total.add_(part)
        found = iter(sums)
        return [next(found).to(w.dtype) if w.requires_grad else None for w in self._weights]

    def _outputs(
        self, frames: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, Sequence[int], Tensor]]:
        """Yield each chunk with its stem output (n, C, H, W), kept or computed; keep it if there is room."""
        for (video, chunk), pictures in self._pictures(frames):
            key = (video, chunk[0])
            if pictures is None:
                yield video, chunk, self._cache.output(key)
                continue
            meter = TapeMeter(apart_from=self._weights)
            with meter.running():
                output = self._run(pictures, tape=self._cache.wants_tapes)
            meter.add(output)  # a ReLU's result is on the tape, a convolution's is not
            self._cache.put(key, output, tape_bytes=meter.num_bytes)
            yield video, chunk, output.detach()

    def _pictures(self, frames: Sequence[Sequence[int]]) -> Iterator[tuple[Chunk, Tensor | None]]:
        """Yield each chunk with its pictures, or with None where its output is kept."""

        def make(chunk: Chunk) -> Tensor | None:
            video, of_video = chunk
            kept = (video, of_video[0]) in self._cache
            return None if kept else self._clips[video].pictures(of_video)

        chunks = cut_chunks(frames, self._sweep.chunk_frames)
        return made_ahead(make, chunks, ahead=self._sweep.chunks_ahead)

    def _run(self, pictures: Tensor, *, tape: bool) -> Tensor:
        return_grown_memory()
        with torch.set_grad_enabled(tape), self._autocast:
            return self._stem(pictures, self._weights)


class _ClusterMeans(torch.autograd.Function):
    """Means over clusters: the stem's weights go in, sweep 3 is the backward pass.

    Autocast, gradient scaling, accumulation and DistributedDataParallel work from outside: to them this is
    one operation on the stem's weights.
    """

    @staticmethod
    def forward(ctx: Any, sweeps: _StemSweeps, assignment: Assignment, *_weights: Tensor) -> Tensor:
        ctx.sweeps, ctx.assignment = sweeps, assignment
        return sweeps.means(assignment)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_means: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.sweeps.gradients(ctx.assignment, grad_means)


def _nothing_measured(sweep: Sweep) -> Measured:
    """Return what will hold the measures of the frames that the sweep needs."""
    return Measured(distances=sweep.needs_distances, descriptors=sweep.needs_descriptors)


def _assign(
    clustering: str,
    sweep: Sweep,
    lengths: Sequence[int],
    cut_keys: Sequence[int],
    measured: Measured,
    *,
    device: torch.device,
) -> Assignment:
    """Cluster the frames of videos."""
    clusters = cluster(
        clustering,
        measured.needed_by(clustering, device=device),
        torch.tensor(lengths, device=device),
        num_clusters=sweep.num_clusters,
        cut_keys=cut_keys,
    )
    return Assignment.of_all_frames(clusters, lengths, sweep.aggregator)


def _wide(x: Tensor) -> torch.dtype:
    """Sums are in float32 at least: a cluster may have thousands of frames."""
    return torch.promote_types(x.dtype, torch.float32)


def _weighted(matrix: Tensor, x: Tensor) -> Tensor:
    """Apply a matrix (m, n) to activations (n, C, H, W), outside of autocast: -> (m, C, H, W)."""
    _, channels, height, width = x.shape
    with torch.autocast(x.device.type, enabled=False):
        product = matrix @ flatten_frames(x).to(matrix.dtype)
    return product.view(-1, height, width, channels).permute(0, 3, 1, 2)


def _empty_means(num_clusters: int, output: Tensor) -> Tensor:
    """Return zeros (K, C, H, W) to add frames to, laid out channels last."""
    _, channels, height, width = output.shape
    zeros = output.new_zeros((num_clusters, height, width, channels), dtype=_wide(output))
    return zeros.permute(0, 3, 1, 2)
