"""Verification: a whole chain is whole, every kind of fault is found, and nothing is written."""

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain_samples import FOLDERS, edit_manifest, listed, rows_of, vouch, write_chain
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from training_samples import HEIGHT, ROWS, WIDTH, Row, sample_videos, write_frames

from fvar.config import VerifyConfig
from fvar.errors import ManifestError, StoppedError
from fvar.processes import in_processes
from fvar.reporting import Progress, SilentReporter
from fvar.stages.verify import Verdict, verify
from fvar.store import files
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import write_shard
from fvar.store.hashing import sha256_of

SHARD = "shards/shard-00001.h5"  # of e, f, v, w
LAST = "checkpoints/last.pt"
NUM_FRAMES = sum(row.num_frames for row in ROWS)


def _verify(run: Path, *, workers: int = 1) -> Verdict:
    return verify(run, VerifyConfig(workers=workers), SilentReporter())


def _faults(run: Path) -> list[str]:
    return [str(fault) for fault in _verify(run).faults]


def _flip_byte(path: Path, *, at: int, mask: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= mask
    path.write_bytes(content)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a chain of runs; nobody writes into it."""
    return write_chain(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def chain(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of the chain, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "chain"))


def _state(folder: Path) -> dict[str, tuple[int, int, str]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size, sha256_of(path))
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", FOLDERS)
def test_whole_chain_is_whole(whole: Path, name: str) -> None:
    """From any stage's folder all it stands on is read, nothing is found, and nothing is written."""
    before = _state(whole)
    verdict = _verify(whole / name)
    assert (verdict.faults, verdict.notes, verdict.not_ok) == ((), (), ())
    upstream = {"frames": [], "train": ["frames"]}.get(name, ["frames", "train"])
    assert [link.folder.name for link in verdict.chain] == [*upstream, name]
    assert (verdict.num_videos, verdict.num_frames) == (len(ROWS), NUM_FRAMES)
    assert _state(whole) == before


def test_several_processes_find_the_same(chain: Path) -> None:
    """The verdict does not depend on how many processes read."""
    _flip_byte(chain / "frames" / SHARD, at=-1)
    _flip_byte(chain / "train" / LAST, at=7)
    alone, together = _verify(chain / "eval"), _verify(chain / "eval", workers=2)
    assert len(alone.faults) >= 2
    assert list(map(str, alone.faults)) == list(map(str, together.faults))
    assert (alone.num_files, alone.num_frames) == (together.num_files, together.num_frames)


@settings(max_examples=20)
@given(data=st.data())
def test_any_flipped_bit_of_any_file_is_found(whole: Path, data: st.DataObject) -> None:
    """Whichever bit of whichever file below the last manifest changes, a fault names that file."""
    name = data.draw(st.sampled_from(["eval", "clusters"]))
    paths = [
        whole / "source.csv",
        *(p for n in ("frames", "train", name) for p in (whole / n).rglob("*")),
    ]
    paths = sorted(p for p in paths if p.is_file() and p != whole / name / "manifest.json")
    path = data.draw(st.sampled_from(paths))
    content, at = path.read_bytes(), data.draw(st.integers(0, path.stat().st_size - 1))
    _flip_byte(path, at=at, mask=1 << data.draw(st.integers(0, 7)))
    try:
        assert [fault for fault in _verify(whole / name).faults if str(path) in str(fault)]
    finally:
        path.write_bytes(content)


def _swap(folder: Path) -> None:
    one, other = folder / "shards/shard-00000.h5", folder / SHARD
    one.rename(folder / "kept")
    other.rename(one)
    (folder / "kept").rename(other)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "thing", "problem", "fix"),
    [
        (
            lambda r: _swap(r / "frames"),
            SHARD,
            "is not what `fvar extract` wrote",
            "this shard alone",
        ),
        (
            lambda r: _swap(r / "frames"),
            f"{SHARD}: video 'e'",
            "'e' is missing",
            "this shard alone",
        ),
        (
            lambda r: _truncate(r / "frames" / SHARD),
            SHARD,
            "not a whole HDF5 file",
            "this shard alone",
        ),
        (lambda r: (r / "frames" / SHARD).unlink(), SHARD, "is missing", "this shard alone"),
        (
            lambda r: _truncate(r / "train" / LAST),
            LAST,
            "is not what `fvar train` wrote",
            "rerun `fvar train` with --out",
        ),
        (
            lambda r: _truncate(r / "train" / LAST),
            LAST,
            "changed since `fvar eval` read it",
            "rerun `fvar eval` with --out",
        ),
        (
            lambda r: (r / "eval/predictions.csv").write_text("id,label,predicted\nx,up,up\n"),
            "predictions.csv",
            "is not what `fvar eval` wrote",
            "rerun `fvar eval` with --out",
        ),
        (
            lambda r: (r / "frames").rename(r / "away"),
            "frames/manifest.json",
            "is not there, `fvar train` read it",
            "put its folder back",
        ),
        (
            lambda r: (r / "source.csv").write_text("id,video,label,split\n"),
            "source.csv",
            "changed since `fvar extract` read it",
            "frames --update",
        ),
        (
            lambda r: (r / "train/manifest.json").write_text("{"),
            "train/manifest.json",
            "is not a readable manifest",
            "delete it and rerun the stage that wrote it",
        ),
        (
            lambda r: edit_manifest(r / "train", lambda data: data.update(schema="fvar.x/1")),
            "train/manifest.json",
            "has schema 'fvar.x/1', must be one of fvar.frames/1, ",
            "rerun the stage that wrote it",
        ),
        (
            lambda r: edit_manifest(
                r / "eval", lambda data: _set(data, "inputs.0.path", "\0/manifest.json")
            ),
            "manifest.json",
            "is not there, `fvar eval` read it",
            "put its folder back",
        ),
        (
            lambda r: edit_manifest(r / "train", lambda data: data.update(more=1)),
            "train/manifest.json",
            "is not a known key",
            "remove it",
        ),
    ],
)
def test_fault_is_named_with_its_mend(
    chain: Path, damage: Callable[[Path], object], thing: str, problem: str, fix: str
) -> None:
    """Each kind of damage leads to a line with the file, what is wrong with it and what to rerun."""
    damage(chain)
    found = _verify(chain / "eval").faults
    assert [f for f in found if thing in f.thing and problem in f.problem and fix in f.fix], found


