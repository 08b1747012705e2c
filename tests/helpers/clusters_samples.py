"""Made-up videos with their clusters, for the tests of tables, pictures and pages."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fvar.store.clusters.video_clusters import VideoClusters

Picture = npt.NDArray[np.uint8]


def partition(num_frames: int, k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return starts and stops of min(k, T) clusters of nearly equal size."""
    number = min(k, num_frames)
    boundaries = np.arange(number + 1, dtype=np.int64) * num_frames // number
    return boundaries[:-1], boundaries[1:]


def sample_clusters(
    num_frames: int = 32, k: int = 8, *, seed: int = 0, still: bool = False, **changes: object
) -> VideoClusters:
    """Return clusters of a made-up video of 25 frames a second."""
    rng = np.random.default_rng(seed)
    starts, stops = partition(num_frames, k)
    steps = rng.integers(0, 1 if still else 300, num_frames - 1)
    fields: dict[str, object] = {
        "id": f"clip-{seed}",
        "label": "left",
        "predicted": "left" if seed % 2 == 0 else "right",
        "boundaries": np.append(starts, stops[-1]),
        "step_distances": steps,
        "num_bits": 1000,
        "pts_seconds": np.arange(num_frames) / 25,
        "fps": 25.0,
    }
    return VideoClusters(**{**fields, **changes})  # type: ignore[arg-type]  # a test changes any of them


def gray_pictures(height: int = 64, width: int = 64) -> Callable[[int], Picture]:
    """Return a function from t to the picture of frame t, all of gray level t modulo 256."""
    return lambda frame: np.full((height, width, 3), frame % 256, dtype=np.uint8)
