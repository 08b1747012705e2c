"""``fvar extract``: complete, resumable, and finished by its manifest."""

import contextlib
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from fvar.config import ExtractConfig
from fvar.errors import ConfigError, InputError, ManifestError, SourceError, StoppedError
from fvar.extraction import run as extraction
from fvar.extraction import shards
from fvar.extraction.decode import Decoded, Decoder
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract, preview
from fvar.store.frame_store import FrameStore
from fvar.store.hashing import sha256_of
from fvar.store.manifest import FramesManifest, VideoEntry, read_manifest
from fvar.store.provenance import check_files

WHOLE = ["plain.mp4", "b frames.avi", "vfr.mp4", "turned.mp4", "wide pixels.mp4"]
FVAR = Path(sys.executable).with_name("fvar")


class _Recorder(SilentReporter):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: list[str | None] = []
        self.done = 0.0
        self.info = self.warning = self.lines.append

    @contextlib.contextmanager
    def progress(self, *_: object, **__: object) -> Iterator[Any]:
        yield self

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        self.done += amount
        self.notes.append(note)


def _write_csv(folder: Path, names: list[str], **columns: list[str]) -> Path:
    path = folder / "source.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "video", "label", "split", *columns])
        for n, name in enumerate(names):
            writer.writerow(
                [f"v{n}", name, f"c{n % 2}", "train", *(cells[n] for cells in columns.values())]
            )
    return path


def _config(samples: Path, **settings: Any) -> ExtractConfig:
    flags = {"videos": str(samples), "short_side": 16, "videos_per_shard": 2, "workers": 2}
    return ExtractConfig.model_validate(flags | settings)


def _run(folder: Path, source: Path, config: ExtractConfig, **options: Any) -> FramesManifest:
    return extract(source, folder / "out", config, _Recorder(), **options)


def _read(folder: Path, entry: VideoEntry) -> int:
    assert entry.shard is not None
    with FrameStore(folder / "out") as store:
        return store.read(entry.shard, entry.id).num_frames


def _shard_files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out" / "shards").iterdir())


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_whole_run(samples: Path, tmp_path: Path, workers: int) -> None:
    """With any number of workers, every row is in the manifest in order and its frames in the store."""
    source = _write_csv(tmp_path, WHOLE)
    reporter = _Recorder()
    manifest = extract(source, tmp_path / "out", _config(samples, workers=workers), reporter)
    assert manifest == read_manifest(tmp_path / "out" / "manifest.json", FramesManifest)
    check_files(tmp_path / "out" / "manifest.json", manifest)
    assert [video.video for video in manifest.videos] == WHOLE
    assert [video.num_frames for video in manifest.videos] == [50, 25, 18, 50, 25]
    assert [_read(tmp_path, video) for video in manifest.videos] == [50, 25, 18, 50, 25]
    assert (manifest.summary.num_videos, manifest.summary.ok, manifest.summary.frames) == (
        5,
        5,
        168,
    )
    assert manifest.classes == ["c0", "c1"]
    assert manifest.inputs[0].path == "../source.csv"
    assert manifest.inputs[0].sha256 == sha256_of(source)
    assert [o.path for o in manifest.outputs] == [f"shards/shard-{n:05d}.h5" for n in range(3)]
    assert manifest.versions["ffmpeg"]
    assert reporter.done == 5
    assert reporter.lines[0].startswith("5 videos, about 16")  # vfr by duration and rate: about


def test_what_is_stored_says_where_it_is_from(samples: Path, tmp_path: Path) -> None:
    """A stored video carries the hash of its file, the ffmpeg, and the size the manifest gives."""
    manifest = _run(tmp_path, _write_csv(tmp_path, WHOLE[:1]), _config(samples))
    entry = manifest.videos[0]
    with FrameStore(tmp_path / "out") as store:
        video = store.read(str(entry.shard), entry.id)
    assert video.source_sha256 == sha256_of(samples / WHOLE[0])
    assert video.ffmpeg_version == manifest.versions["ffmpeg"]
    assert (video.width, video.height, video.fps) == (entry.width, entry.height, entry.fps)
    assert (entry.width, entry.height, entry.num_bytes) == (22, 16, len(video.jpeg))


