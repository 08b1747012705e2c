"""What a network computes before its classifier, in an HDF5 file (data_manifests/README.md specifies it).

Letters: R representations of a video, F features.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from fvar.errors import ManifestError
from fvar.extraction.decode import Decoded
from fvar.inference.prediction import Prediction
from fvar.store.hdf5 import Hdf5Format, atomic_hdf5, new_group

_FORMAT = Hdf5Format("fvar.features", 1, ManifestError, fix="rerun `fvar features`", text="O")


class FeaturesWriter:
    """Writes one group per video, in order."""

    def __init__(self, file: h5py.File) -> None:
        self._file, self._parent, self._number = file, file.create_group("videos"), 0

    def add(self, path: Path, decoded: Decoded, found: Prediction | None) -> None:
        """Write a video; without a prediction, its status and the reason alone.

        Args:
            path: Of the video.
            decoded: How decoding ended.
            found: Its features.
        """
        arrays = {} if found is None else _arrays(found)
        num_bytes = sum(array.nbytes for array in arrays.values())
        group = new_group(self._parent, f"{self._number:08d}", num_bytes=num_bytes)
        self._number += 1
        self._file.attrs["num_videos"] = self._number
        texts: dict[str, str | None] = {"path": str(path), "status": decoded.status}
        texts |= {"reason": decoded.reason, "note": decoded.note}
        for name, text in texts.items():
            if text is not None:
                group.attrs[name] = text
        for name, array in arrays.items():
            group.create_dataset(name, data=array)


def _arrays(found: Prediction) -> dict[str, np.ndarray]:
    """Return the datasets of a video."""
    parts = found.segments
    frames = [[part.start_frame, part.stop_frame] for part in parts]
    seconds = [[part.start_seconds, part.stop_seconds] for part in parts]
    return {
        "features": found.features.astype("<f4"),
        "pooled": found.pooled_features.astype("<f4"),
        "frames": np.array(frames, "<i8"),
        "seconds": np.array(seconds, "<f8"),
    }


@contextmanager
def open_features(path: Path, *, backbone: str, checkpoint_sha256: str) -> Iterator[FeaturesWriter]:
    """Open a file that appears at `path` when the block ends without an error.

    Args:
        path: The file.
        backbone: Name of the network.
        checkpoint_sha256: Of the checkpoint whose weights it has.

    Raises:
        StoppedError: The disk is full; `path` is as it was before.
    """
    with atomic_hdf5(path) as file:
        file.attrs["format"], file.attrs["version"] = _FORMAT.name, _FORMAT.version
        file.attrs["backbone"], file.attrs["checkpoint_sha256"] = backbone, checkpoint_sha256
        file.attrs["num_videos"] = 0
        yield FeaturesWriter(file)
