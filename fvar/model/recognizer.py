"""The recogniser: frames -> stem -> cluster means -> trunk with temporal shift -> mean of the row logits.

Letters: B videos, R rows of all videos, K clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from fvar.model.backbone import Backbone
from fvar.model.conv_bn_fusion import BATCH_NORMS
from fvar.model.engine import ENGINES, EngineMethod, measure_steps
from fvar.model.interface import Clip, Rows, Sweep
from fvar.model.shift import RowLayout

CLASSIFIER_STD = 0.001  # of the initial weights, as in TSM
NormMode = Literal["frozen", "partial", "stem-frozen", "train"]


@dataclass(frozen=True)
class Inference:
    """What the network says of one video, on the host.

    Attributes:
        logits: (num_classes,) float32.
        starts: (min(K, T),) int64, first frame of each run of the partition of [0, T).
        stops: (min(K, T),) int64, one past the last frame.
        step_distances: (T-1,) int64, Hamming distance of each frame's pattern to the next one's.
        num_bits: M, bits in a pattern.
    """

    logits: Tensor
    starts: np.ndarray
    stops: np.ndarray
    step_distances: np.ndarray
    num_bits: int

    def __repr__(self) -> str:
        return f"Inference(logits={tuple(self.logits.shape)}, runs={len(self.starts)})"


class Recognizer(nn.Module):
    """Classifies videos of any length, each from all its frames."""

    def __init__(
        self, backbone: Backbone, *, num_classes: int, dropout: float, norm: NormMode, sweep: Sweep
    ) -> None:
        """Put built parts together.

        Args:
            backbone: The network, cut where the clustering goes.
            num_classes: Rows of the classifier.
            dropout: Share of features dropped in training.
            norm: Which batch norms keep their statistics in training: all (``frozen``), all but the first
                (``partial``), the stem's (``stem-frozen``), none (``train``).
            sweep: How the stem goes over the frames.
        """
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(backbone.num_features, num_classes)
        nn.init.normal_(self.classifier.weight, std=CLASSIFIER_STD)
        nn.init.zeros_(self.classifier.bias)
        self.sweep = sweep
        self.engine: EngineMethod = "plain"
        self._frozen_norms = _norms_to_freeze(backbone, norm)
        self.train()

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  # nn.Module's own signature
        """Set the mode; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    def forward(self, clips: Sequence[Clip]) -> Tensor:
        """Return the logits of B videos, (B, num_classes); without videos none, and zero gradients."""
        if not clips:
            touched = torch.stack([parameter.sum() * 0 for parameter in self.parameters()]).sum()
            return touched.expand(0, self.classifier.out_features)
        return self.classify(ENGINES[self.engine](self.backbone, clips, self.sweep))

    def classify(self, rows: Rows) -> Tensor:
        """Run everything after the clustering and average each video's row logits: -> (B, num_classes)."""
        layout = RowLayout.of(rows.num_rows, device=rows.activations.device)
        features = self.backbone.trunk(rows.activations, layout)
        logits = self.classifier(self.dropout(features))  # (R, num_classes)
        return torch.stack(
            [video.mean(dim=0) for video in torch.split(logits, list(rows.num_rows))]
        )

    @torch.no_grad()
    def infer(self, clip: Clip, *, with_steps: bool = False) -> Inference:
        """Recognise one video by tape-free sweeps, in memory that does not grow with its length.

        One video at a time, so that the result cannot depend on others to the bit. For `none` and
        `uniform` the frames are the rows, and memory grows with them.

        Args:
            clip: The video.
            with_steps: Measure the step distances also where the clustering does not need them.
        """
        engine: EngineMethod = "plain" if self.sweep.method is None else "chunked"
        rows = ENGINES[engine](self.backbone, [clip], self.sweep)
        steps = rows.steps
        if steps is None and with_steps:
            steps = measure_steps(self.backbone, clip, self.sweep)
        starts, stops = _partition(rows, clip.num_frames)
        return Inference(
            logits=self.classify(rows)[0].float().cpu(),
            starts=starts,
            stops=stops,
            step_distances=np.zeros(0, np.int64) if steps is None else steps[:-1].cpu().numpy(),
            num_bits=rows.num_bits,
        )


def _partition(rows: Rows, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the partition of one video: its runs, or single frames for T <= K and without clustering."""
    if rows.runs is None or num_frames <= rows.runs.starts.shape[1]:
        return np.arange(num_frames), np.arange(1, num_frames + 1)
    return rows.runs.starts[0].cpu().numpy(), rows.runs.stops[0].cpu().numpy()


def _norms_to_freeze(backbone: Backbone, mode: NormMode) -> tuple[nn.Module, ...]:
    norms = [module for module in backbone.network.modules() if isinstance(module, BATCH_NORMS)]
    in_stem = [module for module in backbone.stem_modules() if isinstance(module, BATCH_NORMS)]
    frozen = {"frozen": norms, "partial": norms[1:], "stem-frozen": in_stem, "train": []}
    return tuple(frozen[mode])
