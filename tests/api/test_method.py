"""``fvar.cluster_frames``: the engine's clustering, on arrays of anyone."""

import numpy as np
import pytest
import torch

import fvar
from fvar.errors import ConfigError
from fvar.model.clustering import cluster, sign_pattern, step_distances
from fvar.names import clustering_names


def _draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("method", clustering_names())
@pytest.mark.parametrize("shape", [(150, 6), (150, 6, 5, 4)])
def test_every_frame_is_in_one_mean(method: str, shape: tuple[int, ...]) -> None:
    """The means, weighted by the sizes, add up to the sum over all frames; the clusters are a partition."""
    x = _draw(*shape)
    found = fvar.cluster_frames(x, num_clusters=7, method=method)
    sizes = np.diff(found.boundaries)
    assert (found.boundaries[0], found.boundaries[-1], len(sizes)) == (0, 150, 7)
    assert (sizes > 0).all()
    weighted = (found.means * sizes.reshape(-1, *[1] * (x.ndim - 1))).sum(axis=0)
    np.testing.assert_allclose(weighted, x.sum(axis=0), atol=1e-3)
    assert found.means.dtype == np.float32


def test_the_boundaries_are_those_of_the_engine() -> None:
    """The distances of all frames at once give the cut that is found in chunks of 64."""
    maps = torch.from_numpy(_draw(130, 3, 4, 4))
    steps = torch.nn.functional.pad(step_distances(sign_pattern(maps)), (0, 1))
    expected = cluster("cumulative", steps, torch.tensor([130]), num_clusters=8)
    found = fvar.cluster_frames(maps, num_clusters=8, method="cumulative")
    assert found.boundaries.tolist() == [*expected.starts[0].tolist(), 130]


def test_gradients_flow_through_a_tensor() -> None:
    """The gradient of a mean is one over the size of the cluster, for each of its frames."""
    x = torch.from_numpy(_draw(20, 4)).requires_grad_()
    found = fvar.cluster_frames(x, num_clusters=4, method="even")
    found.means.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((20, 4), 1 / 5))


def test_fewer_frames_than_clusters() -> None:
    """Each frame is a cluster of its own."""
    x = _draw(3, 4)
    found = fvar.cluster_frames(x, num_clusters=8)
    assert found.boundaries.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(found.means, x)


@pytest.mark.parametrize(
    ("shape", "changes", "words"),
    [
        ((5,), {}, "must be (T, D) or (T, C, H, W)"),
        ((0, 4), {}, "at least one frame"),
        ((5, 4), {"num_clusters": 0}, "at least one cluster"),
        ((5, 4), {"method": "kmeans"}, "use one of: "),
    ],
)
def test_wrong_arguments(shape: tuple[int, ...], changes: dict[str, object], words: str) -> None:
    """Shapes and names are refused in one line."""
    with pytest.raises(ConfigError) as error:
        fvar.cluster_frames(_draw(*shape), **changes)  # type: ignore[arg-type]
    assert words in str(error.value)
