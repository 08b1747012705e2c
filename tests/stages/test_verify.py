"""Verification: a whole chain is whole, every kind of fault is found, and nothing is written."""

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chain_samples import FOLDERS, LAST, edit_manifest, rows_of, vouch, write_chain
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from training_samples import HEIGHT, ROWS, WIDTH, Row, flip_byte, sample_videos, write_frames
from video_samples import Recorder

from fvar.config import VerifyConfig
from fvar.errors import ManifestError
from fvar.reporting import SilentReporter
from fvar.stages.verify import Verdict, verify
from fvar.store import hashing
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import write_shard
from fvar.store.hashing import sha256_of

SHARD = "shards/shard-00001.h5"  # of e, f, v, w
NUM_FRAMES = sum(row.num_frames for row in ROWS)


def _verify(run: Path, *, workers: int = 1) -> Verdict:
    return verify(run, VerifyConfig(workers=workers), SilentReporter())


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a chain of runs; nobody writes into it."""
    return write_chain(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def chain(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of the chain, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "chain"))


def _state(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = filter(Path.is_file, folder.rglob("*"))
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.parametrize("name", FOLDERS)
def test_whole_chain_is_whole(whole: Path, name: str) -> None:
    """From any stage's folder, all runs it was made from are read, no fault is found, nothing is written."""
    before = _state(whole)
    verdict = _verify(whole / name)
    assert (verdict.faults, verdict.notes, verdict.not_ok) == ((), (), ())
    upstream = {"frames": [], "train": ["frames"]}.get(name, ["frames", "train"])
    assert [run.folder.name for run in verdict.chain] == [*upstream, name]
    assert (verdict.num_videos, verdict.num_frames) == (len(ROWS), NUM_FRAMES)
    assert _state(whole) == before


@pytest.mark.slow
def test_several_processes_find_the_same(chain: Path) -> None:
    """The verdict does not depend on the number of processes."""
    flip_byte(chain / "frames" / SHARD, at=-1)
    flip_byte(chain / "train" / LAST, at=7)
    alone, together = _verify(chain / "eval"), _verify(chain / "eval", workers=2)
    assert len(alone.faults) >= 2
    assert list(map(str, alone.faults)) == list(map(str, together.faults))
    assert (alone.num_files, alone.num_frames) == (together.num_files, together.num_frames)


@pytest.mark.slow
@settings(max_examples=20)
@given(data=st.data())
def test_any_flipped_bit_of_any_file_is_found(whole: Path, data: st.DataObject) -> None:
    """Whichever bit of whichever file below the last manifest changes, a fault names that file."""
    name = data.draw(st.sampled_from(["eval", "clusters"]))
    found = [p for folder in ("frames", "train", name) for p in (whole / folder).rglob("*")]
    paths = {whole / "source.csv", *filter(Path.is_file, found)} - {whole / name / "manifest.json"}
    path = data.draw(st.sampled_from(sorted(paths)))
    content, at = path.read_bytes(), data.draw(st.integers(0, path.stat().st_size - 1))
    flip_byte(path, at=at, mask=1 << data.draw(st.integers(0, 7)))
    try:
        assert [fault for fault in _verify(whole / name).faults if str(path) in str(fault)]
    finally:
        path.write_bytes(content)


def _swap(folder: Path) -> None:
    one, other = folder / "shards/shard-00000.h5", folder / SHARD
    one.rename(folder / "kept")
    other.rename(one)
    (folder / "kept").rename(other)


_DAMAGES: dict[str, Callable[[Path], object]] = {
    "shards swapped": lambda run: _swap(run / "frames"),
    "shard cut": lambda run: _cut(run / "frames" / SHARD),
    "shard gone": lambda run: (run / "frames" / SHARD).unlink(),
    "checkpoint cut": lambda run: _cut(run / "train" / LAST),
    "table edited": lambda run: (run / "eval/predictions.csv").write_text("id\n"),
    "frames gone": lambda run: (run / "frames").rename(run / "away"),
    "source edited": lambda run: (run / "source.csv").write_text("id\n"),
    "manifest cut": lambda run: (run / "train/manifest.json").write_text("{"),
    "schema unknown": lambda run: edit_manifest(run / "train", "schema", "fvar.x/1"),
    "key unknown": lambda run: edit_manifest(run / "train", "more", 1),
    "path impossible": lambda run: edit_manifest(run / "eval", "inputs.0.path", "\0/manifest.json"),
}


