"""What goes into an engine and what comes out: clips, how to sweep over them, and their representations.

Letters: B videos, T frames, n frames of a chunk, N = sum of all T, K clusters, R representations of all
videos, M bits of a pattern, C H W.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from fvar.model.averaging import Aggregator, mean
from fvar.model.clustering import Clusters
from fvar.model.clusterings import Needs, load_clustering

Engine = Literal["plain", "chunked"]


class Clip(Protocol):
    """One video, as the engine sees it."""

    @property
    def num_frames(self) -> int:
        """T, at least 1."""

    @property
    def cut_key(self) -> int:
        """The seed of this video's `random` cuts."""

    def pictures(self, frames: Sequence[int]) -> Tensor:
        """Return the named frames as the network takes them, (n, 3, H, W) float; the same at every call.

        With `Sweep.chunks_ahead`, several threads call this at once.
        """


@dataclass(frozen=True)
class Sweep:
    """How the stem goes over the frames.

    Attributes:
        engine: ``plain`` keeps every activation for the backward pass; ``chunked`` computes them again.
        clustering: Name of the clustering. None: every frame is a representation (`none`, and the frames that
            `uniform` picked), which only the plain engine can do.
        num_clusters: K.
        chunk_frames: Frames that the stem sees at once, n.
        keep_bytes: Size of the stem outputs and tapes that may be kept from sweep to sweep.
        backward_fraction: Fraction of each cluster's frames, drawn at random, that the backward pass of the
            chunked engine visits, in (0, 1]. Below 1 its gradient is exact in expectation only.
        with_steps: Measure the step distances also where the clustering does not need them.
        aggregator: How the frames of a cluster become one representation.
        chunks_ahead: How many chunks' pictures threads make before the stem is ready for them, of this video
            or the next ones of the batch. They are in memory, too. 0: each chunk's when it is due.
    """

    engine: Engine
    clustering: str | None
    num_clusters: int
    chunk_frames: int
    keep_bytes: int
    backward_fraction: float = 1.0
    with_steps: bool = False
    aggregator: Aggregator = mean
    chunks_ahead: int = 0

    def __post_init__(self) -> None:
        if self.chunk_frames < 1:
            raise ValueError(f"chunk_frames {self.chunk_frames}: must be at least 1")
        if self.num_clusters < 1:
            raise ValueError(f"num_clusters {self.num_clusters}: must be at least 1")
        if not 0 < self.backward_fraction <= 1:
            raise ValueError(f"backward_fraction {self.backward_fraction}: must be in (0, 1]")
        if self.chunks_ahead < 0:
            raise ValueError(f"chunks_ahead {self.chunks_ahead}: must be at least 0")

    @property
    def needs_distances(self) -> bool:
        """Whether the engine measures the step distances."""
        return self.with_steps or self._clustering_needs == "distances"

    @property
    def needs_descriptors(self) -> bool:
        """Whether the engine measures the frames' descriptors."""
        return self._clustering_needs == "descriptors"

    @property
    def measures(self) -> bool:
        """Whether the engine measures anything before it knows the clusters."""
        return self.needs_distances or self.needs_descriptors

    @property
    def _clustering_needs(self) -> Needs:
        return "nothing" if self.clustering is None else load_clustering(self.clustering).NEEDS


@dataclass(frozen=True)
class Representations:
    """What the trunk sees: the cluster means of each video, or its frames where there is no clustering.

    Attributes:
        activations: (R, C, H, W), videos one after the other.
        counts: How many of them each video has.
        clusters: None where every frame is a representation.
        steps: (N,) int64 step distances, 0 at each video's last frame; None where they were not measured.
        num_bits: M, the length of a pattern.
    """

    activations: Tensor
    counts: tuple[int, ...]
    clusters: Clusters | None
    steps: Tensor | None
    num_bits: int

    @classmethod
    def join(cls, videos: Sequence["Representations"]) -> "Representations":
        """Return the representations of at least one video as those of a batch.

        Step distances and clusters are there if all videos have them.
        """
        clusters = [video.clusters for video in videos if video.clusters is not None]
        steps = [video.steps for video in videos if video.steps is not None]
        return cls(
            torch.cat([video.activations for video in videos]),
            tuple(count for video in videos for count in video.counts),
            Clusters(
                torch.cat([found.starts for found in clusters]),
                torch.cat([found.stops for found in clusters]),
            )
            if len(clusters) == len(videos)
            else None,
            torch.cat(steps) if len(steps) == len(videos) else None,
            videos[0].num_bits,
        )
