"""Hashes of files: always those of the bytes, whatever is remembered."""

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fvar.errors import ManifestError
from fvar.store import hashing
from fvar.store.hashing import sha256_of

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Remember files of any size and age in a folder of the test; return the database's path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(hashing, "_REMEMBER_FROM_BYTES", 0)
    monkeypatch.setattr(hashing, "_SETTLED_SECONDS", -1.0)
    return tmp_path / "cache" / "fvar" / "hashes.sqlite"


@pytest.fixture
def abc(tmp_path: Path) -> Path:
    """Return a file with the content `abc`."""
    (tmp_path / "x").write_bytes(b"abc")
    return tmp_path / "x"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that grows by every file whose bytes are read."""
    paths: list[Path] = []
    original = hashing._read_sha256

    def count(path: Path, beat: Callable[[], None]) -> str:
        paths.append(path)
        return original(path, beat)

    monkeypatch.setattr(hashing, "_read_sha256", count)
    return paths


def test_hash_is_remembered_while_the_file_is_the_same(
    abc: Path, cache: Path, read: list[Path]
) -> None:
    """A settled file is read once, and once more for a caller who does not believe the cache."""
    assert [sha256_of(abc) for _ in range(3)] == [ABC] * 3
    assert len(read) == 1
    assert cache.is_file()
    assert sha256_of(abc, read_again=True) == ABC
    assert len(read) == 2


@pytest.mark.parametrize(("smallest", "settled"), [(4, -1.0), (0, 2.0)])
@pytest.mark.usefixtures("cache")
def test_small_and_young_files_are_not_remembered(
    abc: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch, smallest: int, settled: float
) -> None:
    """A small file, and one that changed within the last two seconds, is read again each time."""
    monkeypatch.setattr(hashing, "_REMEMBER_FROM_BYTES", smallest)
    monkeypatch.setattr(hashing, "_SETTLED_SECONDS", settled)
    assert sha256_of(abc) == sha256_of(abc) == ABC
    assert len(read) == 2


@pytest.mark.usefixtures("cache")
def test_change_with_size_and_time_restored_is_noticed(abc: Path) -> None:
    """Setting the modification time back does not set the change time back."""
    before = abc.stat()
    assert sha256_of(abc) == ABC
    time.sleep(0.02)  # longer than one tick of the file system's clock
    with abc.open("r+b") as file:
        file.write(b"abd")
    os.utime(abc, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = abc.stat()
    for name in ("st_size", "st_mtime_ns", "st_ino"):
        assert getattr(after, name) == getattr(before, name)
    assert sha256_of(abc) == hashlib.sha256(b"abd").hexdigest()


@pytest.mark.usefixtures("cache")
def test_replaced_file_of_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    """Another file under the same name has another identity."""
    for content in (b"abc", b"xyz"):
        new = tmp_path / "new"
        new.write_bytes(content)
        os.utime(new, ns=(0, 0))
        new.replace(tmp_path / "x")
        assert sha256_of(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def _no_folder(cache: Path) -> None:
    cache.parents[1].write_text("in the way")


def _no_database(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"not a database" * 100)


def _refuses(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    connection = sqlite3.connect(cache)
    connection.execute(
        "CREATE TABLE hashes (key TEXT PRIMARY KEY, sha256 TEXT CHECK (sha256 = ''))"
    )
    connection.close()


@pytest.mark.parametrize("break_cache", [_no_folder, _no_database, _refuses])
def test_a_broken_cache_is_harmless(
    abc: Path, cache: Path, read: list[Path], break_cache: Callable[[Path], None]
) -> None:
    """A cache that cannot be made, read or written costs time only."""
    break_cache(cache)
    assert sha256_of(abc) == sha256_of(abc) == ABC
    assert len(read) == 2


@pytest.mark.usefixtures("cache")
def test_without_a_home_hashes_are_read(abc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder, as in some containers, loses nothing."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert sha256_of(abc) == ABC


@pytest.mark.parametrize("name", ["absent", "folder"])
def test_unreadable_file_is_named(tmp_path: Path, name: str) -> None:
    """A file that cannot be hashed is an error with its name."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(ManifestError) as error:
        sha256_of(tmp_path / name)
    assert error.value.thing == str(tmp_path / name)
