"""Extraction that is interrupted or changed while it runs: one line, the right code, nothing lost."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import imageio_ffmpeg
import pytest
from kill_sweep import finished_shards, sweep, write_source
from typer.testing import CliRunner

from cli.main import app
from fvar.config import ExtractConfig
from fvar.errors import ConfigError, ManifestError, StoppedError
from fvar.extraction import budget, shards
from fvar.extraction import make_shards as making
from fvar.extraction.decode import Decoded, Decoder
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract, preview
from fvar.store import frame_store
from fvar.store.frame_store import FrameStore
from fvar.store.manifest import FramesManifest

NAMES = ["plain.mp4", "b frames.avi", "vfr.mp4"]


@pytest.fixture
def videos(samples: Path, tmp_path: Path) -> Path:
    """Return a folder of three videos that a test may change."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in [*NAMES, "turned.mp4"]:
        shutil.copy(samples / name, folder)
    return folder


def _config(videos: Path, **settings: Any) -> ExtractConfig:
    flags = {"videos": str(videos), "short_side": 16, "videos_per_shard": 1, "workers": 1}
    return ExtractConfig.model_validate(flags | settings)


def _run(
    tmp_path: Path, videos: Path, *, names: list[str] = NAMES, **options: Any
) -> FramesManifest:
    settings = options.pop("settings", {})
    source = write_source(tmp_path, names)
    config = _config(videos, **settings)
    return extract(source, tmp_path / "out", config, SilentReporter(), **options)


def test_kills_change_nothing(samples: Path, tmp_path: Path) -> None:
    """After SIGKILL at random moments a rerun keeps finished shards and ends with the very same store."""
    assert sweep(tmp_path, samples, kills=2, seed=3, say=lambda _: None) >= 1


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_batch_system_ends_everything(
    samples: Path, tmp_path: Path, ending: signal.Signals
) -> None:
    """SIGTERM and SIGHUP are Ctrl-C, also twice: code 3, one line, no temporary file, no ffmpeg left."""
    pids = tmp_path / "pids"
    pids.touch()
    program = _script(tmp_path, f'echo $$ >> "{pids}"\nexec sleep 60')
    source = write_source(tmp_path, NAMES)
    command = [sys.executable, "-m", "cli", "extract", str(source), "--videos", str(samples)]
    command += ["--out", str(tmp_path / "o"), "--ffmpeg", str(program), "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while len(pids.read_text().split()) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(ending)
        line = cast(IO[bytes], process.stderr).readline()
        time.sleep(0.02)  # on its way out
        process.send_signal(ending)
        _, more = process.communicate(timeout=120)
    assert process.returncode == 3
    assert line.startswith(b"fvar: interrupted: ")
    assert not more
    for pid in pids.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
    assert not list((tmp_path / "o").rglob("*.partial"))


def _script(folder: Path, body: str) -> Path:
    """Write a program that says it is an ffmpeg and then does `body`."""
    path = folder / "ffmpeg"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = -version ] && {{ echo ffmpeg version 9.0; exit; }}\n{body}\n'
    )
    path.chmod(0o755)
    return path


def test_an_ffmpeg_asked_to_end_is_no_verdict(videos: Path, tmp_path: Path) -> None:
    """If a batch system ends ffmpeg before us, the video is not called partial: we stop."""
    program = _script(tmp_path, "kill -TERM $$")
    with pytest.raises(StoppedError, match=r"its ffmpeg was ended by signal 15; run the same"):
        _run(tmp_path, videos, settings={"ffmpeg": str(program)})
    assert not finished_shards(tmp_path / "out")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("exec sleep 60", "ffmpeg gave no frame for 2 s (--time-limit)"),
        ("sleep 60", "ffmpeg gave no frame for 2 s (--time-limit)"),  # a script around ffmpeg
        ("kill -KILL $$", "ffmpeg was killed, perhaps because memory ran out"),
    ],
)
def test_an_ffmpeg_that_hangs_or_is_killed(
    videos: Path, tmp_path: Path, body: str, reason: str
) -> None:
    """Its video is failed with a reason, the others are extracted, and `update` tries it alone again."""
    real = imageio_ffmpeg.get_ffmpeg_exe()
    ill = tmp_path / "ill"
    ill.touch()
    program = _script(
        tmp_path, f'case "$*" in *vfr.mp4*) [ -e "{ill}" ] && {body};; esac\nexec "{real}" "$@"'
    )
    settings = {"ffmpeg": str(program), "time_limit_seconds": 2}
    manifest = _run(tmp_path, videos, settings=settings)
    assert [video.status for video in manifest.videos] == ["ok", "ok", "failed"]
    assert reason in (manifest.videos[2].reason or "")
    before = finished_shards(tmp_path / "out")
    ill.unlink()
    assert _run(tmp_path, videos, settings=settings, update=True).summary.ok == 3
    after = finished_shards(tmp_path / "out")
    assert [name for name in before if after[name] == before[name]] == sorted(before)[:2]


