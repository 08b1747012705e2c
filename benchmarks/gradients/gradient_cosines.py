"""How close a gradient through representations is to the gradient over all frames: cosines, stage by stage.

Of one video, batch norms and dropout as in evaluation, one label and loss; every parameter takes part, those
of a stem that its training kept too. In the reference, `none`, each frame is a representation.

Letters: T frames, n of them, K clusters or sampled frames, R representations, P parameters of a stage, S side
in px.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from fvar.loading.sampling import uniform_frames
from fvar.model.backbone import Backbone
from fvar.model.engine import represent
from fvar.model.interface import Representations, Sweep
from fvar.model.networks.mobilenet import STAGE_ENDS
from fvar.model.recognizer import Recognizer
from fvar.model.shift import VideoLayout

CHUNK_FRAMES = 8  # the default on a CPU
DRAWS = 3  # of whatever is random, averaged before anything else
STAGES = ("stage 1", "stage 2", "stage 3", "stage 4", "classifier", "all")

Gradient = Mapping[str, Tensor]  # stage -> (P,) float32; without "all"


@dataclass(frozen=True)
class LabelledClip:
    """A video whose pictures are held, so that no decoding is timed.

    Attributes:
        id: Seeds what is random.
        frames: (T, 3, S, S) float.
        label: Its class.
        cut_key: Seed of `random` cuts.
    """

    id: str
    frames: Tensor
    label: int
    cut_key: int = 0

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.frames)

    def pictures(self, frames: Sequence[int]) -> Tensor:
        """Return the named frames, (n, 3, S, S)."""
        return self.frames[list(frames)]


@dataclass(frozen=True)
class Method:
    """One way from T frames to K representations.

    Attributes:
        clustering: Of all frames; None: the frames that are looked at are the representations.
        sampled: Look at one frame of each of K segments: its middle, or a random one as in training.
        by_size: Weigh each representation's logits by its number of frames, as `none` does; else all equally,
            as the recognizer does.
    """

    clustering: str | None
    sampled: Literal["middle", "random"] | None = None
    by_size: bool = False

    @property
    def num_draws(self) -> int:
        """How often it is measured: more than once where something is random."""
        return DRAWS if "random" in (self.clustering, self.sampled) else 1


ALL_FRAMES = Method(None)
METHODS = {
    "cumulative": Method("cumulative"),
    "cumulative by size": Method("cumulative", by_size=True),
    "slope": Method("slope"),
    "even": Method("even"),
    "random": Method("random"),
    "uniform": Method(None, sampled="middle"),
    "uniform drawn": Method(None, sampled="random"),
}


def stage_of(name: str) -> str:
    """Return the stage, 1 with all that comes before it, that a recognizer's parameter belongs to."""
    parts = name.split(".")
    if parts[0] == "classifier":
        return "classifier"
    _backbone, _network, layer, index = parts[:4]
    if layer == "features":
        passed = sum(int(index) > end for end in STAGE_ENDS)
        return f"stage {passed + 1}"
    return f"stage {layer.removeprefix('layer')}" if layer.startswith("layer") else "stage 1"


def without_shift(backbone: Backbone) -> Backbone:
    """Return `backbone` with the same parameters and no temporal shift: only logits are averaged."""
    stem = backbone._stem_units
    return Backbone(
        backbone.network,
        units=[*stem, *backbone._trunk_units],
        num_stem_units=len(stem),
        shifted={},
        num_features=backbone.num_features,
    )


def gradient(recognizer: Recognizer, clip: LabelledClip, method: Method, clusters: int) -> Gradient:
    """Return the gradient of one video's cross-entropy, by stage.

    Args:
        recognizer: In evaluation mode, every parameter wanting a gradient.
        clip: The video; `method` samples from it.
        method: How its frames become representations.
        clusters: K; nothing to `ALL_FRAMES`.
    """
    if method.sampled:
        key = clip.cut_key if method.sampled == "random" else None
        clip = replace(clip, frames=clip.frames[uniform_frames(clip.num_frames, clusters, key=key)])
    seen = represent(recognizer.backbone, [clip], _sweep(method, clusters))
    layout = VideoLayout.of(seen.counts, device=seen.activations.device)
    logits = recognizer.classifier(recognizer.backbone.trunk(seen.activations, layout))
    mean = _weights(seen, by_size=method.by_size) @ logits
    loss = functional.cross_entropy(mean, torch.tensor(clip.label, device=mean.device))
    parts = defaultdict(list)
    parameters = dict(recognizer.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()))
    for name, part in zip(parameters, found, strict=True):
        parts[stage_of(name)].append(part.flatten())
    return {stage: torch.cat(of_stage) for stage, of_stage in parts.items()}


def _sweep(method: Method, clusters: int) -> Sweep:
    return Sweep(
        engine="plain",
        clustering=method.clustering,
        num_clusters=clusters,
        chunk_frames=CHUNK_FRAMES,
        keep_bytes=0,
    )


def _weights(seen: Representations, *, by_size: bool) -> Tensor:
    """Return the weight of each representation's logits, (R,), summing to 1."""
    sizes = seen.activations.new_ones(len(seen.activations))
    if by_size and seen.clusters:
        sizes = (seen.clusters.stops - seen.clusters.starts)[0].to(sizes)
    return sizes / sizes.sum()


def cosines(first: Gradient, second: Gradient) -> dict[str, float]:
    """Return the cosine of two gradients for every stage and, under "all", for the whole."""
    dots = {stage: _dots(first[stage], second[stage]) for stage in STAGES[:-1]}
    dots["all"] = torch.stack(list(dots.values())).sum(dim=0)
    return {stage: float(d[0] / (d[1] * d[2]).sqrt()) for stage, d in dots.items()}


def _dots(first: Tensor, second: Tensor) -> Tensor:
    """Return first.second, first.first and second.second, in float64: sums over millions."""
    a, b = first.double(), second.double()
    return torch.stack([a @ b, a @ a, b @ b])
