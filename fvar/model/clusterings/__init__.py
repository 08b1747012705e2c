"""The clusterings, one file each: where a video is cut into K clusters of consecutive frames.

To add the clustering NAME, write ``NAME.py`` in this folder with what `Clustering` lists; ``--clustering``
then accepts it. `fvar.model.clustering.cluster` handles videos with fewer frames than clusters. A clustering
that looks at the frames cuts a video that never changes like `even`.

Letters: B videos, T frames, N = sum of all T, K clusters, D numbers of a descriptor.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Literal, Protocol, cast

from torch import Tensor

Needs = Literal["nothing", "distances", "descriptors"]


class Clustering(Protocol):
    """What a file in this folder defines.

    Attributes:
        EXPLANATION: One or two plain sentences for the page of `fvar inspect-clusters`.
        NEEDS: What the boundaries depend on beside the lengths: ``nothing``, the step ``distances``, or the
            ``descriptors`` of the frames (both are in `fvar.model.clustering`).
        IS_RANDOM: Whether they depend on `cut_keys`.
    """

    EXPLANATION: str
    NEEDS: Needs
    IS_RANDOM: bool

    def boundaries(
        self, measured: Tensor, lengths: Tensor, num_clusters: int, cut_keys: Sequence[int]
    ) -> Tensor:
        """Return the boundaries between the clusters of B videos.

        Args:
            measured: What the clustering needs, of all videos, one after the other. Step distances: (N,)
                int64, 0 at the last frame of each video. Descriptors: (N, D) float16. Nothing: (N,).
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