def test_another_time_limit_redoes_nothing(videos: Path, tmp_path: Path) -> None:
    """A higher limit for one video keeps the results of the others."""
    _run(tmp_path, videos)
    before = finished_shards(tmp_path / "out")
    _run(tmp_path, videos, settings={"time_limit_seconds": 1000}, update=True)
    assert finished_shards(tmp_path / "out") == before


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
    videos: Path,
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
            _run(tmp_path, videos)
    before = finished_shards(tmp_path / "out")
    assert list(before) == ["shard-00000.h5"]
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert _run(tmp_path, videos).summary.ok == 3
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


def test_a_full_disk(
    videos: Path, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that runs full is one line with code 3; with more room a rerun goes on."""
    source = write_source(tmp_path, NAMES)
    out = small_disk / "out"
    config = _config(videos, short_side=128, reserve_gb=0)
    monkeypatch.setattr(budget, "free_bytes", lambda _: 1 << 40)  # as where quotas hide
    with pytest.raises(StoppedError, match=r"No space left on device.*; free the disk"):
        extract(source, out, config, SilentReporter())
    assert not list(out.rglob("*.partial"))
    before = finished_shards(out)
    mount = str(shutil.which("mount"))
    subprocess.run([mount, "-o", "remount,size=8m", str(small_disk)], check=True)
    assert extract(source, out, config, SilentReporter()).summary.ok == 3
    assert finished_shards(out).items() >= before.items()


def test_too_little_room_is_refused(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written: what it needs, what is free where, the reserve, what to do."""
    monkeypatch.setattr(budget, "free_bytes", lambda _: 1_000_050_000)
    with pytest.raises(ConfigError) as caught:
        _run(tmp_path, videos, settings={"short_side": 64})
    assert f"--out {tmp_path / 'out'}: needs about" in str(caught.value)
    assert "1 GB is free there, of which --reserve-gb 1 stays free; free the disk" in str(
        caught.value
    )
    assert not (tmp_path / "out").exists()
    assert _run(tmp_path, videos, settings={"reserve_gb": 0.5}).summary.ok == 3


def test_the_disk_is_watched(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If others fill the disk meanwhile, it stops before the reserve is touched."""
    free = iter([5_000_000_000, 5_000_000_000, 1_000_000_001])
    monkeypatch.setattr(budget, "free_bytes", lambda _: next(free))
    with pytest.raises(StoppedError, match="1 GB is free there, of which --reserve-gb 1 stays"):
        _run(tmp_path, videos)
    assert list(finished_shards(tmp_path / "out")) == ["shard-00000.h5"]


def test_a_source_that_vanishes(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is failed with a reason; when it is back, `update` extracts it alone."""
    decode = Decoder.decode

    def vanish(decoder: Decoder, path: Path, *rest: Any, **hashed: Any) -> list[Decoded]:
        if path.name == NAMES[1]:
            path.rename(tmp_path / "away")
        return decode(decoder, path, *rest, **hashed)

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "decode", vanish)
        manifest = _run(tmp_path, videos)
    assert [video.status for video in manifest.videos] == ["ok", "failed", "ok"]
    assert "vanished while it was read" in (manifest.videos[1].reason or "")
    before = finished_shards(tmp_path / "out")
    (tmp_path / "away").rename(videos / NAMES[1])
    assert _run(tmp_path, videos, update=True).summary.ok == 3
    after = finished_shards(tmp_path / "out")
    assert [name for name in before if after[name] == before[name]] == [
        "shard-00000.h5",
        "shard-00002.h5",
    ]


class _Warnings(SilentReporter):
    """Remembers warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, message: str) -> None:
        self.warnings.append(message)


@pytest.mark.parametrize("update", [False, True])
def test_sources_put_away(videos: Path, tmp_path: Path, update: bool) -> None:
    """Frames whose videos are gone (deleted, or a disk not mounted) stay when rows are added."""
    _run(tmp_path, videos)
    before = finished_shards(tmp_path / "out")
    if not update:
        (tmp_path / "out" / "manifest.json").unlink()
    for name in NAMES:
        (videos / name).unlink()
    source = write_source(tmp_path, [*NAMES, "turned.mp4"])
    reporter = _Warnings()
    arguments = source, tmp_path / "out", _config(videos), reporter
    found = preview(*arguments, update=update)
    assert (found.absent, found.num_kept) == ([], 3)
    manifest = extract(*arguments, update=update)
    assert manifest.summary.ok == 4
    assert finished_shards(tmp_path / "out").items() >= before.items()
    expected = "3 videos are no longer there, first plain.mp4: their frames are kept"
    assert reporter.warnings == [expected, expected]


def test_frames_that_could_not_be_made_again(videos: Path, tmp_path: Path) -> None:
    """If a shard would be made again without a video that is gone, nothing is touched."""
    settings = {"videos_per_shard": 3}
    _run(tmp_path, videos, settings=settings)
    before = finished_shards(tmp_path / "out")
    (videos / NAMES[0]).unlink()
    names = [*NAMES[:2], "turned.mp4"]
    gone = f"{NAMES[0]}: cannot be read, and shards/shard-00000.h5, which holds .* --overwrite"
    for _ in range(2):
        with pytest.raises(ConfigError, match=gone):
            _run(tmp_path, videos, names=names, settings=settings, update=True)
    assert finished_shards(tmp_path / "out") == before
    assert (tmp_path / "out" / "manifest.json").exists()
    manifest = _run(tmp_path, videos, names=names, settings=settings, overwrite=True)
    assert [video.status for video in manifest.videos] == ["failed", "ok", "ok"]


def test_a_source_that_changes(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of a file that was replaced after hashing get no wrong hash: it is failed, until `update`."""
    decode = Decoder.decode

    def replace(decoder: Decoder, path: Path, *rest: Any, **hashed: Any) -> list[Decoded]:
        if path.name == NAMES[1]:
            (videos / "turned.mp4").replace(path)
        return decode(decoder, path, *rest, **hashed)

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "decode", replace)
        manifest = _run(tmp_path, videos)
    assert [video.status for video in manifest.videos] == ["ok", "failed", "ok"]
    assert manifest.videos[1].reason == f"{videos / NAMES[1]} changed while it was read"
    assert _run(tmp_path, videos, update=True).summary.ok == 3


