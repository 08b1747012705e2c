"""How much an extraction may write: ``--max-gb``, and the free space of the disk."""

import shutil
from pathlib import Path

from fvar.errors import ConfigError, StoppedError

GB = 1e9
RERUN = "run the same command again: finished shards are kept"


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk of `folder`, or of its first parent that exists."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


class Budget:
    """Counts what the store holds, and stops before it is too much.

    Attributes:
        num_frames: Number of frames in the store.
        num_bytes: Size of their JPEG pictures.
    """

    def __init__(self, folder: Path, *, max_gb: float | None, reserve_gb: float) -> None:
        self._folder, self._max_gb, self._reserve_gb = folder, max_gb, reserve_gb
        self.num_frames = self.num_bytes = 0

    def check_estimate(self, num_bytes: int) -> None:
        """Make sure, before anything is written, that the store can grow by about `num_bytes`.

        Raises:
            ConfigError: Less than the reserve would stay free on the disk.
        """
        if lack := self._lack(num_bytes):
            raise ConfigError(
                f"--out {self._folder}",
                f"needs about {lack}",
                fix="free the disk, choose another --out, or lower --short-side or --reserve-gb",
            )

    def check_video(self, num_bytes: int) -> None:
        """Make sure that a video of `num_bytes` may be written and fits on the disk.

        Raises:
            StoppedError: The store would outgrow ``max_gb``, or less than the reserve would stay free.
        """
        self.check_total(num_bytes)
        if lack := self._lack(num_bytes):
            raise StoppedError(
                self._folder, f"the next video takes {lack}", fix=f"free the disk and {RERUN}"
            )

    def check_total(self, num_bytes: int) -> None:
        """Make sure that the store may grow by `num_bytes`.

        Raises:
            StoppedError: It would outgrow ``max_gb``.
        """
        total = self.num_bytes + num_bytes
        if self._max_gb is not None and total > self._max_gb * GB:
            raise StoppedError(
                self._folder,
                f"the frames would take {total / GB:.4g} GB, more than --max-gb {self._max_gb:g}",
                fix=f"raise --max-gb and {RERUN}",
            )

    def count(self, num_frames: int, num_bytes: int) -> None:
        """Count frames that are in the store now."""
        self.num_frames += num_frames
        self.num_bytes += num_bytes

    def _lack(self, num_bytes: int) -> str | None:
        """Return that `num_bytes` more do not fit on the disk; None if they do."""
        free = free_bytes(self._folder)
        if num_bytes + self._reserve_gb * GB <= free:
            return None
        return (
            f"{num_bytes / GB:.2g} GB, {free / GB:.2g} GB is free there, of which "
            f"--reserve-gb {self._reserve_gb:g} stays free"
        )
