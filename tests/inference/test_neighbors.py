"""The nearest training videos, by cosine of the mean features."""

import numpy as np
import pytest
import torch

from fvar.inference.neighbors import Neighbors, pooled
from fvar.loading.dataset import StoredVideo
from fvar.model.recognizer import Inference


def _inference(*features: tuple[float, float]) -> Inference:
    empty = np.zeros(0, np.int64)
    rows = torch.tensor(features)
    return Inference(torch.zeros(2), torch.zeros(len(rows), 2), rows, empty, empty, empty, 1)


VIDEOS = [StoredVideo(name, "s.h5", label, 3) for name, label in (("a", 0), ("b", 0), ("c", 1))]
NEIGHBORS = Neighbors(VIDEOS, torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 5.0]]))


def test_the_nearest_of_a_class() -> None:
    """By the angle, not the length; of the class that was asked for; with its cosine."""
    seen = _inference((0.0, 2.0), (4.0, 2.0))  # on average (2, 2)
    assert pooled(seen).tolist() == [2.0, 2.0]
    found = NEIGHBORS.nearest("x", seen, 0)
    assert found is not None
    assert (found.video.id, found.similarity) == ("b", pytest.approx(1.0))
    other = NEIGHBORS.nearest("x", seen, 1)
    assert other is not None
    assert (other.video.id, other.similarity) == ("c", pytest.approx(0.5**0.5))


def test_a_video_is_not_its_own_neighbor() -> None:
    """It may be in the training itself; a class without another video has no neighbor."""
    seen = _inference((1.0, 1.0))
    found = NEIGHBORS.nearest("b", seen, 0)
    assert found is not None
    assert found.video.id == "a"
    assert NEIGHBORS.nearest("c", seen, 1) is None
