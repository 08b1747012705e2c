"""Files: whole or absent, hashed truly, and output folders that lose nothing."""

import contextlib
import errno
import fcntl
import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fvar.errors import ManifestError, StoppedError
from fvar.store import files
from fvar.store.files import (
    atomic_open,
    atomic_path,
    check_out_dir,
    is_complete,
    remove_outputs,
    sole_writer,
    write_json,
)
from fvar.store.hashing import sha256_of


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file where hashes are remembered, away from the user's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fvar" / "hashes.sqlite"


def _hash(path: Path) -> str:
    return sha256_of(path, remember_from_bytes=0)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _hashes_read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that grows by every file whose bytes are read."""
    read: list[Path] = []
    original = files._read_sha256

    def count(path: Path, beat: Callable[[], None]) -> str:
        read.append(path)
        return original(path, beat)

    monkeypatch.setattr(files, "_read_sha256", count)
    return read


def test_atomic_path_writes(tmp_path: Path) -> None:
    """What was written is there, in a folder made for it, and nothing else."""
    with atomic_path(tmp_path / "a" / "b.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "a" / "b.txt").exists()
    assert (tmp_path / "a" / "b.txt").read_text() == "new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), ValueError("x")]
)
def test_failed_write_leaves_the_old_file(tmp_path: Path, failure: Exception) -> None:
    """When writing fails midway the old content stays and no temporary file is left."""
    target = tmp_path / "file.txt"
    target.write_text("old")
    wanted = StoppedError if isinstance(failure, OSError) else ValueError
    with pytest.raises(wanted), atomic_open(target) as file:  # noqa: PT012  # the block fails
        file.write("half")
        raise failure
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_at_the_last_step_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Also when it is the synchronising or the renaming that fails."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(StoppedError) as error:
        write_json(target, {"a": 1})
    assert str(error.value) == (
        f"{target}: cannot be written (Input/output error); make its folder writable and run again"
    )
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_full_disk_stops_and_names_the_file(tmp_path: Path) -> None:
    """A full disk is exit code 3: the file, what the system said, and that a rerun goes on."""
    target = tmp_path / "file.txt"
    with pytest.raises(StoppedError) as error, atomic_path(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(error.value) == (
        f"{target}: cannot be written (No space left on device); free the disk and run again"
    )


def test_folder_that_is_a_file_stops(tmp_path: Path) -> None:
    """Where the folder cannot be made the error is still one of ours."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoppedError, match=r"file/out\.txt: cannot be written \(File exists\)"):
        write_json(tmp_path / "file" / "out.txt", {})


