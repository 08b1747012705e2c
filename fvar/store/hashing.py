"""SHA-256 of files, remembered for large files that have not changed since."""

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from fvar.errors import ManifestError

_BLOCK_BYTES = 1 << 20
_REMEMBER_FROM_BYTES = 32 << 20  # a smaller file is hashed in less time than is worth saving
_SETTLED_SECONDS = 2.0  # a file younger than this may change again within one clock tick


def sha256_of(
    path: Path, *, read_again: bool = False, beat: Callable[[], None] = lambda: None
) -> str:
    """Return the SHA-256 of a file's content as 64 hex digits.

    The hash of a large file is remembered in the user's cache folder under its device, inode, size and
    times, so that a terabyte is not read again for nothing. Both the change and the modification time
    count, and a file that changed within the last two seconds is not remembered.

    Args:
        path: The file.
        read_again: Read the file even if its hash is remembered.
        beat: Called after every MB; it may raise to end the reading, which can take minutes.

    Raises:
        ManifestError: The file cannot be read.
    """
    try:
        if read_again or path.stat().st_size < _REMEMBER_FROM_BYTES:
            return _read_sha256(path, beat)
        return _remembered_sha256(path, beat)
    except OSError as error:
        raise ManifestError(
            path,
            f"cannot be read ({error.strerror or error})",
            fix="restore it or rerun the stage that wrote it",
        ) from error


def _read_sha256(path: Path, beat: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            beat()
    return digest.hexdigest()


def _remembered_sha256(path: Path, beat: Callable[[], None]) -> str:
    status = path.stat()
    fields = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    key = ":".join(str(getattr(status, field)) for field in fields)
    digest = _ask_cache("SELECT sha256 FROM hashes WHERE key = ?", key)
    if digest is None:
        digest = _read_sha256(path, beat)
        if time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED_SECONDS:
            _ask_cache("INSERT OR REPLACE INTO hashes VALUES (?, ?)", key, digest)
    return digest


def _ask_cache(statement: str, *values: str) -> str | None:
    """Run one statement on the remembered hashes; return its first value, or None if it has none.

    Without a working cache (read-only, locked, damaged) hashing takes longer, and nothing breaks.
    """
    # pathlib raises RuntimeError where the user has no home folder.
    with contextlib.suppress(OSError, RuntimeError, sqlite3.Error):
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fvar"
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(folder / "hashes.sqlite", timeout=30)
        with contextlib.closing(connection), connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS hashes (key TEXT PRIMARY KEY, sha256 TEXT)"
            )
            row = connection.execute(statement, values).fetchone()
            return None if row is None else str(row[0])
    return None
