"""``fvar extract``: every video gets its verdict and its frames, and the manifest finishes it."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from video_samples import WHOLE, Recorder, decoded_names, extract_config, write_source

from fvar.config import ExtractConfig
from fvar.errors import ManifestError
from fvar.extraction import shards
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract, preview
from fvar.store.frame_store import FrameStore
from fvar.store.hashing import sha256_of
from fvar.store.manifest import FramesManifest, VideoEntry
from fvar.store.manifest_file import read_manifest
from fvar.store.provenance import check_files


def _run(folder: Path, source: Path, config: ExtractConfig) -> FramesManifest:
    return extract(source, folder / "out", config, SilentReporter())


def _read(folder: Path, entry: VideoEntry) -> int:
    assert entry.shard is not None
    with FrameStore(folder / "out") as store:
        return store.read(entry.shard, entry.id).num_frames


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_whole_run(samples: Path, tmp_path: Path, workers: int) -> None:
    """With any number of workers, every row is in the manifest in order and its frames in the store."""
    source = write_source(tmp_path, WHOLE)
    reporter = Recorder()
    manifest = extract(
        source,
        tmp_path / "out",
        extract_config(samples, workers=workers, videos_per_shard=2),
        reporter,
    )
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
    manifest = _run(tmp_path, write_source(tmp_path, WHOLE[:1]), extract_config(samples))
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
    found = _run(tmp_path, write_source(tmp_path, names), extract_config(videos)).videos
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
    reporter = Recorder()
    source = write_source(tmp_path, ["text.mp4", "sound.m4a"])
    manifest = extract(source, tmp_path / "out", extract_config(samples), reporter)
    assert (manifest.summary.failed, manifest.summary.frames) == (2, 0)
    assert not reporter.lines  # no header promises anything, so there is no estimate


def test_rows_may_share_a_file(samples: Path, tmp_path: Path) -> None:
    """Intervals of one file become videos of their own, [start, end)."""
    source = write_source(
        tmp_path,
        ["plain.mp4"] * 3,
        start_seconds=["", "0.4", "9"],
        end_seconds=["0.4", "", ""],
    )
    manifest = _run(tmp_path, source, extract_config(samples))
    assert [video.num_frames for video in manifest.videos] == [10, 40, 0]
    assert "none of its 50 frames lies in [9, end) s" in (manifest.videos[2].reason or "")


def test_a_file_is_decoded_once(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one file lie in one shard and cost one decode, wherever they stand."""
    names = ["plain.mp4", "vfr.mp4", "plain.mp4", "turned.mp4", "plain.mp4", "vfr.mp4"]
    source = write_source(tmp_path, names, start_seconds=["", "", "1", "", "1.9", "1"])
    decoded = decoded_names(monkeypatch)
    manifest = _run(tmp_path, source, extract_config(samples, videos_per_shard=2))
    assert sorted(decoded) == sorted(set(names))
    assert [video.id for video in manifest.videos] == [f"v{n}" for n in range(6)]
    assert [video.num_frames for video in manifest.videos] == [50, 18, 25, 50, 2, 5]
    assert [str(video.shard)[-8:-3] for video in manifest.videos] == [
        f"0000{n}" for n in (0, 1, 0, 2, 0, 1)
    ]
    assert [_read(tmp_path, video) for video in manifest.videos] == [50, 18, 25, 50, 2, 5]


def test_a_damaged_file_makes_all_its_rows_partial(samples: Path, tmp_path: Path) -> None:
    """Where a file lacks frames is not known, so a row that ends before the cut is partial too."""
    source = write_source(tmp_path, ["cut plain.mp4"] * 2, end_seconds=["0.1", ""])
    manifest = _run(tmp_path, source, extract_config(samples))
    assert [video.status for video in manifest.videos] == ["partial", "partial"]
    assert manifest.videos[0].num_frames == 3


@pytest.mark.parametrize(
    ("settings", "num_frames"), [({"stride": 4}, [13, 7]), ({"fps": 12.5}, [25, 13])]
)
def test_fewer_frames_are_recorded(
    samples: Path, tmp_path: Path, settings: dict[str, Any], num_frames: list[int]
) -> None:
    """Setting and both counts are in the manifest, and the verdict is on all frames."""
    source = write_source(tmp_path, ["plain.mp4"] * 2, start_seconds=["", "1"])
    reporter = Recorder()
    manifest = extract(source, tmp_path / "out", extract_config(samples, **settings), reporter)
    assert [video.num_frames for video in manifest.videos] == num_frames
    assert [video.decoded_frames for video in manifest.videos] == [50, 25]
    assert [video.status for video in manifest.videos] == ["ok", "ok"]
    assert reporter.lines[0].startswith("frames kept: ")
    assert settings.items() <= manifest.config.model_dump().items()


def test_fewer_frames_do_not_hide_missing_ones(samples: Path, tmp_path: Path) -> None:
    """A file that is cut short is partial although the frames that a stride wants may all be there."""
    source = write_source(tmp_path, ["cut plain.mp4"])
    assert (
        _run(tmp_path, source, extract_config(samples, stride=1000)).videos[0].status == "partial"
    )


def test_unreadable_sources_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A video that is there but cannot be read has the system's reason."""

    def refuse(path: Path, **_: object) -> str:
        raise ManifestError(path, "cannot be read (Input/output error)", fix="x")

    monkeypatch.setattr(shards, "sha256_of", refuse)
    path = tmp_path / "v.mp4"
    path.write_text("x")
    assert shards.hash_source(path) == (None, f"{path} cannot be read (Input/output error)")


@pytest.mark.slow
def test_ut_interaction_is_complete(shared: Path, tmp_path: Path) -> None:
    """All 120 clips are ok with the true frame counts of all.csv, and the estimate is within 25 %."""
    folder = shared / "data" / "ut_interaction"
    with (folder / "all.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    source = write_source(tmp_path, [row["path"] for row in rows])
    config = extract_config(folder / "videos", videos_per_shard=32, workers=2)
    estimate = preview(source, tmp_path / "out", config, Recorder()).estimate
    manifest = _run(tmp_path, source, config)
    assert [video.num_frames for video in manifest.videos] == [int(row["frames"]) for row in rows]
    assert (manifest.summary.ok, manifest.summary.frames) == (120, 13603)
    assert estimate is not None
    assert estimate.frames == pytest.approx(13603, rel=0.25)
    assert estimate.num_bytes == pytest.approx(manifest.summary.num_bytes, rel=0.25)


def test_segments_by_frames_and_by_seconds_agree(samples: Path, tmp_path: Path) -> None:
    """Frames 10 to 19 of 25 a second are those from 0.4 to 0.8 s; the manifest keeps the columns."""
    source = tmp_path / "s.csv"
    source.write_text(
        "id,video,label,split,start_frame,end_frame,start_seconds,end_seconds\n"
        "f,plain.mp4,x,train,10,20,,\ns,plain.mp4,x,train,,,0.4,0.8\n"
    )
    manifest = extract(source, tmp_path / "out", extract_config(samples), SilentReporter())
    by_frames, by_seconds = manifest.videos
    assert (by_frames.start_frame, by_frames.end_frame, by_frames.num_frames) == (10, 20, 10)
    store = FrameStore(tmp_path / "out")
    pictures = [store.read(str(v.shard), v.id) for v in (by_frames, by_seconds)]
    assert pictures[0].checksum() == pictures[1].checksum()
