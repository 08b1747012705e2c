"""The clusters that an inspection has found so far, so that one which was interrupted can go on."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fvar.errors import ManifestError
from fvar.store.clusters.clusters_file import read_clusters, write_clusters
from fvar.store.clusters.video_clusters import VideoClusters
from fvar.store.files import write_json

KEPT = "unfinished"  # folder, in that of the inspection


class KeptClusters:
    """One file for each video, with its clusters under every run, until the inspection is complete.

    Attributes:
        folder: Of the files; the caller may put others there.
    """

    def __init__(self, out_dir: Path, made_from: object) -> None:
        """Find what was kept in `out_dir`; see `matches`.

        Args:
            out_dir: Of the inspection.
            made_from: Everything that the clusters depend on, as JSON can hold it.
        """
        self.folder = out_dir / KEPT
        self._key = self.folder / "made_from.json"
        self._made_from = made_from

    @property
    def is_there(self) -> bool:
        """Whether an inspection, this or another one, kept something."""
        return self._key.is_file()

    def matches(self) -> bool:
        """Return whether something is kept and was made from the same."""
        try:
            kept = json.loads(self._key.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(kept == json.loads(json.dumps(self._made_from)))

    def has(self, number: int) -> bool:
        """Return whether the video `number` is kept, whole."""
        try:
            return bool(self.read(number))
        except ManifestError:
            return False

    def read(self, number: int) -> list[VideoClusters]:
        """Return the clusters of a video under every run.

        Raises:
            ManifestError: It is not kept, or damaged.
        """
        return list(read_clusters(self._file(number)))

    def write(self, number: int, runs: Sequence[VideoClusters]) -> None:
        """Keep the clusters of a video under every run.

        Raises:
            StoppedError: The disk is full.
        """
        if not self.is_there:
            write_json(self._key, self._made_from)
        write_clusters(self._file(number), runs)

    def remove(self) -> None:
        """Delete everything that is kept, and the folder if nothing else is in it."""
        for pattern in ("[0-9]" * 5 + "*.*", ".*.partial", self._key.name):
            for path in self.folder.glob(pattern):
                path.unlink()
        with suppress(OSError):  # others put something there
            self.folder.rmdir()

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:05d}.h5"
