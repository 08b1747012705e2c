"""An HDF5 file that appears only when it is whole."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from fvar.files import atomic_path


@contextmanager
def atomic_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for writing that takes its place at `path` when the block ends without error.

    Raises:
        StoppedError: The disk is full or the folder cannot be written; `path` is as it was before.
    """
    with atomic_path(path) as temporary, _closing(temporary) as file:
        yield file


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
