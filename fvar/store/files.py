"""Files that are whole or absent: atomic writes, content hashes, output folders that lose nothing."""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from fvar.errors import ManifestError, StoppedError

MANIFEST_NAME = "manifest.json"
REPLACE = "choose another --out or pass --overwrite to replace it"

NEVER = 1 << 63  # no file is as large: `sha256_of(path, remember_from_bytes=NEVER)` reads anew

_BLOCK_BYTES = 1 << 20
_REMEMBER_FROM_BYTES = 32 << 20  # below, hashing again costs less than it could ever save
_SETTLED_SECONDS = 2.0  # a file younger than this may change again within one clock tick
_MENDS = {
    errno.ENOSPC: "free the disk",
    errno.EDQUOT: "free the disk",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) or take another disk",
}


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it into place.

    Raises:
        StoppedError: The disk is full or the folder cannot be written; `path` is as it was before.
    """
    # Drawn, because processes on several machines that write into one folder may share a number.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoppedError(
            path,
            f"cannot be written ({error.strerror or error})",
            fix=f"{mend(error)} and run again",
        ) from error
    finally:
        with contextlib.suppress(OSError):  # what went wrong above may forbid this too
            temporary.unlink()


def mend(error: OSError) -> str:
    """Return what the user does about a file that could not be written."""
    return _MENDS.get(error.errno or 0, "make its folder writable")


@contextlib.contextmanager
def atomic_open(path: Path, *, newline: str | None = None) -> Iterator[IO[str]]:
    r"""Open `path` for writing text (UTF-8) that appears only once it is complete.

    A byte 0xff of a file name that is not UTF-8 is written as ``\udcff``, which JSON reads back as it was.
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


def sha256_of(
    path: Path,
    *,
    remember_from_bytes: int = _REMEMBER_FROM_BYTES,
    beat: Callable[[], None] = lambda: None,
) -> str:
    """Return the SHA-256 of a file's content as 64 hex digits.

    A large file's hash is remembered by its device, inode, size and times in the user's cache folder, so
    that a terabyte is not read again for nothing. Change and modification time both count, and a file that
    changed within the last two seconds is not remembered.

    Args:
        path: Of the file.
        remember_from_bytes: Size from which on the hash is remembered.
        beat: Called at every MB; raises to end the reading, which may take minutes.

    Raises:
        ManifestError: The file cannot be read.
    """
    try:
        if path.stat().st_size < remember_from_bytes:
            return _read_sha256(path, beat)
        return _remembered_sha256(path, beat)
    except OSError as error:
        raise ManifestError(
            path,
            f"cannot be read ({error.strerror or error})",
            fix="restore it or rerun the stage that wrote it",
        ) from error


def _remembered_sha256(path: Path, beat: Callable[[], None]) -> str:
    status = path.stat()
    identity = (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
    key = ":".join(map(str, identity))
    with _hash_cache() as cache:
        digest = cache.get(key)
        if digest is None:
            digest = _read_sha256(path, beat)
            if time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED_SECONDS:
                cache.put(key, digest)
    return digest


def _read_sha256(path: Path, beat: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            beat()
    return digest.hexdigest()


class _HashCache:
    """Hashes by identity; without a writable cache nothing is remembered, and nothing breaks."""

    def __init__(self, connection: sqlite3.Connection | None) -> None:
        self._connection = connection

    def get(self, key: str) -> str | None:
        if self._connection is None:
            return None
        query = "SELECT sha256 FROM hashes WHERE key = ?"
        try:
            row = self._connection.execute(query, (key,)).fetchone()
        except sqlite3.Error:
            return None
        return None if row is None else str(row[0])

    def put(self, key: str, digest: str) -> None:
        if self._connection is not None:
            # A cache that is read-only or locked costs time, never a result.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute(
                    "INSERT OR REPLACE INTO hashes VALUES (?, ?)", (key, digest)
                )
                self._connection.commit()


@contextlib.contextmanager
def _hash_cache() -> Iterator[_HashCache]:
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fvar"
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(folder / "hashes.sqlite", timeout=30)
        connection.execute("CREATE TABLE IF NOT EXISTS hashes (key TEXT PRIMARY KEY, sha256 TEXT)")
    except (OSError, RuntimeError, sqlite3.Error):  # RuntimeError: nobody's home is known
        yield _HashCache(None)
        return
    with contextlib.closing(connection):
        yield _HashCache(connection)


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make `folder`, and keep every other process of this machine that asks for the same out of it meanwhile.

    The lock ends with the process, however that ends, and leaves no file. A network file system may have no
    locks of folders; nobody is kept out there.

    Raises:
        ManifestError: Another process is at work in it.
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
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ManifestError(
                folder,
                "another fvar is at work in it",
                fix="wait until that ends, or choose another --out",
            ) from error
        except OSError:  # no locks here: as without one
            pass
        yield
    finally:
        os.close(descriptor)


def is_complete(folder: Path) -> bool:
    """Tell whether `folder` holds a finished run: its manifest is written last."""
    return (folder / MANIFEST_NAME).is_file()


def check_out_dir(folder: Path, *, overwrite: bool, fix: str = REPLACE) -> None:
    """Refuse an output folder that holds a complete run, with the advice `fix`. Writes nothing.

    Raises:
        ManifestError: `folder` or what is above it is a file, or it holds a complete run and `overwrite`
            is off.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ManifestError(
            there, "is a file, an output must be a folder", fix="choose another --out"
        )
    if is_complete(folder) and not overwrite:
        raise ManifestError(
            folder,
            "holds a complete run",
            fix=fix,
        )


def remove_outputs(folder: Path, names: list[str]) -> None:
    """Delete the named files and folders inside `folder`, its manifest first, and what was left of them."""
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