def test_all_faults_are_found_at_once(chain: Path) -> None:
    """After a fault it goes on: each damaged file of each stage is named, upstream first."""
    damaged = [chain / "frames" / SHARD, chain / "train" / LAST, chain / "eval/predictions.csv"]
    for path in damaged:
        _flip_byte(path, at=-1)
    (chain / "frames/shards/shard-00002.h5").unlink()
    found = _verify(chain / "eval")
    assert {fault.thing for fault in found.faults} >= {*map(str, damaged)}
    assert found.num_videos == len(ROWS) - 3  # x, y and z were in the shard that is gone
    assert [link.folder.name for link in found.chain] == ["frames", "train", "eval"]


def test_remembered_hash_is_not_believed(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that decays changes neither size nor times: what is remembered by them does not count."""
    path = chain / "train" / LAST
    path.write_bytes(bytes(33 << 20))  # large enough to be remembered
    vouch(chain / "train", LAST)
    before = sha256_of(path)
    _flip_byte(path, at=1 << 20)
    monkeypatch.setattr(files, "_remembered_sha256", lambda _path, _beat: before)
    assert sha256_of(path) == before
    assert [fault for fault in _faults(chain / "train") if f"{path}: is not what" in fault]


def _jpeg(size: tuple[int, int], mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "JPEG")
    return file.getvalue()


def _with_frame(video: EncodedVideo, index: int, picture: bytes) -> EncodedVideo:
    """Return the video with another picture at `index`; its checksum will be that of the new bytes."""
    parts = [bytes(video.frame(number)) for number in range(video.num_frames)]
    parts[index] = picture
    jpeg = np.frombuffer(b"".join(parts), np.uint8)
    return replace(video, jpeg=jpeg, offsets=np.cumsum([0, *map(len, parts)], dtype=np.int64))


@pytest.mark.parametrize(
    ("picture", "problem"),
    [
        (
            _jpeg((WIDTH, HEIGHT + 2)),
            f"frame 4 is {WIDTH}x{HEIGHT + 2} px, the store says {WIDTH}x{HEIGHT}",
        ),
        (
            _jpeg((HEIGHT, WIDTH)),
            f"frame 4 is {HEIGHT}x{WIDTH} px, the store says {WIDTH}x{HEIGHT}",
        ),
        (_jpeg((WIDTH, HEIGHT), "L"), "frame 4 decodes to mode L, must be RGB"),
        (
            _jpeg((WIDTH, HEIGHT))[:-20],
            "frame 4 cannot be decoded (OSError: image file is truncated",
        ),
        (b"no picture", "frame 4 cannot be decoded (UnidentifiedImageError: cannot identify"),
    ],
)
def test_picture_with_right_checksums_is_still_decoded(
    tmp_path: Path, picture: bytes, problem: str
) -> None:
    """A wrong picture is found although every hash and checksum is that of its bytes."""
    videos = sample_videos(ROWS)
    videos["e"] = _with_frame(videos["e"], 4, picture)
    frames = write_frames(tmp_path / "frames", videos=videos)
    (found,) = _verify(frames).faults
    assert found.thing == f"{frames / SHARD}: video 'e'"
    assert found.problem.startswith(problem)
    assert "redoes this shard alone" in found.fix


def test_bad_pictures_of_a_video_are_one_fault(tmp_path: Path) -> None:
    """The first is described and the others are counted."""
    videos = sample_videos(ROWS)
    for index in (2, 5, 11):
        videos["e"] = _with_frame(videos["e"], index, _jpeg((16, 16)))
    (found,) = _verify(write_frames(tmp_path / "frames", videos=videos)).faults
    assert found.problem.startswith("frame 2 is 16x16 px")
    assert found.problem.endswith("(and 2 other frames)")


def test_changed_byte_of_a_picture_names_the_video(chain: Path) -> None:
    """Where even the manifest was made to agree, the video's own checksum does not."""
    path = chain / "frames" / SHARD
    _flip_byte(path, at=path.read_bytes().index(b"\xff\xd8\xff") + 300)
    vouch(chain / "frames", SHARD)
    (fault,) = _verify(chain / "frames").faults
    assert "bytes are not those that were written (checksum differs)" in fault.problem
    assert fault.thing.startswith(f"{path}: video '")


def test_shard_that_cannot_be_opened_is_one_fault(chain: Path) -> None:
    """Its videos do not repeat what is wrong with the file."""
    _truncate(chain / "frames" / SHARD)
    vouch(chain / "frames", SHARD)
    (fault,) = _verify(chain / "frames").faults
    assert fault.thing == str(chain / "frames" / SHARD)


def _set(data: dict[str, Any], path: str, value: object) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        data = data[int(parent)] if parent.isdecimal() else data[parent]
    data[name] = value


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        *(
            (f"summary.{name}", 99, f"summary.{name} is 99, its list `videos` has ")
            for name in ("num_videos", "ok", "partial", "failed", "frames", "num_bytes")
        ),
        ("videos.0.num_frames", 4, "num_frames is 3, the manifest says 4"),
        ("videos.0.width", 50, "width is 48, the manifest says 50"),
        ("videos.0.height", 50, "height is 40, the manifest says 50"),
        ("videos.0.fps", 24.0, "fps is 25.0, the manifest says 24.0"),
        ("videos.0.num_bytes", 1, ", the manifest says 1"),
        ("videos.0.id", "new", "'new' is missing"),
        ("videos.0.shard", None, "video 'a' is ok and has shard None"),
        ("videos.0.shard", None, "holds 4 videos, the manifest lists 3 in it"),
        ("videos.0.shard", "shards/x.h5", "is in shards/x.h5, which `outputs` does not list"),
    ],
)
def test_figures_of_an_extraction_are_counted(
    chain: Path, path: str, value: object, problem: str
) -> None:
    """Every figure that its manifest states is compared with the videos, listed and stored."""
    edit_manifest(chain / "frames", lambda data: _set(data, path, value))
    assert [fault for fault in _faults(chain / "frames") if problem in fault]