def test_bad_videos_do_not_stop_the_others(samples: Path, tmp_path: Path) -> None:
    """Partial videos keep their frames, failed ones have none; both have a reason."""
    videos = tmp_path / "videos"
    (videos / "folder.mp4").mkdir(parents=True)
    for name in ("plain.mp4", "cut plain.mkv", "text.mp4"):
        shutil.copy(samples / name, videos)
    names = ["text.mp4", "gone.mp4", "cut plain.mkv", "folder.mp4", "x" * 300, "plain.mp4"]
    found = _run(tmp_path, _write_csv(tmp_path, names), _config(videos)).videos
    status = ["failed", "failed", "partial", "failed", "failed", "ok"]
    assert [video.status for video in found] == status
    assert [bool(video.shard) for video in found] == [word != "failed" for word in status]
    reasons = [video.reason or "" for video in found]
    assert f"{videos / 'gone.mp4'} does not exist" in reasons[1]
    assert "is a folder without numbered pictures" in reasons[3]
    assert "File name too long" in reasons[4]
    assert _read(tmp_path, found[2]) == found[2].num_frames > 0


def test_all_failed_is_still_a_result(samples: Path, tmp_path: Path) -> None:
    """When no video can be decoded, the manifest gives the reason for each."""
    reporter = _Recorder()
    source = _write_csv(tmp_path, ["text.mp4", "sound.m4a"])
    manifest = extract(source, tmp_path / "out", _config(samples), reporter)
    assert (manifest.summary.failed, manifest.summary.frames) == (2, 0)
    assert not reporter.lines  # no header promises anything, so there is no estimate


def test_rows_may_share_a_file(samples: Path, tmp_path: Path) -> None:
    """Intervals of one file become videos of their own, [start, end)."""
    source = _write_csv(
        tmp_path,
        ["plain.mp4"] * 3,
        start_seconds=["", "0.4", "9"],
        end_seconds=["0.4", "", ""],
    )
    manifest = _run(tmp_path, source, _config(samples))
    assert [video.num_frames for video in manifest.videos] == [10, 40, 0]
    assert "none of its 50 frames lies in [9, end) s" in (manifest.videos[2].reason or "")


