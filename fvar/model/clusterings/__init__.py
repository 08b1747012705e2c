"""The clusterings, one file each: where a video is cut into K clusters of consecutive frames.

To add the clustering NAME, write ``NAME.py`` in this folder with what `Clustering` lists; ``--clustering``
then accepts it. `fvar.model.clustering.cluster` handles videos with fewer frames than clusters and, for
clusterings that need distances, videos that never change.

Letters: B videos, T frames, N = sum of all T, K clusters.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from torch import Tensor


class Clustering(Protocol):
    """What a file in this folder defines.

    Attributes:
        EXPLANATION: One or two plain sentences for the page of `fvar inspect-clusters`.
        NEEDS_DISTANCES: Whether the boundaries depend on the step distances.
        IS_RANDOM: Whether they depend on `cut_keys`.
    """

    EXPLANATION: str
    NEEDS_DISTANCES: bool
    IS_RANDOM: bool

    def boundaries(
        self, steps: Tensor, lengths: Tensor, num_clusters: int, cut_keys: Sequence[int]
    ) -> Tensor:
        """Return the boundaries between the clusters of B videos.

        Args:
            steps: (N,) int64, step distances of all videos, one after the other. It is 0 at the last frame of
                each video, and may be 0 everywhere if the clustering needs no distances.
            lengths: (B,) int64, frames T of each video.
            num_clusters: K.
            cut_keys: A seed for each video, for whatever is random.

        Returns:
            (B, K-1) int64: the first frame of each cluster but the first, counted within its video and rising
            strictly where T >= K; ignored where T < K.
        """


def load_clustering(name: str) -> Clustering:
    """Return the clustering in the file ``NAME.py``."""
    return cast("Clustering", import_module(f"{__name__}.{name}"))
