"""Representations of videos on disk, so that a stem that never changes sees each view of a video once.

An entry is found by a hash of everything that made it, so a stale entry is never found. Each entry is a file
of its own, checked by its hash when it is read: a damaged one counts as missing. Nothing depends on the
folder: deleting it costs time alone.

Letters: K clusters, T frames, C H W.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fvar.errors import StoppedError
from fvar.loading.transforms import Framing
from fvar.model.clustering import Clusters
from fvar.model.interface import Representations
from fvar.store.files import atomic_path, remove_old_leftovers, size_of

_HASH_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Maker:
    """What turns the pictures of a video into its representations.

    Attributes:
        sha256: A hash of the stem's weights, of all settings and of the code.
        is_random: Whether the clusters depend on the clip's `cut_key`.
        with_steps: Whether step distances are needed; an entry without them counts as missing.
    """

    sha256: str
    is_random: bool
    with_steps: bool


class RepresentationCache:
    """Representations of single videos by key. Processes may share a folder: each file appears whole.

    Attributes:
        folder: Of the entries.
        num_written: How many entries this object wrote.
        is_closed: Whether nothing is written any more.
    """

    def __init__(
        self,
        folder: Path,
        maker: Maker,
        *,
        max_bytes: int,
        num_writers: int,
        device: torch.device,
        warn: Callable[[str], None],
    ) -> None:
        """Open a cache; the folder appears with the first entry.

        Args:
            folder: Of the entries.
            maker: What turns pictures into representations.
            max_bytes: The size up to which entries are written, those that are there included. In any case
                half of what is free on the disk now stays free.
            num_writers: How many processes write; each takes its part of the room.
            device: Where representations go.
            warn: Gets a sentence when entries can no longer be written.
        """
        self.folder, self._maker, self._device, self._warn = folder, maker, device, warn
        self.num_written, self._written_bytes = 0, 0
        self._room = (max_bytes - size_of(folder)) // num_writers
        self._least_free = _free_bytes(folder) // 2
        self._failed, self.is_closed = False, False
        remove_old_leftovers(folder)

    @property
    def is_random(self) -> bool:
        """Whether the clusters depend on the clip's `cut_key`."""
        return self._maker.is_random

    def key(self, checksum: str, framing: Framing, cut_key: int) -> str:
        """Return what finds the representations of a video.

        Args:
            checksum: SHA-256 of its frames.
            framing: Of its pictures.
            cut_key: Of the clip; it counts where the clustering is random.
        """
        made_from = [self._maker.sha256, checksum, *astuple(framing)]
        if self._maker.is_random:
            made_from.append(cut_key)
        return hashlib.sha256(repr(made_from).encode()).hexdigest()

    def read(self, key: str) -> Representations | None:
        """Return an entry; None if there is none, it is damaged or lacks step distances that are needed."""
        try:
            with self._path(key).open("rb") as file:
                digest, content = file.read(_HASH_BYTES), file.read()
            tensors = load(content) if hashlib.sha256(content).digest() == digest else None
        except (OSError, SafetensorError):
            return None
        if tensors is None or (self._maker.with_steps and "steps" not in tensors):
            return None
        return _representations({name: x.to(self._device) for name, x in tensors.items()})

    def __contains__(self, key: str) -> bool:
        return os.path.isfile(self._path(key))  # noqa: PTH113  # Path.is_file raises without permission

    def write(self, key: str, seen: Representations) -> None:
        """Keep the representations of one video. Without room for them nothing happens; that is said once."""
        if self.is_closed:
            return
        content = save(_tensors(seen))
        num_bytes = _HASH_BYTES + len(content)
        if num_bytes > self._room:
            self._close("is as large as --cache-gb allows (delete it, or allow more)")
            return
        if _free_bytes(self.folder) - num_bytes < self._least_free:
            self._close("has taken half of what was free on the disk (free the disk)")
            return
        try:
            with atomic_path(self._path(key)) as temporary:
                temporary.write_bytes(hashlib.sha256(content).digest() + content)
        except StoppedError as error:
            if self._failed:  # once may be someone who deletes the folder
                self._close(f"cannot be written ({getattr(error.__cause__, 'strerror', None)})")
            self._failed = True
            return
        self._failed = False
        self._room -= num_bytes
        self.num_written += 1
        self._written_bytes += num_bytes

    def __str__(self) -> str:
        megabytes = (
            f" of {self._written_bytes / self.num_written / 1e6:.1f} MB" if self.num_written else ""
        )
        return f"{self.folder}: {self.num_written} representations{megabytes} were added"

    def _close(self, problem: str) -> None:
        self.is_closed = True
        self._warn(f"{self.folder} {problem}: what it lacks is computed again each time")

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.representations"


def _free_bytes(folder: Path) -> int:
    """Return what is free on the disk of a folder, which need not exist."""
    for path in (folder, *folder.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(path).free
    return 0


def _tensors(seen: Representations) -> dict[str, Tensor]:
    """Return what an entry holds. Channels come last, as in memory: convolutions then give the same bits."""
    clusters = seen.clusters
    if clusters is None:
        raise ValueError("representations without clusters cannot be kept")
    tensors = {
        "activations": seen.activations.permute(0, 2, 3, 1),  # (K, H, W, C)
        "starts": clusters.starts,  # (1, K)
        "stops": clusters.stops,
        "num_bits": torch.tensor(seen.num_bits),
    }
    if seen.steps is not None:
        tensors["steps"] = seen.steps  # (T,)
    return {name: x.contiguous().cpu() for name, x in tensors.items()}


def _representations(tensors: dict[str, Tensor]) -> Representations:
    activations = tensors["activations"].permute(0, 3, 1, 2)
    return Representations(
        activations,
        (len(activations),),
        Clusters(tensors["starts"], tensors["stops"]),
        tensors.get("steps"),
        int(tensors["num_bits"]),
    )