def test_hashing_ends_with_the_rest(videos: Path, tmp_path: Path) -> None:
    """Ctrl-C does not wait until a source of gigabytes is read to its end."""
    with (videos / "vfr.mp4").open("ab") as file:
        file.truncate(1 << 40)  # a hole, which takes no room and hours to read
    source = write_source(tmp_path, ["vfr.mp4", *NAMES[:2]])
    command = [sys.executable, "-m", "cli", "extract", str(source), "--videos", str(videos)]
    command += ["--out", str(tmp_path / "o"), "--reserve-gb", "0", "--short-side", "16"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("o/shards/.*.partial")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 3
    assert errors.startswith(b"fvar: interrupted")


def test_a_disk_of_videos_that_is_taken_away(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the whole folder is gone, its videos have not failed: we stop, and what is done is kept."""
    decode = Decoder.decode

    def take_away(decoder: Decoder, path: Path, *rest: Any, **hashed: Any) -> list[Decoded]:
        decoded = decode(decoder, path, *rest, **hashed)
        videos.rename(tmp_path / "away")
        return decoded

    monkeypatch.setattr(Decoder, "decode", take_away)
    with pytest.raises(StoppedError, match=r"videos: is gone or empty; bring the videos back"):
        _run(tmp_path, videos)
    assert list(finished_shards(tmp_path / "out")) == ["shard-00000.h5"]


@pytest.mark.parametrize("place", [0, 1, 3])
def test_rows_added_afterwards(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """Wherever a row is put in, `update` decodes it alone, and every video is what it would have been."""
    _run(tmp_path, videos)
    before = finished_shards(tmp_path / "out")
    names = [*NAMES[:place], "turned.mp4", *NAMES[place:]]
    source = tmp_path / "source.csv"
    lines = source.read_text().splitlines()
    lines.insert(place + 1, "new,turned.mp4,c,test")
    source.write_text("\n".join(lines))
    decoded: list[str] = []
    decode = Decoder.decode

    def note(decoder: Decoder, path: Path, *rest: Any, **hashed: Any) -> list[Decoded]:
        decoded.append(path.name)
        return decode(decoder, path, *rest, **hashed)

    monkeypatch.setattr(Decoder, "decode", note)
    manifest = extract(source, tmp_path / "out", _config(videos), SilentReporter(), update=True)
    assert decoded == ["turned.mp4"]
    assert [video.video for video in manifest.videos] == names
    assert finished_shards(tmp_path / "out").items() >= before.items()
    with FrameStore(tmp_path / "out") as store:
        for video in manifest.videos:
            assert store.read(str(video.shard), video.id).num_frames == video.num_frames > 0
    # and once more, after an interruption that lost the manifest
    (tmp_path / "out" / "manifest.json").unlink()
    again = extract(source, tmp_path / "out", _config(videos), SilentReporter())
    assert (again.videos, decoded) == (manifest.videos, ["turned.mp4"])


def test_a_preview_writes_nothing(videos: Path, tmp_path: Path) -> None:
    """It shows what is absent, done, to be done and to be redone, and touches no file."""
    names = [*NAMES, "gone.mp4"]
    source = write_source(tmp_path, names)
    seen = preview(source, tmp_path / "out", _config(videos), SilentReporter())
    assert not (tmp_path / "out").exists()
    assert (seen.num_videos, seen.num_kept, seen.num_shards) == (4, 0, 4)
    assert [row.video for row in seen.absent] == ["gone.mp4"]
    assert seen.estimate is not None
    assert seen.estimate.seconds > 0
    manifest = _run(tmp_path, videos, names=names)
    assert seen.estimate.frames == pytest.approx(manifest.summary.frames, rel=0.1)
    assert seen.estimate.num_bytes == pytest.approx(manifest.summary.num_bytes, rel=0.2)
    with (videos / NAMES[0]).open("ab") as file:
        file.write(b"\0\0\0\x0cfreeabcd")
    before = finished_shards(tmp_path / "out")
    seen = preview(source, tmp_path / "out", _config(videos), SilentReporter(), update=True)
    assert (seen.num_kept, seen.redone) == (3, ["shards/shard-00000.h5"])
    assert finished_shards(tmp_path / "out") == before
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_the_command_tries_dry(videos: Path, tmp_path: Path) -> None:
    """`--dry-run` prints the estimate and what is missing, ends with code 1 for it, and writes nothing."""
    source = write_source(tmp_path, [*NAMES, "gone.mp4"])
    arguments = ["extract", str(source), "--videos", str(videos), "--out", str(tmp_path / "o")]
    ended = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert ended.exit_code == 1
    assert "4 videos, about" in ended.stdout
    assert "warning: v3 is not there: gone.mp4" in ended.stdout
    assert "4 of 4 videos to extract, into 1 shards" in ended.stdout
    assert "nothing was written" in ended.stdout
    assert not (tmp_path / "o").exists()


def test_a_file_where_shards_belong(videos: Path, tmp_path: Path) -> None:
    """It is refused before anything is estimated, by `--dry-run` too."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "shards").touch()
    source = write_source(tmp_path, NAMES)
    for command in (extract, preview):
        with pytest.raises(ManifestError, match=r"shards: is a file, an output must be a folder"):
            command(source, tmp_path / "out", _config(videos), SilentReporter())


def test_update_and_overwrite_exclude_each_other(videos: Path, tmp_path: Path) -> None:
    """Keeping and replacing cannot both be meant."""
    source = write_source(tmp_path, NAMES)
    arguments = ["extract", str(source), "--videos", str(videos), "--update", "--overwrite"]
    ended = CliRunner().invoke(app, arguments)
    assert (ended.exit_code, ended.stderr) == (
        2,
        "fvar: --update: excludes --overwrite; pass one of the two\n",
    )


def test_a_long_video_shows_that_it_goes_on(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a long video is decoded, the progress shows its frames so far and counts no row."""
    real = imageio_ffmpeg.get_ffmpeg_exe()
    program = _script(tmp_path, f'exec "{real}" -readrate 1 "$@"')
    monkeypatch.setattr(making, "_PROGRESS_SECONDS", 0.2)
    notes: list[tuple[float, str]] = []

    class Listener(SilentReporter):
        @contextmanager
        def progress(self, *_: object, **__: object) -> Iterator[Any]:
            yield self

        def advance(self, amount: float, *, note: str) -> None:
            notes.append((amount, note))

    source = write_source(tmp_path, NAMES[:1])
    config = _config(videos, ffmpeg=str(program))
    extract(source, tmp_path / "out", config, Listener())
    assert sum(amount for amount, _ in notes) == 1
    found = [re.search(r"^0 frames, .* (\d+) decoded in this run$", note) for _, note in notes[:-1]]
    decoded = [int(match[1]) for match in found if match]
    assert len(decoded) == len(notes) - 1 > 2
    assert 0 < decoded[-1] <= 50
    assert sorted(decoded) == decoded
    assert notes[-1][1].startswith("50 frames, ")
