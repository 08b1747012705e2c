"""Folders of numbered pictures: which pictures, in which order, and the verdict on the rest."""

import io
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fvar.extraction.decode import Decoded
from fvar.extraction.estimate import estimate_work
from fvar.extraction.ffmpeg import DecodeSettings, find_ffmpeg
from fvar.extraction.image_folder import gaps, read_series
from fvar.extraction.probe.claims import UnreadableError
from fvar.extraction.probe.pool import ProbePool
from fvar.extraction.shards import Job, hash_source
from fvar.sources.source_csv import SourceRow
from fvar.store.encoded_video import EncodedVideo

Extract = Callable[..., Decoded]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "clip"
    path.mkdir()
    return path


@pytest.fixture
def take(folder: Path, decode: Extract) -> Extract:
    return partial(decode, folder)


def _gray(level: int, *, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("L", size, level)


def _levels(decoded: Decoded) -> list[int]:
    """Return the gray in the middle of each stored picture."""
    video = decoded.video
    assert isinstance(video, EncodedVideo)
    levels = []
    for index in range(video.num_frames):
        with Image.open(io.BytesIO(video.frame(index).tobytes())) as image:
            assert image.size == (video.width, video.height)
            levels.append(int(np.asarray(image.convert("L"))[16, 20]))
    return levels


@pytest.mark.parametrize(
    "names",
    [
        ["00001.jpg", "00002.jpg", "00003.jpg"],
        ["img_00000.png", "img_00001.png", "img_00002.png"],
        ["frame-9.bmp", "frame-10.bmp", "frame-11.bmp"],  # natural order, any padding
        ["x7.webp", "x8.JPEG", "x09.png"],
    ],
)
def test_a_folder_is_a_video(folder: Path, take: Extract, names: list[str]) -> None:
    """Pictures come in the order of their numbers, which are their times; no rate is invented."""
    for level, name in zip((0, 100, 200), names, strict=True):
        _gray(level).save(folder / name, lossless=True, quality=95)
    (folder / "Thumbs.db").write_text("x")
    (folder / "._00001.jpg").write_text("what macOS leaves")
    decoded = take()
    assert (decoded.status, decoded.reason, decoded.note) == ("ok", None, None)
    np.testing.assert_allclose(_levels(decoded), [0, 100, 200], atol=2)
    video = decoded.video
    assert video is not None
    first = {"0": 1, "i": 0, "f": 9, "x": 7}[names[0][0]]
    assert video.pts_seconds.tolist() == [first, first + 1, first + 2]
    assert (video.fps, video.width, video.height) == (None, 42, 32)


def test_gaps_and_unreadable_pictures_are_named(folder: Path, take: Extract) -> None:
    """What is missing or damaged makes the folder partial, with numbers and names; the rest is kept."""
    for number in (1, 2, 3, 6, 7, 9):
        _gray(20 * number).save(folder / f"{number:05d}.jpg", quality=95)
    whole = (folder / "00003.jpg").read_bytes()
    (folder / "00003.jpg").write_bytes(whole[: len(whole) - 100])
    decoded = take()
    assert decoded.status == "partial"
    assert decoded.reason is not None
    assert "have gaps, 3 missing: 4-5, 8" in decoded.reason
    assert "1 of its pictures cannot be read: 00003.jpg (" in decoded.reason
    assert decoded.video is not None
    assert decoded.video.pts_seconds.tolist() == [1, 2, 6, 7, 9]
    np.testing.assert_allclose(_levels(decoded), [20, 40, 120, 140, 180], atol=2)


def test_other_sizes_are_not_stretched(folder: Path, take: Extract) -> None:
    """A picture of another shape keeps its shape, in black bars, and a note says so."""
    _gray(200).save(folder / "1.png")
    _gray(200, size=(128, 48)).save(folder / "2.png")
    decoded = take()
    assert decoded.status == "ok"
    assert decoded.note is not None
    assert "changes from 64x48 to 128x48 px" in decoded.note
    assert decoded.video is not None
    with Image.open(io.BytesIO(decoded.video.frame(1).tobytes())) as image:
        column = np.asarray(image.convert("L"))[:, 20]
    assert (column < 20).sum() == pytest.approx(16, abs=2)  # 24 of 48 rows hold the picture
    assert column[16] == pytest.approx(200, abs=3)


def test_pictures_of_any_kind_become_rgb(folder: Path, take: Extract) -> None:
    """16 bits are scaled, not clipped; transparency, palettes and EXIF rotation are undone."""
    Image.fromarray(np.full((48, 64), 100 << 8, np.uint16)).save(folder / "1.png")
    _gray(100).convert("RGBA").save(folder / "2.png")
    _gray(100).convert("P").save(folder / "3.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to stand upright
    _gray(100, size=(48, 64)).save(folder / "4.jpg", quality=95, exif=exif)
    decoded = take()
    assert (decoded.status, decoded.note) == ("ok", None)
    np.testing.assert_allclose(_levels(decoded), [100] * 4, atol=3)


def _fill(folder: Path, *names: str) -> None:
    for name in names:
        _gray(9).save(folder / name)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "is a folder without numbered pictures (.jpg,"),
        (["1.jpg", "01.jpg"], "holds two pictures of number 1, 01.jpg and 1.jpg"),
        (["x_1.jpg", "y_2.jpg"], "holds pictures of several series, x_... and y_2.jpg"),
        (["1.jpg", "cover.jpg"], "holds cover.jpg, a picture without a number"),
    ],
)
def test_what_is_no_series_is_failed(
    folder: Path, take: Extract, names: list[str], reason: str
) -> None:
    """Where the order is not clear nothing is guessed."""
    _fill(folder, *names)
    decoded = take()
    assert (decoded.status, decoded.video) == ("failed", None)
    assert reason in (decoded.reason or "")
    assert hash_source(folder) == (None, f"{folder} {decoded.reason}")


