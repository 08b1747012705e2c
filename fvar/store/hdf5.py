"""HDF5 files: written whole or not at all, and read without trusting what they claim."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from fvar.errors import InputError
from fvar.store.files import atomic_path

_DAMAGE = (OSError, RuntimeError, ValueError, KeyError, TypeError)  # what h5py raises on it
_METADATA_BYTES = 128 << 10  # HDF5 adds about 2 KB per group, and now and then a heap of 64 KB
_EOF_ADDRESS = slice(28, 36)  # of the superblock, versions 2 and 3: the length of the file

_Value = TypeVar("_Value", int, float, str)


@contextmanager
def atomic_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for writing; it appears at `path` when the block ends without an error.

    Raises:
        StoppedError: The disk is full or the folder is not writable; `path` is as it was before.
    """
    with atomic_path(path) as temporary:
        # From 1.10 on, HDF5 keeps a checksum of all metadata: damage is an error, not a crash.
        # Without a lock, which some network disks refuse: nobody else knows the file's name.
        file = h5py.File(temporary, "w", libver=("v110", "v110"), locking=False)
        try:
            yield file
        finally:
            _close(file)
        with temporary.open("r+b") as closed:  # give back what was claimed and not used
            closed.truncate(int.from_bytes(closed.read(_EOF_ADDRESS.stop)[_EOF_ADDRESS], "little"))


def new_group(parent: h5py.Group, name: str, *, num_bytes: int) -> h5py.Group:
    """Create the group `name`, once the disk has set room aside for it and its `num_bytes` of data.

    HDF5 does not survive a disk that is full when it closes a file: the process crashes (1.14, 2.0).

    Raises:
        OSError: The disk is full.
    """
    file = parent.file
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with Path(file.filename).open("r+b") as claimed:
            end = file.id.get_filesize()
            os.posix_fallocate(claimed.fileno(), end, num_bytes + _METADATA_BYTES)
    return parent.create_group(name)


def _close(file: h5py.File) -> None:
    """Close a written file; raise OSError where HDF5 raises RuntimeError because the disk failed."""
    try:
        file.close()
    except RuntimeError as error:
        found = re.search(r"errno = (\d+)", str(error))
        code = int(found[1]) if found else errno.EIO
        raise OSError(code, os.strerror(code)) from error


@dataclass(frozen=True)
class Hdf5Format:
    """A format of HDF5 files, and the error that refuses a file which is not of it.

    Attributes:
        name: Attribute `format` of the file.
        version: Attribute `version`.
        error: Class of the error.
        fix: What the user does about a damaged file.
        text: Kind of numpy's dtype that its strings have: S (fixed length) or O (variable length).
    """

    name: str
    version: int
    error: type[InputError]
    fix: str
    text: Literal["S", "O"] = "S"

    def open(self, path: Path) -> h5py.File:
        """Open a file for reading, without a lock: it never changes, and network disks may refuse a lock.

        Raises:
            InputError: Of class `error`: it is no HDF5 file, or of another format or version.
        """
        with self.refusing(path):
            file = h5py.File(path, "r", locking=False)
        try:
            self._check_format(file, path)
        except BaseException:
            file.close()
            raise
        return file

    def _check_format(self, file: h5py.File, path: Path) -> None:
        with self.refusing(path):
            name = self.attribute(file, "format", str)
            version = self.attribute(file, "version", int)
        if (name, version) != (self.name, self.version):
            wanted = f"{self.name!r} version {self.version}"
            raise self.error(
                path,
                f"has format {name!r:.40} version {version}, must be {wanted}",
                fix="read it with the fvar that wrote it",
            )

    @contextmanager
    def refusing(self, thing: object) -> Iterator[None]:
        """Turn whatever the block raises about a damaged file into one error about `thing`.

        Raises:
            InputError: Of class `error`.
        """
        try:
            yield
        except InputError as error:
            raise self.error(thing, error.problem, fix=self.fix) from error
        except _DAMAGE as error:
            raise self.error(thing, f"cannot be read ({error})", fix=self.fix) from error

    def child(self, parent: h5py.Group, name: str, kind: type[Any]) -> Any:
        """Return a member of this very file; no link is followed, inside the file or out of it."""
        link = parent.get(name, getlink=True)
        if link is None:
            raise _problem(f"{name!r:.80} is missing")
        if not isinstance(link, h5py.HardLink):
            raise _problem(f"{name!r:.80} is a {type(link).__name__}, must be in the file itself")
        found = parent[name]
        if not isinstance(found, kind):
            raise _problem(f"{name!r:.80} is a {type(found).__name__}, must be a {kind.__name__}")
        return found

    def array(self, group: h5py.Group, name: str, dtype: str, *, ndim: int = 1) -> npt.NDArray[Any]:
        """Return a dataset of `ndim` axes, after a check that its bytes are all in the file, as they are."""
        dataset = self.child(group, name, h5py.Dataset)
        if dataset.dtype != np.dtype(dtype) or dataset.ndim != ndim:
            found = f"{dataset.dtype}{list(dataset.shape or ())}"
            raise _problem(f"{name} is {found}, must be {np.dtype(dtype)}[{', '.join(':' * ndim)}]")
        if dataset.chunks or dataset.is_virtual or dataset.external:
            raise _problem(f"{name} is chunked, virtual or external, must be contiguous")
        stored, start = dataset.id.get_storage_size(), dataset.id.get_offset() or 0
        if stored != dataset.nbytes or start + stored > group.file.id.get_filesize():
            raise _problem(f"{name} claims {dataset.nbytes} bytes, more than the file holds")
        values = np.empty(dataset.shape, dtype=dataset.dtype)
        if values.size:
            dataset.read_direct(values)
        return values

    def attribute(self, owner: h5py.Group, name: str, kind: type[_Value]) -> _Value:
        """Return an attribute that is one number or one string."""
        if name not in owner.attrs:
            raise _problem(f"attribute {name} is missing")
        stored = owner.attrs.get_id(name)
        kinds = {int: "iu", float: "f", str: self.text}[kind]  # of numpy
        is_text = h5py.check_string_dtype(stored.dtype) is not None  # O may be a reference too
        if stored.shape != () or stored.dtype.kind not in kinds or is_text != (kind is str):
            found = f"{stored.dtype}{list(stored.shape or ())}"
            raise _problem(f"attribute {name} is {found}, must be one {kind.__name__}")
        # `owner.attrs[name]` would open the attribute again, which takes as long as all the rest.
        value = np.zeros((), stored.dtype)
        stored.read(value)
        item: Any = value[()]
        return kind(item.decode() if isinstance(item, bytes) else item)


def _problem(text: str) -> InputError:
    """Return an error to which `Hdf5Format.refusing` adds the file and what to do."""
    return InputError("HDF5", text, fix="")
