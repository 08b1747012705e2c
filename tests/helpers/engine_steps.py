"""Forward and backward passes of a recognizer and how far apart two of them are, for tests of the engines."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import torch
from tensor_clips import TensorClip
from torch import Tensor
from torch.nn import functional

from fvar.model.backbone import Backbone
from fvar.model.clustering import Clusters, Measured, cluster
from fvar.model.interface import Engine, Sweep
from fvar.model.recognizer import Recognizer

PLENTY = 1 << 30  # bytes, more than any clip here needs
NUM_CLASSES = 5
EXACT = 1e-10  # relative L2, in float64
ENGINES = get_args(Engine)


class Step(NamedTuple):
    """What a forward and a backward pass give."""

    logits: Tensor
    loss: Tensor
    gradients: dict[str, Tensor]  # by the parameter's name


def make_sweep(
    clustering: str | None = "cumulative",
    k: int = 3,
    *,
    engine: Engine = "chunked",
    chunk: int = 4,
    keep: int = PLENTY,
) -> Sweep:
    return Sweep(
        engine="plain" if clustering is None else engine,
        clustering=clustering,
        num_clusters=k,
        chunk_frames=chunk,
        keep_bytes=keep,
    )


def make_recognizer(backbone: Backbone) -> Recognizer:
    """Return a recognizer in training mode, norms frozen, no dropout, its classifier not near zero."""
    dtype = next(backbone.parameters()).dtype
    built = Recognizer(backbone, num_classes=NUM_CLASSES, dropout=0.0, norm="frozen").to(dtype)
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(built.classifier.weight.shape, generator=generator)
    built.classifier.weight.data.copy_(weight)
    return built


def take_step(recognizer: Recognizer, clips: Sequence[TensorClip], sweep: Sweep) -> Step:
    """Run forward and backward as a training does."""
    return backward(recognizer, recognizer(clips, sweep))


def backward(recognizer: Recognizer, logits: Tensor) -> Step:
    """Go back from logits (B, classes) of videos labeled 0, 1, 2, ..."""
    recognizer.zero_grad()
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = torch.arange(len(logits), device=logits.device) % NUM_CLASSES
    loss = functional.cross_entropy(wide, labels)
    loss.backward()
    return Step(logits.detach(), loss.detach(), gradients_of(recognizer))


def gradients_of(recognizer: Recognizer) -> dict[str, Tensor]:
    """Return a copy of the gradients that are there."""
    named = recognizer.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


def spans_of(clusters: Clusters | None) -> list[list[tuple[int, int]]]:
    """Return the clusters of each video as pairs (start, stop)."""
    assert clusters is not None
    assert clusters.starts.dtype == clusters.stops.dtype == torch.int64
    return [
        list(zip(starts, stops, strict=True))
        for starts, stops in zip(clusters.starts.tolist(), clusters.stops.tolist(), strict=True)
    ]


def distance(found: Tensor, wanted: Tensor) -> float:
    """Return the relative L2 distance."""
    there = wanted.detach().double()
    return float((found.detach().double() - there).norm() / there.norm().clamp_min(1e-30))


def total_distance(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """Return the relative L2 distance of all gradients taken as one vector."""
    assert found.keys() == wanted.keys()
    return distance(
        *(torch.cat([part[name].flatten() for name in wanted]) for part in (found, wanted))
    )


def assert_same_gradients(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, within: float = EXACT
) -> None:
    assert found.keys() == wanted.keys()
    worst = {name: distance(found[name], gradient) for name, gradient in wanted.items()}
    assert max(worst.values()) <= within, worst


def assert_same_step(found: Step, wanted: Step) -> None:
    assert distance(found.logits, wanted.logits) <= EXACT
    assert distance(found.loss, wanted.loss) <= EXACT
    assert_same_gradients(found.gradients, wanted.gradients)


def cluster_frames(name: str, frames: Tensor, k: int) -> list[list[tuple[int, int]]]:
    """Return the clusters of one video with activations (T, C, H, W), measured in two chunks."""
    measured = Measured(distances=True, descriptors=True)
    measured.add(0, frames[:5])
    if len(frames) > 5:
        measured.add(0, frames[5:])
    needed, lengths = measured.needed_by(name, device=frames.device), torch.tensor([len(frames)])
    return spans_of(cluster(name, needed, lengths, num_clusters=k, cut_keys=[0]))
