"""The method alone: any sequence of vectors or maps, clustered in time.

Letters: T frames, K clusters, D numbers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fvar.errors import ConfigError
from fvar.model.clustering import Measured, cluster
from fvar.names import clustering_names

_CHUNK = 64  # frames that are measured at once


@dataclass(frozen=True)
class FrameClusters:
    """The clusters of one sequence.

    Attributes:
        boundaries: (min(K, T) + 1,) int64, first frame of each cluster, then T.
        means: (min(K, T), ...), the mean of each cluster; of the type that was given.
    """

    boundaries: npt.NDArray[np.int64]
    means: Any


def cluster_frames(
    activations: npt.NDArray[Any] | Tensor,
    *,
    num_clusters: int = 8,
    method: str = "windowed",
    seed: int = 0,
) -> FrameClusters:
    """Cluster a sequence of feature vectors or maps in time, and average each cluster: the method alone.

    Args:
        activations: (T, D) vectors or (T, C, H, W) maps of T frames, numbers.
        num_clusters: K. A sequence of fewer frames has a cluster for each frame.
        method: The name of a clustering: `windowed`, `variance`, `cumulative`, `slope`, `even` or `random`.
            `windowed` and `variance` compare values; `cumulative` and `slope` compare which activations are
            positive (the paper's patterns), so they suit the output of a ReLU.
        seed: Of `random`.

    Returns:
        Boundaries and means. A tensor gives a tensor, through which gradients flow.

    Raises:
        ConfigError: The shape or the method is unknown.
    """
    if method not in clustering_names():
        known = ", ".join(clustering_names())
        raise ConfigError(f"method {method!r:.40}", "is no clustering", fix=f"use one of: {known}")
    x = torch.as_tensor(activations)
    if x.ndim not in (2, 4) or len(x) == 0 or num_clusters < 1:
        raise ConfigError(
            f"activations {list(x.shape)}, num_clusters {num_clusters}",
            "must be (T, D) or (T, C, H, W) with at least one frame, and at least one cluster",
            fix="reshape the activations",
        )
    starts = _starts(x.detach(), num_clusters, method, seed)
    boundaries = np.append(starts, len(x))
    means = torch.stack([part.mean(dim=0) for part in torch.split(x, np.diff(boundaries).tolist())])
    return FrameClusters(boundaries, means if isinstance(activations, Tensor) else means.numpy())


def _starts(x: Tensor, num_clusters: int, method: str, seed: int) -> npt.NDArray[np.int64]:
    """Return the first frame of each cluster of the partition."""
    if len(x) <= num_clusters:
        return np.arange(len(x))
    maps = x if x.ndim == 4 else x[:, :, None, None]
    measured = Measured(distances=True, descriptors=True)
    for part in torch.split(maps, _CHUNK):
        measured.add(0, part)
    found = cluster(
        method,
        measured.needed_by(method, device=x.device),
        torch.tensor([len(x)], device=x.device),
        num_clusters=num_clusters,
        cut_keys=[seed],
    )
    return np.asarray(found.starts[0].cpu().numpy())
