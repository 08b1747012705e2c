"""Full-video action recognition: every frame of a video, clustered in time by what the classifier sees.

The method is in ``fvar.model``. A network is cut after a residual stage. Its first part, the stem, sees every
frame. Consecutive frames that look similar to the stem become one cluster. The second part, the trunk, sees
the mean of each cluster. ``fvar.model.clustering`` has the mathematics, ``fvar.model.engine`` computes it in
constant memory.

Four stages in ``fvar.stages`` apply it, each of which reads the manifest that the one before wrote:

1. ``extract``: a source CSV and its videos -> every frame as JPEG in HDF5 shards.
2. ``train``: the frames -> a trained network, as checkpoints.
3. ``evaluate``: the network and other videos -> predictions and accuracy.
4. ``inspect_clusters``: the network and videos -> which frames were averaged, as tables, pictures and a page.

A stage is a function ``stage(manifest, out_dir, config, reporter) -> manifest``. Stages share only files.
``fvar.sources`` makes source CSVs, and ``fvar.stages.verify`` checks a folder that any stage wrote.

The names below are for notebooks and scripts (docs/python.md). They are imported when they are used, because
torch takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fvar.api import (
        cluster_frames,
        evaluate,
        extract,
        features,
        inspect_clusters,
        load,
        read_clusters,
        read_frames,
        read_predictions,
        resume,
        train,
    )

__version__ = "0.1.0"
__all__ = [
    "cluster_frames",
    "evaluate",
    "extract",
    "features",
    "inspect_clusters",
    "load",
    "read_clusters",
    "read_frames",
    "read_predictions",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import one of the names above when it is used."""
    if name in __all__:
        return getattr(import_module("fvar.api"), name)
    raise AttributeError(f"module 'fvar' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