def _rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("train/metrics.csv", "1,0.1,\n", "", "epochs is 1 by count, manifest.json says 2"),
        ("train/metrics.csv", "1,0.1,\n", "1,0.1\n", "row 2 has 2 cells, the header 3"),
        ("train/metrics.csv", "epoch", '"epoch', "is not a readable table"),
        ("eval/predictions.csv", "y,left,up,0.5,0.25,0.25\n", "", "evaluated is 2 by count, "),
        (
            "eval/predictions.csv",
            "y,left,up",
            "y,left,left",
            "2 of 3 rows are right, manifest.json",
        ),
        (
            "eval/predictions.csv",
            "y,left",
            "v,left",
            "row 2 is video 'v', the frames' split has 'y'",
        ),
        ("clusters/clusters.csv", "x,0,", "x,9,", None),
        ("clusters/clusters.csv", "x,0,0,2,0.0,0.08,2\n", "", "num_clusters is 9 by count, "),
        ("clusters/clusters.csv", "x,0,0,2,0.0,0.08,2\n", "", "frames is 19 by count, "),
    ],
)
def test_tables_are_counted_again(
    chain: Path, name: str, old: str, new: str, problem: str | None
) -> None:
    """A table whose hash agrees must still hold the rows, frames and accuracy that the manifest says."""
    folder = chain / Path(name).parent
    _rewrite(chain / name, old, new)
    vouch(folder, Path(name).name)
    found = [fault for fault in _faults(folder) if f"{chain / name}: " in fault]
    assert [fault for fault in found if problem in fault] if problem else not found