def test_pictures_that_none_can_read(folder: Path, take: Extract) -> None:
    """A folder of damaged pictures is failed and names the first; text in a .jpg is not run as anything."""
    for number in (1, 2):
        (folder / f"{number}.jpg").write_text("#EXTM3U\nother.jpg")
    decoded = take()
    assert decoded.status == "failed"
    assert "none of its 2 pictures can be read, first 1.jpg (" in (decoded.reason or "")


def test_links_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    """A picture that lies elsewhere is refused, and so is what is not a file."""
    _fill(tmp_path, "secret.jpg")
    (folder / "1.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(UnreadableError, match=r"1.jpg, which is not a file in this folder"):
        read_series(folder)
    (folder / "1.jpg").unlink()
    (folder / "1.jpg").mkdir()
    with pytest.raises(UnreadableError, match=r"not a file in this folder"):
        read_series(folder)


def test_a_bomb_is_refused(folder: Path, take: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that claims more pixels than the limit is not decoded."""
    _fill(folder, "1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)
    assert "1.png (Image size (3072 pixels) exceeds limit" in (take().reason or "")


def test_the_hash_is_that_of_names_and_contents(folder: Path, tmp_path: Path) -> None:
    """Another picture, or the same under another number, is another video; a copy is the same."""
    _fill(folder, "1.png", "2.png")
    before, _ = hash_source(folder)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert hash_source(copy) == (before, None)
    (copy / "2.png").rename(copy / "3.png")
    (folder / "2.png").write_bytes(b"x")
    assert len({before, hash_source(copy)[0], hash_source(folder)[0]}) == 3


def test_a_stride_counts_pictures(folder: Path, take: Extract, probes: ProbePool) -> None:
    """Fewer pictures on purpose work on folders, the estimate knows of them, gaps still count."""
    _fill(folder, *(f"{number}.png" for number in range(10)))
    row = SourceRow("a", folder.name, "x", "train", None, None, None)
    guess = estimate_work(
        [Job(folder, (row,))],
        program=find_ffmpeg(),
        settings=DecodeSettings(32, 2, stride=4),
        workers=1,
        probes=probes,
    )
    assert guess is not None
    assert guess.frames == 3
    assert guess.num_bytes == pytest.approx(3000, rel=1)
    (folder / "1.png").unlink()
    decoded = take(stride=4)
    assert decoded.status == "partial"
    assert decoded.num_decoded == 9
    assert decoded.video is not None
    assert decoded.video.pts_seconds.tolist() == [0, 5, 9]


@given(st.sets(st.integers(0, 60), min_size=1))
def test_gaps_are_exactly_the_missing_numbers(numbers: set[int]) -> None:
    """The number of missing pictures is that of the numbers between first and last that are not there."""
    missing = max(numbers) - min(numbers) + 1 - len(numbers)
    reason = gaps(sorted(numbers))
    assert (reason is None) == (missing == 0)
    assert reason is None or f"{missing} missing" in reason