@pytest.mark.parametrize(
    ("damage", "thing", "problem", "fix"),
    [
        ("shards swapped", SHARD, "not what `fvar extract` wrote", "this shard alone"),
        ("shards swapped", f"{SHARD}: video 'e'", "'e' is missing", "this shard alone"),
        ("shard cut", SHARD, "cannot be read", "this shard alone"),
        ("shard gone", SHARD, "is missing", "this shard alone"),
        ("checkpoint cut", LAST, "not what `fvar train` wrote", "`fvar train` with --out"),
        ("checkpoint cut", LAST, "since `fvar eval` read it", "`fvar eval` with --out"),
        ("table edited", "predictions.csv", "not what `fvar eval` wrote", "eval` with --out"),
        ("frames gone", "frames/manifest.json", "`fvar train` read it", "put its folder back"),
        ("source edited", "source.csv", "since `fvar extract` read it", "frames --update"),
        ("manifest cut", "train/manifest.json", "not a readable manifest", "rerun the stage"),
        ("schema unknown", "train/manifest.json", "'fvar.x/1', must be one of", "rerun the stage"),
        ("key unknown", "train/manifest.json", "more: is not a known key", "remove it"),
        ("path impossible", "manifest.json", "`fvar eval` read it", "put its folder back"),
    ],
)
def test_fault_is_named_with_its_fix(
    chain: Path, damage: str, thing: str, problem: str, fix: str
) -> None:
    """Each kind of damage leads to a line with the file, what is wrong with it and what to rerun."""
    _DAMAGES[damage](chain)
    found = _verify(chain / "eval").faults
    assert [f for f in found if thing in f.thing and problem in str(f) and fix in f.fix], found


def test_all_faults_are_found_at_once(chain: Path) -> None:
    """After a fault it goes on: each damaged file of each stage is named, upstream first."""
    damaged = [chain / "frames" / SHARD, chain / "train" / LAST, chain / "eval/predictions.csv"]
    for path in damaged:
        flip_byte(path, at=-1)
    (chain / "frames/shards/shard-00002.h5").unlink()
    verdict = _verify(chain / "eval")
    assert {fault.thing for fault in verdict.faults} >= {*map(str, damaged)}
    assert verdict.num_videos == len(ROWS) - 3  # x, y and z were in the shard that is gone
    assert [run.folder.name for run in verdict.chain] == ["frames", "train", "eval"]


