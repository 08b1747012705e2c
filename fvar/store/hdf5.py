"""An HDF5 file that appears only when it is whole."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from fvar.store.files import atomic_path

_METADATA_BYTES = 64 << 10  # for what HDF5 writes about one group; about 2 KB a video were seen
_SYNC_BYTES = 32 << 20
_EOF_ADDRESS = slice(28, 36)  # in the superblock of version 2 and 3: how long the file is


@contextmanager
def atomic_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for writing that takes its place at `path` when the block ends without error.

    Raises:
        StoppedError: The disk is full or the folder cannot be written; `path` is as it was before.
    """
    with atomic_path(path) as temporary:
        temporary.touch()
        _claim(temporary, 0)
        with _closing(temporary) as file:
            claim(file, 0)
            yield file
        _give_back(temporary)


def claim(file: h5py.File, num_bytes: int) -> None:
    """Claim room on the disk for a group of `num_bytes`, before HDF5 needs it.

    HDF5 does not survive a disk that it finds full when it closes a file: the process dies (1.14). Now and
    then what is there is brought to the disk, while others still decode, so that little is left to wait for
    at the end.

    Raises:
        OSError: The disk is full.
    """
    path, before = Path(file.filename), file.id.get_filesize()
    after = before + num_bytes
    _claim(path, after)
    if before // _SYNC_BYTES != after // _SYNC_BYTES:
        with path.open("rb") as written:
            os.fsync(written.fileno())


def _claim(path: Path, num_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, num_bytes + _METADATA_BYTES)


def _give_back(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(int.from_bytes(file.read(_EOF_ADDRESS.stop)[_EOF_ADDRESS], "little"))


@contextmanager
def _closing(path: Path) -> Iterator[h5py.File]:
    """Open `path` for writing; what HDF5 raises when the disk is full while closing becomes OSError."""
    # From 1.10 on, HDF5 keeps a checksum of every piece of metadata: damage is an error, not a crash.
    file = h5py.File(path, "w", libver=("v110", "v110"))
    try:
        yield file
    finally:
        try:
            file.close()
        except RuntimeError as error:
            found = re.search(r"errno = (\d+)", str(error))
            code = int(found[1]) if found else errno.EIO
            raise OSError(code, os.strerror(code)) from error