@pytest.mark.parametrize(
    ("folder", "path", "problem"),
    [
        ("train", "summary.num_videos", "num_videos is 6 by count, manifest.json says 99"),
        ("train", "summary.frames", "frames is 37 by count, manifest.json says 99"),
        ("eval", "summary.expected", "expected is 3 by count, manifest.json says 99"),
        ("clusters", "summary.num_videos", "num_videos is 3 by count, manifest.json says 99"),
        ("clusters", "summary.right", "right is 1 by count, manifest.json says 99"),
        ("clusters", "summary.num_clusters", "num_clusters is 10 by count, manifest.json says 99"),
    ],
)
def test_figures_of_results_are_counted(chain: Path, folder: str, path: str, problem: str) -> None:
    """Headline figures are compared with the tables and with the frames that were worked on."""
    edit_manifest(chain / folder, lambda data: _set(data, path, 99))
    assert [fault for fault in _faults(chain / folder) if problem in fault]


def test_clusters_of_other_frames_are_found(chain: Path, tmp_path: Path) -> None:
    """A record of clusters must speak of the videos in the split, with as many frames as they have."""
    rows = [replace(row, num_frames=9) if row.id == "x" else row for row in ROWS if row.id != "y"]
    write_frames(tmp_path / "other" / "frames", rows)
    shutil.rmtree(chain / "frames")
    shutil.move(tmp_path / "other" / "frames", chain / "frames")
    found = "\n".join(_faults(chain / "clusters"))
    assert "video 'x' has 8 frames, the store 9 frames" in found
    assert "video 'y' has 2 frames, the store no such video in the split" in found
    assert "manifest.json: changed since `fvar inspect-clusters` read it" in found


def test_unreadable_record_of_clusters_is_a_fault(chain: Path) -> None:
    """Damage that its hash does not show ends the counting of that run, not the verification."""
    (chain / "clusters" / "clusters.h5").write_text("nothing")
    vouch(chain / "clusters", "clusters.h5")
    (fault,) = _faults(chain / "clusters")
    assert "clusters.h5: is not a readable HDF5 file" in fault


