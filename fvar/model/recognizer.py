"""The recognizer: frames -> stem -> representations -> trunk with temporal shift -> mean of their logits.

Letters: B videos, T frames, R representations of all videos, K clusters, M bits of a pattern.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from fvar.model.backbone import Backbone
from fvar.model.clustering import Clusters
from fvar.model.conv_bn_fusion import BATCH_NORMS
from fvar.model.engine import represent
from fvar.model.interface import Clip, Representations, Sweep
from fvar.model.shift import VideoLayout

CLASSIFIER_STD = 0.001  # of the initial weights, as in TSM
NormMode = Literal["frozen", "partial", "stem-frozen", "train"]


@dataclass(frozen=True)
class Inference:
    """The result for one video, on the host.

    Attributes:
        logits: (num_classes,) float32, the mean over the representations.
        each_logits: (R, num_classes) float32, of each representation alone.
        features: (R, num_features) float32, of each representation, before the classifier.
        spans: (R, 2) int64, the frames [start, stop) behind each representation.
        boundaries: (min(K, T) + 1,) int64, first frame of each cluster of the partition of [0, T), then T.
        step_distances: (T-1,) int64, Hamming distance of each frame's pattern to the next one's; (0,) where
            they were not measured.
        num_bits: M, bits in a pattern.
    """

    logits: Tensor
    each_logits: Tensor
    features: Tensor
    spans: np.ndarray
    boundaries: np.ndarray
    step_distances: np.ndarray
    num_bits: int

    @property
    def cluster_logits(self) -> Tensor:
        """(min(K, T), num_classes) float32: a frame that stands for several clusters gets their mean."""
        _, which = np.unique(self.spans, axis=0, return_inverse=True)
        count = int(which.max()) + 1
        return torch.stack(
            [self.each_logits[which.ravel() == number].mean(dim=0) for number in range(count)]
        )

    def __repr__(self) -> str:
        return f"Inference(logits={tuple(self.logits.shape)}, clusters={len(self.boundaries) - 1})"


class Recognizer(nn.Module):
    """Classifies videos of any length, each from all its frames."""

    def __init__(
        self, backbone: Backbone, *, num_classes: int, dropout: float, norm: NormMode
    ) -> None:
        """Put built parts together.

        Args:
            backbone: The network, cut where the clustering goes.
            num_classes: Outputs of the classifier.
            dropout: Fraction of features dropped in training.
            norm: Which batch norms keep their statistics in training: all (``frozen``), all but the first
                (``partial``), the stem's (``stem-frozen``), none (``train``).
        """
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(backbone.num_features, num_classes)
        nn.init.normal_(self.classifier.weight, std=CLASSIFIER_STD)
        nn.init.zeros_(self.classifier.bias)
        self._frozen_norms = _norms_to_freeze(backbone, norm)
        self.train()

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  # nn.Module's own signature
        """Set the mode; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    def forward(self, videos: Sequence[Clip] | Representations, sweep: Sweep) -> Tensor:
        """Return the logits of B videos, (B, num_classes); without videos none, and zero gradients.

        Args:
            videos: Clips, or what a stem that is not trained has made of them.
            sweep: How the stem goes over the frames of clips.
        """
        if isinstance(videos, Representations):
            return self.classify(videos)
        if not videos:
            touched = torch.stack([parameter.sum() * 0 for parameter in self.parameters()]).sum()
            return touched.expand(0, self.classifier.out_features)
        return self.classify(represent(self.backbone, videos, sweep))

    def classify(self, seen: Representations) -> Tensor:
        """Run everything after the clustering and average the logits of each video: -> (B, num_classes)."""
        _, logits = self._classify_each(seen)
        return torch.stack([video.mean(dim=0) for video in torch.split(logits, list(seen.counts))])

    def _classify_each(self, seen: Representations) -> tuple[Tensor, Tensor]:
        """Return the features (R, num_features) and logits (R, num_classes) of each representation."""
        layout = VideoLayout.of(seen.counts, device=seen.activations.device)
        features = self.backbone.trunk(seen.activations, layout)
        return features, self.classifier(self.dropout(features))

    def infer(self, clip: Clip, sweep: Sweep) -> Inference:
        """Recognize one video, in memory that does not grow with its length where frames are clustered."""
        seen = represent_without_tape(self.backbone, clip, sweep)
        return self.infer_from(seen, num_frames=clip.num_frames)

    @torch.no_grad()
    def infer_from(self, seen: Representations, *, num_frames: int) -> Inference:
        """Recognize one video of T = `num_frames` from its representations.

        It takes one video at a time. So the result cannot depend on other videos, not even in its last bit.
        """
        steps = seen.steps
        features, logits = self._classify_each(seen)
        return Inference(
            logits=logits.mean(dim=0).float().cpu(),
            each_logits=logits.float().cpu(),
            features=features.float().cpu(),
            spans=_spans(seen),
            boundaries=_boundaries(seen.clusters, num_frames),
            step_distances=np.zeros(0, np.int64) if steps is None else steps[:-1].cpu().numpy(),
            num_bits=seen.num_bits,
        )


@torch.no_grad()
def represent_without_tape(backbone: Backbone, clip: Clip, sweep: Sweep) -> Representations:
    """Run the stem over one video for which no gradient is wanted.

    Where frames are clustered it always goes in chunks, also for a sweep whose engine is `plain`: the engine
    decides what is kept for a backward pass, and here there is none. Without a clustering every frame is a
    representation, and memory grows with the frames.
    """
    if sweep.clustering is not None:
        sweep = replace(sweep, engine="chunked")
    return represent(backbone, [clip], sweep)


def _boundaries(clusters: Clusters | None, num_frames: int) -> np.ndarray:
    """Return those of one video's clusters, or of single frames for T <= K and without clustering."""
    if clusters is None or num_frames <= clusters.starts.shape[1]:
        return np.arange(num_frames + 1)
    return np.append(clusters.starts[0].cpu().numpy(), num_frames)


def _spans(seen: Representations) -> np.ndarray:
    """Return the frames of one video behind each of its representations, (R, 2)."""
    if seen.clusters is None:
        frames = np.arange(len(seen.activations))
        return np.stack([frames, frames + 1], axis=1)
    return torch.cat([seen.clusters.starts, seen.clusters.stops]).T.cpu().numpy()


def _norms_to_freeze(backbone: Backbone, mode: NormMode) -> tuple[nn.Module, ...]:
    norms = [module for module in backbone.network.modules() if isinstance(module, BATCH_NORMS)]
    in_stem = [module for module in backbone.stem_modules() if isinstance(module, BATCH_NORMS)]
    frozen = {"frozen": norms, "partial": norms[1:], "stem-frozen": in_stem, "train": []}
    return tuple(frozen[mode])