def test_a_file_is_decoded_once(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one file lie in one shard and cost one decode, wherever they stand."""
    names = ["plain.mp4", "vfr.mp4", "plain.mp4", "turned.mp4", "plain.mp4", "vfr.mp4"]
    source = _write_csv(tmp_path, names, start_seconds=["", "", "1", "", "1.9", "1"])
    decoded = _DecodeCounter(monkeypatch)
    manifest = _run(tmp_path, source, _config(samples, videos_per_shard=2))
    assert sorted(decoded.names) == sorted(set(names))
    assert [video.id for video in manifest.videos] == [f"v{n}" for n in range(6)]
    assert [video.num_frames for video in manifest.videos] == [50, 18, 25, 50, 2, 5]
    assert [str(video.shard)[-8:-3] for video in manifest.videos] == [
        f"0000{n}" for n in (0, 1, 0, 2, 0, 1)
    ]
    assert [_read(tmp_path, video) for video in manifest.videos] == [50, 18, 25, 50, 2, 5]


def test_a_damaged_file_makes_all_its_rows_partial(samples: Path, tmp_path: Path) -> None:
    """Where a file lacks frames is not known, so a row that ends before the cut is partial too."""
    source = _write_csv(tmp_path, ["cut plain.mp4"] * 2, end_seconds=["0.1", ""])
    manifest = _run(tmp_path, source, _config(samples))
    assert [video.status for video in manifest.videos] == ["partial", "partial"]
    assert manifest.videos[0].num_frames == 3


@pytest.mark.parametrize(
    ("settings", "num_frames"), [({"stride": 4}, [13, 7]), ({"fps": 12.5}, [25, 13])]
)
def test_fewer_frames_are_recorded(
    samples: Path, tmp_path: Path, settings: dict[str, Any], num_frames: list[int]
) -> None:
    """Setting and both counts are in the manifest, and the verdict is on all frames."""
    source = _write_csv(tmp_path, ["plain.mp4"] * 2, start_seconds=["", "1"])
    reporter = _Recorder()
    manifest = extract(source, tmp_path / "out", _config(samples, **settings), reporter)
    assert [video.num_frames for video in manifest.videos] == num_frames
    assert [video.decoded_frames for video in manifest.videos] == [50, 25]
    assert [video.status for video in manifest.videos] == ["ok", "ok"]
    assert reporter.lines[0].startswith("frames kept: ")
    assert settings.items() <= manifest.config.model_dump().items()


def test_fewer_frames_do_not_hide_missing_ones(samples: Path, tmp_path: Path) -> None:
    """A file that is cut short is partial although the frames that a stride wants may all be there."""
    source = _write_csv(tmp_path, ["cut plain.mp4"])
    assert _run(tmp_path, source, _config(samples, stride=1000)).videos[0].status == "partial"


def test_a_complete_run_is_not_replaced(samples: Path, tmp_path: Path) -> None:
    """A complete run is refused without --overwrite; with it, no shard of the old one stays."""
    _run(tmp_path, _write_csv(tmp_path, WHOLE), _config(samples))
    source = _write_csv(tmp_path, WHOLE[:1])
    with pytest.raises(ManifestError, match="holds a complete run"):
        _run(tmp_path, source, _config(samples))
    assert len(_shard_files(tmp_path)) == 6
    manifest = _run(tmp_path, source, _config(samples), overwrite=True)
    assert _shard_files(tmp_path) == ["shard-00000.h5", "shard-00000.json"]
    assert len(manifest.outputs) == 1


class _DecodeCounter:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, stop_at: str | None = None) -> None:
        self.names: list[str] = []
        decode = Decoder.decode

        def count(decoder: Decoder, path: Path, *rest: Any, **hashed: Any) -> list[Decoded]:
            self.names.append(path.name)
            if path.name == stop_at:
                raise KeyboardInterrupt
            return decode(decoder, path, *rest, **hashed)

        monkeypatch.setattr(Decoder, "decode", count)


@pytest.fixture
def interrupted(samples: Path, tmp_path: Path) -> Path:
    """Return a source CSV whose extraction was interrupted at its fifth video, in the third shard."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in WHOLE:
        shutil.copy(samples / name, videos)
    source = _write_csv(tmp_path, WHOLE)
    with pytest.MonkeyPatch.context() as patch:
        _DecodeCounter(patch, stop_at=WHOLE[4])
        with pytest.raises(KeyboardInterrupt):
            _run(tmp_path, source, _config(videos))
    return source


def test_a_rerun_redoes_only_what_is_missing(
    tmp_path: Path, interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption leaves whole shards with their records; the rerun decodes the last video only.

    The result is that of an uninterrupted run.
    """
    files = [f"shard-0000{n}.{end}" for n in range(2) for end in ("h5", "json")]
    assert _shard_files(tmp_path) == files
    assert not (tmp_path / "out" / "manifest.json").exists()
    decoded = _DecodeCounter(monkeypatch)
    manifest = _run(tmp_path, interrupted, _config(tmp_path / "videos", workers=1))
    assert decoded.names == WHOLE[4:]
    (tmp_path / "again").mkdir()
    again = _run(tmp_path / "again", interrupted, _config(tmp_path / "videos"))
    assert (manifest.videos, manifest.outputs) == (again.videos, again.outputs)
    check_files(tmp_path / "out" / "manifest.json", manifest)


def _change_video(tmp_path: Path) -> None:
    """Append a comment box: the frames are the same, the file is not."""
    with (tmp_path / "videos" / WHOLE[0]).open("ab") as file:
        file.write(b"\0\0\0\x0cfreeabcd")


def _change_row(tmp_path: Path) -> None:
    path = tmp_path / "source.csv"
    path.write_text(path.read_text().replace("c1", "other"))


def _damage(name: str) -> Any:
    def change(tmp_path: Path) -> None:
        path = tmp_path / "out" / "shards" / name
        path.write_bytes(path.read_bytes()[:-10])

    return change


@pytest.mark.parametrize(
    ("change", "settings", "redone"),
    [
        (lambda _: None, {"quality": 3}, WHOLE),
        (lambda _: None, {"short_side": 18}, WHOLE),
        (lambda _: None, {"videos_per_shard": 3}, WHOLE[4:]),
        (lambda _: None, {"videos_per_shard": 1}, WHOLE),
        (lambda _: None, {"stride": 2}, WHOLE),
        (lambda _: None, {"fps": 5.0}, WHOLE),
        (lambda _: None, {"workers": 1, "max_gb": 1.0}, WHOLE[4:]),
        (_change_video, {}, [WHOLE[0], WHOLE[1], WHOLE[4]]),
        (_change_row, {}, WHOLE),
        (_damage("shard-00001.h5"), {}, WHOLE[2:]),
        (_damage("shard-00001.json"), {}, WHOLE[2:]),
        (lambda p: (p / "out/shards/shard-00000.h5").unlink(), {}, [*WHOLE[:2], WHOLE[4]]),
    ],
)
def test_what_changed_is_redone(
    tmp_path: Path,
    interrupted: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Any,
    settings: dict[str, Any],
    redone: list[str],
) -> None:
    """A shard is kept only if rows, settings, video files and its own bytes are what they were."""
    change(tmp_path)
    decoded = _DecodeCounter(monkeypatch)
    manifest = _run(tmp_path, interrupted, _config(tmp_path / "videos", **settings))
    assert sorted(decoded.names) == sorted(redone)
    assert manifest.summary.ok == 5
    check_files(tmp_path / "out" / "manifest.json", manifest)


def test_unplanned_shards_are_deleted(samples: Path, tmp_path: Path) -> None:
    """Files of a killed run, or of a run with more rows, are deleted; files of others are not."""
    folder = tmp_path / "out" / "shards"
    folder.mkdir(parents=True)
    ours = ["shard-00007.h5", "shard-00007.json", ".shard-00000.h5.123.partial"]
    for name in [*ours, "notes.txt"]:
        (folder / name).write_text("x")
    _run(tmp_path, _write_csv(tmp_path, WHOLE[:1]), _config(samples))
    assert _shard_files(tmp_path) == ["notes.txt", "shard-00000.h5", "shard-00000.json"]


def test_max_gb_stops(samples: Path, tmp_path: Path) -> None:
    """The store never outgrows --max-gb, which is announced; with more room a rerun continues."""
    source = _write_csv(tmp_path, WHOLE)
    for max_gb, kept in ((1e-6, []), (6e-5, ["shard-00000.h5", "shard-00000.json"])):
        reporter = _Recorder()  # a video takes about 25 kB
        config = _config(samples, max_gb=max_gb, workers=1)
        with pytest.raises(StoppedError, match=f"more than --max-gb {max_gb:g}"):
            extract(source, tmp_path / "out", config, reporter)
        assert f"more than --max-gb {max_gb:g}" in reporter.lines[1]
        assert _shard_files(tmp_path) == kept
    reporter = _Recorder()
    extract(source, tmp_path / "out", _config(samples), reporter)
    assert reporter.notes[0] == "shards/shard-00000.h5 is there already"


def test_wrong_input_writes_nothing(samples: Path, tmp_path: Path) -> None:
    """A bad CSV, folder, ffmpeg or output is refused before anything is written."""
    good = _write_csv(tmp_path, WHOLE[:1])
    bad = tmp_path / "bad.csv"
    bad.write_text("id\n")
    cases: list[tuple[Path, ExtractConfig, type[InputError], str]] = [
        (bad, _config(samples), SourceError, "column 'video' is missing"),
        (good, _config(tmp_path / "none"), ConfigError, "is not a folder"),
        (good, _config(tmp_path), ConfigError, "holds none of the 1 videos, not even 'plain.mp4'"),
        (good, _config(samples, ffmpeg="/no/ffmpeg"), ConfigError, "does not run"),
    ]
    for source, config, error, problem in cases:
        with pytest.raises(error, match=problem):
            _run(tmp_path, source, config)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ManifestError, match="is a file"):
        extract(good, good, _config(samples), _Recorder())


def test_a_folder_that_cannot_be_cleared(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When old shards cannot be deleted, that is a StoppedError with the folder."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(extraction, "remove_unplanned", refuse)
    with pytest.raises(StoppedError, match=r"out: cannot be cleared .*Permission denied"):
        _run(tmp_path, _write_csv(tmp_path, WHOLE[:1]), _config(samples))


def test_unreadable_sources_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A video that is there but cannot be read has the system's reason."""

    def refuse(path: Path, **_: object) -> str:
        raise ManifestError(path, "cannot be read (Input/output error)", fix="x")

    monkeypatch.setattr(shards, "sha256_of", refuse)
    path = tmp_path / "v.mp4"
    path.write_text("x")
    assert shards.hash_source(path) == (None, f"{path} cannot be read (Input/output error)")


def _fvar(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [str(FVAR), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def _in_process(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command(samples: Path, tmp_path: Path) -> None:
    """`fvar extract` ends with what it wrote and the next command; code 2 when run again."""
    source = _write_csv(tmp_path, WHOLE)
    arguments = ("extract", source, "--videos", samples, "--short-side", "16")
    ended = _fvar(*arguments, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "next: fvar train runs/source/frames" in ended.stdout
    assert (tmp_path / "runs" / "source" / "frames" / "manifest.json").is_file()
    again = _fvar(*arguments, cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.startswith("fvar: runs/source/frames: holds a complete run")
    assert again.stderr.count("\n") == 1


def test_the_command_with_bad_videos(samples: Path, tmp_path: Path) -> None:
    """Code 1 when videos are not ok; the first few are listed with their reasons."""
    source = _write_csv(tmp_path, ["plain.mp4", *["text.mp4"] * 7])
    ended = _in_process("extract", source, "--videos", samples, "--out", tmp_path / "o")
    assert ended.exit_code == 1
    assert ended.stdout.count("is failed: cannot be opened as a video") == 5
    assert "... and 2 more; manifest.json lists them all" in ended.stdout
    data = json.loads((tmp_path / "o" / "manifest.json").read_text())
    assert data["schema"] == "fvar.frames/1"
    assert data["summary"]["failed"] == 7


def test_the_command_says_what_is_unusual(samples: Path, tmp_path: Path) -> None:
    """Fewer frames on purpose and a picture that changes its size are reported and are no failure."""
    source = _write_csv(tmp_path, ["plain.mp4", "wider.h264"])
    out = tmp_path / "o"
    ended = _in_process("extract", source, "--videos", samples, "--out", out, "--stride", "4")
    assert ended.exit_code == 0
    assert "18 of 70: one frame in 4" in ended.stdout
    assert "warning: v1: its frame size changes from 64x48 to 128x48 px" in ended.stdout


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--quality", "0"], "quality: 0: Input should be greater than or equal to 1"),
        (["--max-gb", "nan"], "max_gb: nan"),
        (["--fps", "5", "--stride", "2"], "`fps` and `stride` exclude each other"),
    ],
)
def test_the_command_checks_its_flags(
    samples: Path, tmp_path: Path, flags: list[str], problem: str
) -> None:
    """A value that breaks its rule is one line with code 2, and nothing is written."""
    source = _write_csv(tmp_path, WHOLE[:1])
    ended = _in_process("extract", source, "--videos", samples, "--out", tmp_path / "o", *flags)
    assert ended.exit_code == 2
    assert problem in ended.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_ut_interaction_is_complete(shared: Path, tmp_path: Path) -> None:
    """All 120 clips are ok with the true frame counts of all.csv, and the estimate is within 25 %."""
    folder = shared / "data" / "ut_interaction"
    with (folder / "all.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    source = _write_csv(tmp_path, [row["path"] for row in rows])
    config = _config(folder / "videos", videos_per_shard=32)
    estimate = preview(source, tmp_path / "out", config, _Recorder()).estimate
    manifest = _run(tmp_path, source, config)
    assert [video.num_frames for video in manifest.videos] == [int(row["frames"]) for row in rows]
    assert (manifest.summary.ok, manifest.summary.frames) == (120, 13603)
    assert estimate is not None
    assert estimate.frames == pytest.approx(13603, rel=0.25)
    assert estimate.num_bytes == pytest.approx(manifest.summary.num_bytes, rel=0.25)
