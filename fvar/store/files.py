"""Atomic writes, and output folders that lose nothing."""

import contextlib
import errno
import fcntl
import glob
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fvar.errors import ManifestError, StoppedError

MANIFEST_NAME = "manifest.json"
CACHE_NAME = "fvar-cache"  # beside a training: what its frozen stem made of videos
_LEFT_SECONDS = 3600  # a file that is written takes less
REPLACE = "choose another --out or pass --overwrite to replace it"

_WRITE_FIXES = {
    errno.ENOSPC: "free the disk",
    errno.EDQUOT: "free the disk",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) or use another disk",
}


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it to `path`.

    Raises:
        StoppedError: The disk is full or the folder is not writable; `path` is as it was before.
    """
    # The name is random: processes on several machines that write into one folder may share a process id.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        # HDF5's own text is many lines long.
        reason = os.strerror(error.errno) if error.errno else error
        fix = _WRITE_FIXES.get(error.errno or 0, "make its folder writable")
        raise StoppedError(
            path, f"cannot be written ({reason})", fix=f"{fix} and run again"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # what went wrong above may forbid this too
            temporary.unlink()


@contextlib.contextmanager
def atomic_open(path: Path, *, newline: str | None = None) -> Iterator[IO[str]]:
    r"""Open `path` for writing UTF-8 text; the file appears only once it is complete.

    A byte 0xff of a file name that is not UTF-8 is written as ``\udcff``, which JSON reads back unchanged.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline=newline) as file,
    ):
        yield file


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically; infinities and nan are refused."""
    with atomic_open(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make `folder`, and refuse any other process of this machine that asks for it while the block runs.

    The lock ends with the process, however that ends, and leaves no file. Some network file systems cannot
    lock a folder; there, no process is refused.

    Raises:
        ManifestError: Another process works in the folder.
        StoppedError: The folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StoppedError(
            folder,
            f"cannot be made or read ({error.strerror or error})",
            fix="make its parent writable or choose another --out",
        ) from error
    try:
        # Any other OSError means that the file system has no locks.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ManifestError(
                    folder,
                    "another fvar is at work in it",
                    fix="wait until that ends, or choose another --out",
                ) from error
        yield
    finally:
        os.close(descriptor)


def slug(name: str) -> str:
    """Return a safe part of a file name made of any name, not empty."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:60] or "video"


def cache_folder(train_dir: Path) -> Path:
    """Return the folder of the cache that a training uses, and every other training beside it."""
    return train_dir.resolve().parent / CACHE_NAME


def size_of(folder: Path) -> int:
    """Return the bytes of all files in `folder`; 0 if it does not exist. It may be deleted meanwhile."""
    num_bytes = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                num_bytes += Path(place, name).stat().st_size
    return num_bytes


def remove_old_leftovers(folder: Path) -> None:
    """Delete what killed writers left in the folders of `folder` an hour ago or earlier."""
    for temporary in folder.glob("*/.*.partial"):
        with contextlib.suppress(OSError):
            if temporary.stat().st_mtime < time.time() - _LEFT_SECONDS:
                temporary.unlink()


def run_folder(path: Path) -> Path:
    """Return the folder of a run, given it or its manifest."""
    return path.parent if path.name == MANIFEST_NAME else path


def beside(run: Path, name: str) -> Path:
    """Return the folder `name` beside a run, given its folder or manifest: where `fvar train` writes."""
    folder = run_folder(run)
    parent = folder.resolve().parent if folder.name in ("", "..") else folder.parent
    return parent / name


def inside(run: Path, name: str) -> Path:
    """Return the folder `name` inside a run: where what is made from a training alone goes."""
    return run_folder(run) / name


def frames_folder(source: Path) -> Path:
    """Return where the frames of a source CSV go."""
    return Path("runs") / source.name.removesuffix(".gz").removesuffix(".csv") / "frames"


def is_complete(folder: Path) -> bool:
    """Return whether `folder` holds a complete run: its manifest is written last."""
    return (folder / MANIFEST_NAME).is_file()


def check_out_dir(folder: Path, *, overwrite: bool, fix: str = REPLACE) -> None:
    """Refuse an output folder that holds a complete run, with the advice `fix`. Writes nothing.

    Raises:
        ManifestError: `folder` or a folder above it is a file or cannot be written, or it holds a complete
            run and `overwrite` is off.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ManifestError(
            there, "is a file, an output must be a folder", fix="choose another --out"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise ManifestError(
            there, "cannot be written", fix="make it writable, or choose another --out"
        )
    if is_complete(folder) and not overwrite:
        raise ManifestError(folder, "holds a complete run", fix=fix)


def remove_outputs(folder: Path, names: list[str]) -> None:
    """Delete the named files and folders inside `folder`, its manifest first, and their leftovers."""
    for name in [MANIFEST_NAME, *names]:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    remove_leftovers(folder, [MANIFEST_NAME, *names])


def remove_leftovers(folder: Path, names: list[str]) -> None:
    """Delete the temporary files of runs that were killed while they wrote the named files of `folder`."""
    for name in names:
        path = folder / name
        for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
            temporary.unlink(missing_ok=True)
