"""Extraction onto a disk that is full or fails: one line, and nothing that is done is lost."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kill_sweep import finished_shards
from video_samples import NAMES, Run, extract_config, write_source

from fvar.errors import ConfigError, StoppedError
from fvar.extraction import budget, shards
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract
from fvar.store import frame_store


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "call", "code"),
    [
        (frame_store, "_write_video", 2, errno.ENOSPC),
        (os, "fsync", 3, errno.EIO),  # of the second shard
        (os, "fsync", 4, errno.ENOSPC),  # of its record
        (Path, "replace", 3, errno.EIO),
        (Path, "replace", 4, errno.ENOSPC),
        (shards, "output_file", 2, errno.EIO),
    ],
)
def test_a_write_error_stops(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    call: int,
    code: int,
) -> None:
    """Whatever fails while the second shard is written, the first is kept, and a rerun completes."""
    original, calls = getattr(owner, name), []

    def fail(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == call:
            raise OSError(code, os.strerror(code))
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(StoppedError, match=os.strerror(code)):
            run()
    before = finished_shards(tmp_path / "out")
    assert list(before) == ["shard-00000.h5"]
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert run().summary.ok == 3
    assert finished_shards(tmp_path / "out").items() >= before.items()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of 400 kB; skip where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("wants the right to mount a tmpfs")
    command = [mount, "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("wants the right to mount a tmpfs")
    yield folder
    subprocess.run([str(shutil.which("umount")), str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk(
    videos: Path, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that runs full is one line with code 3; with more room a rerun goes on."""
    source = write_source(tmp_path, NAMES)
    out = small_disk / "out"
    config = extract_config(videos, short_side=128, reserve_gb=0)
    monkeypatch.setattr(budget, "free_bytes", lambda _: 1 << 40)  # as where quotas hide
    with pytest.raises(StoppedError, match=r"No space left on device.*; free the disk"):
        extract(source, out, config, SilentReporter())
    assert not list(out.rglob("*.partial"))
    before = finished_shards(out)
    mount = str(shutil.which("mount"))
    subprocess.run([mount, "-o", "remount,size=8m", str(small_disk)], check=True)
    assert extract(source, out, config, SilentReporter()).summary.ok == 3
    assert finished_shards(out).items() >= before.items()


@pytest.mark.slow
def test_too_little_room_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written: what it needs, what is free where, the reserve, what to do."""
    monkeypatch.setattr(budget, "free_bytes", lambda _: 1_000_050_000)
    with pytest.raises(ConfigError) as caught:
        run(short_side=64)
    assert f"--out {tmp_path / 'out'}: needs about" in str(caught.value)
    assert "1 GB is free there, of which --reserve-gb 1 stays free; free the disk" in str(
        caught.value
    )
    assert not (tmp_path / "out").exists()
    assert run(reserve_gb=0.5).summary.ok == 3


def test_the_disk_is_watched(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If others fill the disk meanwhile, it stops before the reserve is touched."""
    free = iter([5_000_000_000, 5_000_000_000, 1_000_000_001])
    monkeypatch.setattr(budget, "free_bytes", lambda _: next(free))
    with pytest.raises(StoppedError, match="1 GB is free there, of which --reserve-gb 1 stays"):
        run()
    assert list(finished_shards(tmp_path / "out")) == ["shard-00000.h5"]