def test_remembered_hash_is_not_believed(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decaying disk changes neither size nor times, so every file is read again."""
    before = sha256_of(chain / "train" / LAST)
    monkeypatch.setattr(hashing, "_REMEMBER_FROM_BYTES", 0)
    monkeypatch.setattr(hashing, "_remembered_sha256", lambda _path, _beat: before)
    flip_byte(chain / "train" / LAST, at=1000)
    assert sha256_of(chain / "train" / LAST) == before
    (fault,) = _verify(chain / "train").faults
    assert fault.thing == str(chain / "train" / LAST)


def test_harmless_oddities_are_notes(chain: Path) -> None:
    """Leftovers, unknown files and an input that no longer exists are reported, and are no faults."""
    (chain / "frames/shards/.shard-00000.h5.12.partial").write_text("")
    (chain / "frames/shards/shard-00000.json").write_text("{}")  # its record: known
    for number in range(7):
        (chain / "train" / f"mine-{number}.txt").write_text("")
    write_frames(chain / "train" / "another run")
    (chain / "source.csv").unlink()
    verdict = _verify(chain / "train")
    assert verdict.faults == ()
    leftover, absent, unknown = (note.replace(str(chain), "") for note in verdict.notes)
    assert leftover.startswith("/frames: shards/.shard-00000.h5.12.partial: left by an interrupted")
    assert absent.startswith("/frames/../source.csv: `fvar extract` read it")
    assert unknown.startswith("/train: mine-0.txt, mine-1.txt, mine-2.txt, mine-3.txt, mine-4.txt ")
    assert "and 3 more: not listed" in unknown


def test_no_complete_run_is_refused(tmp_path: Path) -> None:
    """A folder without a manifest is not verified: nothing says what it should hold."""
    write_shard(tmp_path / SHARD, sample_videos(ROWS).items())
    with pytest.raises(ManifestError, match=r"holds no manifest\.json"):
        _verify(tmp_path)


def _jpeg(size: tuple[int, int], mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "JPEG")
    return file.getvalue()


def _with_frames(video: EncodedVideo, pictures: dict[int, bytes]) -> EncodedVideo:
    """Return the video with other pictures; its checksum will be that of the new bytes."""
    parts = [bytes(video.frame(number)) for number in range(video.num_frames)]
    for index, picture in pictures.items():
        parts[index] = picture
    jpeg = np.frombuffer(b"".join(parts), np.uint8)
    return replace(video, jpeg=jpeg, offsets=np.cumsum([0, *map(len, parts)], dtype=np.int64))


@pytest.mark.parametrize(
    ("pictures", "problem"),
    [
        ({4: _jpeg((WIDTH, HEIGHT + 2))}, f"frame 4 is {WIDTH}x{HEIGHT + 2} px"),
        ({4: _jpeg((HEIGHT, WIDTH))}, f"frame 4 is {HEIGHT}x{WIDTH} px"),
        ({4: _jpeg((WIDTH, HEIGHT), "L")}, "frame 4 decodes to mode L"),
        ({4: _jpeg((WIDTH, HEIGHT))[:-20]}, "frame 4 cannot be decoded (OSError: image file is tr"),
        ({4: b"no picture"}, "frame 4 cannot be decoded (UnidentifiedImageError"),
        (dict.fromkeys((2, 5, 11), _jpeg((16, 16))), "frame 2 is 16x16 px"),  # and 2 others
    ],
)
def test_picture_with_right_checksums_is_still_decoded(
    tmp_path: Path, pictures: dict[int, bytes], problem: str
) -> None:
    """Wrong pictures are one fault, although every hash and checksum is that of their bytes."""
    videos = sample_videos(ROWS)
    videos["e"] = _with_frames(videos["e"], pictures)
    frames = write_frames(tmp_path / "frames", videos=videos)
    (fault,) = _verify(frames).faults
    assert fault.thing == f"{frames / SHARD}: video 'e'"
    assert fault.problem.startswith(problem)
    assert ("(and 2 other frames)" in fault.problem) == (len(pictures) == 3)
    assert "this shard alone" in fault.fix


def _change_a_picture(path: Path) -> None:
    flip_byte(path, at=path.read_bytes().index(b"\xff\xd8\xff") + 300)


@pytest.mark.parametrize(
    ("damage", "video", "problem"),
    [(_change_a_picture, ": video '", "checksum differs"), (_cut, "", "cannot be read")],
)
def test_damage_that_the_manifest_agrees_with(
    chain: Path, damage: Callable[[Path], None], video: str, problem: str
) -> None:
    """A video's own checksum still names it, and a shard that cannot be opened is a single fault."""
    path = chain / "frames" / SHARD
    damage(path)
    vouch(chain / "frames", SHARD)
    (fault,) = _verify(chain / "frames").faults
    assert fault.thing.startswith(f"{path}{video}")
    assert problem in fault.problem


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("num_frames", 4, "num_frames is 3, the manifest says 4"),
        ("width", 50, "width is 48, the manifest says 50"),
        ("height", 50, "height is 40, the manifest says 50"),
        ("fps", 24.0, "fps is 25.0, the manifest says 24.0"),
        ("num_bytes", 1, ", the manifest says 1"),
        ("id", "new", "'new' is missing"),
        ("shard", None, "holds 4 videos, the manifest lists 3 in it"),
        ("shard", "shards/x.h5", "does not exist"),  # no output is named so
    ],
)
def test_figures_of_videos_are_compared(chain: Path, key: str, value: object, problem: str) -> None:
    """Every figure of a video in the manifest is compared with the stored video."""
    edit_manifest(chain / "frames", f"videos.0.{key}", value)
    assert [fault for fault in _verify(chain / "frames").faults if problem in fault.problem]


def test_videos_that_are_not_ok_are_named(tmp_path: Path) -> None:
    """A video that extraction called partial or failed is no fault, and is in the verdict."""
    verdict = _verify(write_frames(tmp_path / "frames", rows_of("ok", "partial", "failed")))
    assert verdict.faults == ()
    assert [video.id for video in verdict.not_ok] == ["partial-1", "failed-2"]
    assert (verdict.num_videos, verdict.num_frames) == (2, 4)


def test_progress_counts_frames_to_the_end(chain: Path) -> None:
    """Every frame is counted once; those of a shard that is gone are not waited for."""
    (chain / "frames" / SHARD).unlink()
    recorder = Recorder()
    verify(chain / "eval", VerifyConfig(workers=1), recorder)
    assert recorder.done == NUM_FRAMES - (12 + 1 + 6 + 4)
    assert recorder.bar == ("verify", recorder.done, "frames")


def test_first_faults_are_reported_as_they_are_found(tmp_path: Path) -> None:
    """Twenty are reported, one line says that there are more, and the verdict holds all."""
    rows = [Row(f"v{number}", "up", "train", 1) for number in range(25)]
    bad = {0: _jpeg((8, 8))}
    wrong = {name: _with_frames(video, bad) for name, video in sample_videos(rows).items()}
    frames, recorder = write_frames(tmp_path / "frames", rows, videos=wrong), Recorder()
    verdict = verify(frames, VerifyConfig(workers=1), recorder)
    assert len(verdict.faults) == 25
    *first, last = recorder.lines
    assert first == [str(fault) for fault in verdict.faults[:20]]
    assert last.startswith("more than 20 faults")