def test_what_does_no_harm_is_a_note(chain: Path) -> None:
    """Leftovers, unknown files and an input that is no longer there are told, and nothing is wrong."""
    (chain / "frames/shards/.shard-00000.h5.12.partial").write_text("")
    (chain / "frames/shards/shard-00000.json").write_text("{}")  # its record: known
    for number in range(7):
        (chain / "train" / f"mine-{number}.txt").write_text("")
    write_frames(chain / "train" / "another run")
    (chain / "source.csv").unlink()
    verdict = _verify(chain / "train")
    assert verdict.faults == ()
    assert [note.replace(str(chain), "") for note in verdict.notes] == [
        "/frames: shards/.shard-00000.h5.12.partial: left by an interrupted run, may be deleted",
        "/frames/../source.csv: `fvar extract` read it, it is no longer there: not checked",
        (
            "/train: mine-0.txt, mine-1.txt, mine-2.txt, mine-3.txt, mine-4.txt and 3 more: "
            "not listed in its manifest.json"
        ),
    ]


def test_videos_that_are_not_ok_are_named(tmp_path: Path) -> None:
    """What extraction itself said of a video is no fault, and is not forgotten."""
    frames = write_frames(tmp_path / "frames", rows_of("ok", "partial", "failed"))
    verdict = _verify(frames)
    assert verdict.faults == ()
    assert [video.id for video in verdict.not_ok] == ["partial-1", "failed-2"]
    assert (verdict.num_videos, verdict.num_frames) == (2, 4)


class _Recorder(SilentReporter):
    """Remembers warnings and how far a task went."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.total: float | None = None
        self.done = 0.0

    def warning(self, message: str) -> None:
        self.warnings.append(message)

    @contextmanager
    def progress(self, description: str, *, total: float | None, unit: str) -> Iterator[Progress]:
        assert (description, unit) == ("verify", "frames")
        self.total = total
        yield self

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        self.done += amount


def test_progress_counts_frames_to_the_end(chain: Path) -> None:
    """Every frame is counted once; those of a shard that is gone are not waited for."""
    (chain / "frames" / SHARD).unlink()
    recorder = _Recorder()
    verify(chain / "eval", VerifyConfig(workers=1), recorder)
    assert recorder.total == recorder.done == NUM_FRAMES - (12 + 1 + 6 + 4)


def test_first_faults_are_told_as_they_are_found(tmp_path: Path) -> None:
    """Twenty are told, one line says that there are more, and the verdict holds them all."""
    rows = [Row(f"v{number}", "up", "train", 1) for number in range(25)]
    wrong = {row.id: _with_frame(sample_videos([row])[row.id], 0, _jpeg((8, 8))) for row in rows}
    recorder = _Recorder()
    verdict = verify(
        write_frames(tmp_path / "frames", rows, videos=wrong), VerifyConfig(workers=1), recorder
    )
    assert len(verdict.faults) == 25
    assert recorder.warnings[:20] == [str(fault) for fault in verdict.faults[:20]]
    assert recorder.warnings[20:] == ["more than 20 faults: the others are only counted"]


def test_no_finished_run_is_refused(tmp_path: Path) -> None:
    """A folder without a manifest is not verified: nothing says what it should hold."""
    write_shard(tmp_path / SHARD, sample_videos(ROWS).items())
    with pytest.raises(ManifestError, match=r"holds no manifest\.json: no stage finished there"):
        _verify(tmp_path)


def _die_at_3(task: int) -> int:
    if task == 3:
        os._exit(1)
    return -task


def test_results_come_in_order_until_a_process_dies() -> None:
    """Tasks keep their order over two processes; a killed one (memory) stops with cause and next step."""
    done = list(in_processes(iter([0, 1, 2]), _die_at_3, workers=2))
    assert done == [(0, 0), (1, -1), (2, -2)]
    with pytest.raises(StoppedError, match=r"2 processes: one of them was killed, .* --workers"):
        list(in_processes(iter([3]), _die_at_3, workers=2))


def test_shards_listed_are_the_shards_there_are(whole: Path) -> None:
    """The sample itself: three shards, all videos in them."""
    assert [entry.path for entry in listed(whole / "frames")] == [
        f"shards/shard-0000{number}.h5" for number in range(3)
    ]
