"""How much an extraction may write: ``--max-gb``, and the disk that the store lies on."""

import shutil
from pathlib import Path

from fvar.errors import ConfigError, StoppedError

GB = 1e9


def free_bytes(folder: Path) -> int:
    """Return the room on the disk of `folder`, or of what is above it and exists."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_room(folder: Path, num_bytes: int, *, reserve_gb: float) -> None:
    """Refuse to begin what will not fit.

    Args:
        folder: Of the store.
        num_bytes: That it will probably grow by.
        reserve_gb: To be left free.

    Raises:
        ConfigError: Too little is free.
    """
    free = free_bytes(folder)
    if num_bytes + reserve_gb * GB > free:
        raise ConfigError(
            f"--out {folder}",
            f"needs about {num_bytes / GB:.2g} GB, {free / GB:.2g} GB is free there, of which "
            f"--reserve-gb {reserve_gb:g} stays free",
            fix="free the disk, choose another --out, or lower --short-side or --reserve-gb",
        )


class Budget:
    """Counts what the store holds, and stops before it is too much.

    Attributes:
        num_frames: In the store.
        num_bytes: Of their JPEG pictures.
        spent: Whether more was asked for than ``max_gb`` allows.
    """

    def __init__(self, folder: Path, *, max_gb: float | None, reserve_gb: float) -> None:
        self._folder, self._max_gb, self._reserve_gb = folder, max_gb, reserve_gb
        self.num_frames = self.num_bytes = 0
        self.spent = False

    def count(self, num_frames: int, num_bytes: int) -> None:
        """Count frames that are to be in the store.

        Raises:
            StoppedError: With them it would outgrow ``max_gb``.
        """
        self._check_total(self.num_bytes + num_bytes)
        self.keep(num_frames, num_bytes)

    def _check_total(self, num_bytes: int) -> None:
        if self._max_gb is not None and num_bytes > self._max_gb * GB:
            self.spent = True
            raise StoppedError(
                self._folder,
                f"the frames would take {num_bytes / GB:.4g} GB, more than --max-gb {self._max_gb:g}",
                fix="raise --max-gb and run the same command again: finished shards are kept",
            )

    def keep(self, num_frames: int, num_bytes: int) -> None:
        """Count frames that are in the store already."""
        self.num_frames += num_frames
        self.num_bytes += num_bytes

    def check_video(self, num_bytes: int) -> None:
        """Make sure that a video of `num_bytes` may be written and can be.

        Raises:
            StoppedError: With it the store would outgrow ``max_gb``, or less than the reserve would be left.
        """
        self._check_total(self.num_bytes + num_bytes)
        free = free_bytes(self._folder)
        if num_bytes + self._reserve_gb * GB > free:
            raise StoppedError(
                self._folder,
                f"the next video takes {num_bytes / GB:.2g} GB, {free / GB:.2g} GB is free there, of "
                f"which --reserve-gb {self._reserve_gb:g} stays free",
                fix="free the disk and run the same command again: finished shards are kept",
            )

    def note(self) -> str:
        """Return what there is so far."""
        return f"{self.num_frames} frames, {self.num_bytes / GB:.2f} GB"
