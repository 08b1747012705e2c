"""Files: whole or absent; and output folders that lose nothing."""

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fvar.errors import ManifestError, StoppedError
from fvar.store.files import (
    atomic_open,
    atomic_path,
    check_out_dir,
    is_complete,
    remove_outputs,
    sole_writer,
    write_json,
)


def test_atomic_path_writes(tmp_path: Path) -> None:
    """What was written is there, in a folder made for it, and nothing else."""
    with atomic_path(tmp_path / "a" / "b.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "a" / "b.txt").exists()
    assert (tmp_path / "a" / "b.txt").read_text() == "new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


@pytest.mark.parametrize(
    ("failure", "kind", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StoppedError, "free the disk and run"),
        (OSError(errno.EFBIG, "File too large"), StoppedError, "ulimit -f"),
        (ValueError("x"), ValueError, "x"),
    ],
)
def test_failed_write_leaves_the_old_file(
    tmp_path: Path, failure: Exception, kind: type[Exception], says: str
) -> None:
    """When writing fails midway, the old content stays and no temporary file is left."""
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(kind) as caught, atomic_open(target) as file:  # noqa: PT012  # the block fails
        file.write("half")
        raise failure
    assert says in str(caught.value)
    assert str(failure.args[-1]) in str(caught.value)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")])
def test_failure_at_the_last_step_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    """The same holds when synchronizing or renaming fails."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(owner, name, fail)
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(StoppedError, match=r"file\.txt: cannot be written \(Input/output error\)"):
        write_json(target, {"a": 1})
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_json_refuses_what_is_not_json(tmp_path: Path) -> None:
    """Nan and infinity never reach the disk."""
    with pytest.raises(ValueError, match="nan"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_only_a_manifest_makes_a_folder_complete(tmp_path: Path) -> None:
    """An absent or unfinished output folder is fine; a complete one needs `overwrite`; nothing is written."""
    check_out_dir(tmp_path / "absent", overwrite=False)
    (tmp_path / "file").write_text("x")
    check_out_dir(tmp_path, overwrite=False)
    assert not (tmp_path / "absent").exists()
    assert not is_complete(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    assert is_complete(tmp_path)
    check_out_dir(tmp_path, overwrite=True)
    with pytest.raises(ManifestError, match=r"holds a complete run; .* --overwrite"):
        check_out_dir(tmp_path, overwrite=False)


def test_out_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """An output, and every folder above it, must be a folder, whatever may be overwritten."""
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        with pytest.raises(ManifestError) as caught:
            check_out_dir(folder, overwrite=True)
        assert caught.value.thing == str(tmp_path / "file")


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    """A second process is refused while the first works, and admitted when that has ended, even killed."""
    folder = tmp_path / "new" / "out"
    hold = (
        "import sys, time; from pathlib import Path; from fvar.store.files import sole_writer\n"
        "with sole_writer(Path(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", hold, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        with pytest.raises(ManifestError, match="new/out: another fvar"), sole_writer(folder):
            pass
        process.kill()
    with sole_writer(folder):
        assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Where a file is in the way, one line names what cannot be made and the system's reason."""
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    with pytest.raises(StoppedError, match=r"file/out: .* \(Not a directory\)"), sole_writer(out):
        pass
    with pytest.raises(StoppedError, match=r"file/out\.txt: cannot be written \(File exists\)"):
        write_json(tmp_path / "file" / "out.txt", {})


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where folders cannot be locked, work goes on as without a lock."""

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.EBADF, "as NFS says")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with sole_writer(tmp_path):
        pass


def test_remove_outputs_removes_what_is_named(tmp_path: Path) -> None:
    """Named files, folders and links go, with the manifest; all else stays, also what a link points to."""
    outside, out = tmp_path / "outside", tmp_path / "out"
    for path in (
        outside / "precious",
        out / "shards" / "s.h5",
        out / "manifest.json",
        out / "mine",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (out / "link").symlink_to(outside, target_is_directory=True)
    (out / "a.csv").symlink_to(outside / "precious")
    remove_outputs(out, ["a.csv", "shards", "link", "absent"])
    assert [path.name for path in out.iterdir()] == ["mine"]
    assert (outside / "precious").read_text() == "x"


def test_remove_outputs_removes_leftovers_of_a_killed_run(tmp_path: Path) -> None:
    """Temporary files of the manifest and of the named files go; those of other files stay."""
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


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any work: the nearest folder that exists decides."""
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != tmp_path)
    with pytest.raises(ManifestError) as error:
        check_out_dir(tmp_path / "a" / "b", overwrite=True)
    assert (error.value.thing, error.value.problem) == (str(tmp_path), "cannot be written")