def test_json_refuses_what_is_not_json(tmp_path: Path) -> None:
    """Nan and infinity never reach the disk."""
    with pytest.raises(ValueError, match="nan"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_small_file_is_hashed_without_a_cache(cache: Path, tmp_path: Path) -> None:
    """The hash is SHA-256 (FIPS 180-2's "abc"), and a small file is not looked up."""
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert not cache.exists()


def test_hash_is_remembered_while_the_file_is_the_same(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settled file is read once."""
    monkeypatch.setattr(files, "_SETTLED_SECONDS", -1.0)
    (tmp_path / "x").write_bytes(b"abc")
    read = _hashes_read(monkeypatch)
    assert [_hash(tmp_path / "x") for _ in range(3)] == [_digest(b"abc")] * 3
    assert len(read) == 1
    assert cache.is_file()


@pytest.mark.usefixtures("cache")
def test_young_file_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changed within the last two seconds is read again each time."""
    (tmp_path / "x").write_bytes(b"abc")
    read = _hashes_read(monkeypatch)
    _hash(tmp_path / "x")
    _hash(tmp_path / "x")
    assert len(read) == 2


@pytest.mark.usefixtures("cache")
def test_change_with_size_and_time_restored_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sets the modification time back cannot set the change time back."""
    monkeypatch.setattr(files, "_SETTLED_SECONDS", -1.0)
    target = tmp_path / "x"
    target.write_bytes(b"abc")
    before = target.stat()
    assert _hash(target) == _digest(b"abc")
    time.sleep(0.02)  # beyond one tick of the file system's clock
    with target.open("r+b") as file:
        file.write(b"abd")
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = target.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )
    assert _hash(target) == _digest(b"abd")


@pytest.mark.usefixtures("cache")
def test_replaced_file_of_same_size_and_time_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file under the same name has another identity."""
    monkeypatch.setattr(files, "_SETTLED_SECONDS", -1.0)
    for content in (b"abc", b"xyz"):
        new = tmp_path / "new"
        new.write_bytes(content)
        os.utime(new, ns=(0, 0))
        new.replace(tmp_path / "x")
        assert _hash(tmp_path / "x") == _digest(content)


def test_without_a_cache_folder_hashes_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache folder that cannot be made costs time only."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "x").write_bytes(b"abc")
    assert _hash(tmp_path / "x") == _digest(b"abc")


def test_without_a_home_hashes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder, as in some containers, loses nothing."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    (tmp_path / "x").write_bytes(b"abc")
    assert _hash(tmp_path / "x") == _digest(b"abc")


def test_damaged_cache_is_harmless(cache: Path, tmp_path: Path) -> None:
    """A cache that is no database is passed over."""
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"not a database" * 100)
    (tmp_path / "x").write_bytes(b"abc")
    assert _hash(tmp_path / "x") == _digest(b"abc")


@pytest.mark.parametrize(
    "schema", ["key TEXT PRIMARY KEY, sha256 TEXT CHECK (sha256 = '')", "other TEXT"]
)
def test_cache_that_refuses_is_harmless(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: str
) -> None:
    """A cache that takes nothing in (read-only, locked) or cannot be asked costs time only."""
    monkeypatch.setattr(files, "_SETTLED_SECONDS", -1.0)
    cache.parent.mkdir(parents=True)
    with sqlite3.connect(cache) as connection:
        connection.execute(f"CREATE TABLE hashes ({schema})")
    connection.close()
    (tmp_path / "x").write_bytes(b"abc")
    assert [_hash(tmp_path / "x") for _ in range(2)] == [_digest(b"abc")] * 2


@pytest.mark.parametrize("name", ["absent", "folder"])
def test_unreadable_file_is_named(tmp_path: Path, name: str) -> None:
    """A file that cannot be hashed is an error with its name."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(ManifestError) as error:
        sha256_of(tmp_path / name)
    assert str(error.value).startswith(f"{tmp_path / name}: cannot be read (")


def test_out_dir_may_be_absent_empty_or_unfinished(tmp_path: Path) -> None:
    """Only a manifest makes a folder complete; checking writes nothing."""
    check_out_dir(tmp_path / "absent", overwrite=False)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "file").write_text("x")
    check_out_dir(tmp_path / "half", overwrite=False)
    assert not (tmp_path / "absent").exists()
    assert not is_complete(tmp_path / "half")


def test_complete_out_dir_wants_overwrite(tmp_path: Path) -> None:
    """A complete run is refused by name unless it may be replaced."""
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ManifestError) as error:
        check_out_dir(tmp_path, overwrite=False)
    assert str(error.value) == (
        f"{tmp_path}: holds a complete run; choose another --out or pass --overwrite to replace it"
    )
    check_out_dir(tmp_path, overwrite=True)


def test_out_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """An output, and what is above it, must be a folder, whatever may be overwritten."""
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(ManifestError, match=r"file: is a file, an output must be a folder"):
            check_out_dir(folder, overwrite=True)


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    """A second process is refused while the first is at work, and let in when it has ended, even killed."""
    folder = tmp_path / "new" / "out"
    hold = (
        "import sys, time; from pathlib import Path; from fvar.store.files import sole_writer\n"
        "with sole_writer(Path(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", hold, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        with (
            pytest.raises(ManifestError, match=r"new/out: another fvar is at work in it; wait"),
            sole_writer(folder),
        ):
            pass
        process.kill()
    with sole_writer(folder):
        assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """One line names the folder and the system's reason."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoppedError, match=r"file/out: cannot be made or read \(Not a directory\)"),
        sole_writer(tmp_path / "file" / "out"),
    ):
        pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where folders cannot be locked, work goes on as without one."""

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.EBADF, "as NFS says")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with sole_writer(tmp_path):
        pass


def test_remove_outputs_removes_what_is_named(tmp_path: Path) -> None:
    """Named files and folders go, with the manifest; others stay; absent ones are no error."""
    for name in ("manifest.json", "a.csv", "mine.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "s.h5").write_text("x")
    remove_outputs(tmp_path, ["a.csv", "shards", "absent"])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_remove_outputs_removes_what_a_killed_run_left_of_them(tmp_path: Path) -> None:
    """Temporary files of the manifest and of what is named go, wherever they lie; another run's stay."""
    for name in ("manifest.json", "tables/a[1].csv"):
        with contextlib.suppress(RuntimeError), atomic_path(tmp_path / name) as temporary:
            temporary.write_text("half")
            kept = temporary.with_name(f"{temporary.name}.kept")
            temporary.rename(kept)
            raise RuntimeError
        kept.rename(temporary)  # as SIGKILL leaves it
    (tmp_path / "tables" / ".a1.csv.0000abcd.partial").write_text("not named")
    remove_outputs(tmp_path, ["tables/a[1].csv"])
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == [".a1.csv.0000abcd.partial"]


def test_remove_outputs_does_not_follow_links(tmp_path: Path) -> None:
    """A link in the place of an output is removed itself; what it points to stays."""
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (outside / "precious").write_text("x")
    (out / "shards").symlink_to(outside, target_is_directory=True)
    (out / "a.csv").symlink_to(outside / "precious")
    remove_outputs(out, ["shards", "a.csv"])
    assert list(out.iterdir()) == []
    assert (outside / "precious").read_text() == "x"
