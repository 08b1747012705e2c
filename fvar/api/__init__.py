"""What `import fvar` offers (docs/python.md): stages with keyword arguments, the method alone, readers."""

from fvar.api.method import cluster_frames
from fvar.api.readers import read_clusters, read_frames, read_predictions
from fvar.api.stages import evaluate, extract, features, inspect_clusters, load, resume, train

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
