"""Hostile stores and pictures: no link is followed, nothing is inflated, no claim is believed."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from training_samples import HEIGHT, WIDTH, sample_clip, sample_pictures, sample_video

from fvar.errors import FrameStoreError
from fvar.loading import clip as clips
from fvar.store.encoded_video import ARRAYS
from fvar.store.frame_store import FrameStore, write_shard
from fvar.store.jpeg import picture_size

SHARD = "shards/shard-00000.h5"
_fuzz = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _claiming(picture: bytes, *, width: int, height: int) -> bytes:
    """Return a JPEG whose frame header claims another size."""
    at = picture.index(b"\xff\xc0")
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return picture[: at + 5] + size + picture[at + 9 :]


def test_a_jpeg_bomb_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that claims 65,500 x 65,500 px is refused by its header: the decoder is never asked."""
    pictures = sample_pictures("a", 3)
    assert {picture_size(picture) for picture in pictures} == {(HEIGHT, WIDTH)}
    pictures[1] = _claiming(pictures[1], width=65500, height=65500)
    clip = sample_clip("a", pictures)
    asked: list[object] = []
    monkeypatch.setattr(clips, "decode_jpeg", asked.append)
    with pytest.raises(FrameStoreError, match=r"\(65500, 65500\) px \(height, width\), the store"):
        clip.pictures([0, 1, 2])
    assert not asked


def test_a_picture_that_asks_to_be_turned_is_refused() -> None:
    """A picture whose header is right and which the decoder turns on its side is no other error than size."""
    file = io.BytesIO()
    tags = Image.Exif()
    tags[0x0112] = 6  # a quarter turn
    Image.new("RGB", (WIDTH, HEIGHT)).save(file, "JPEG", exif=tags)
    pictures = [sample_pictures("a", 1)[0], file.getvalue()]
    clip = sample_clip("a", pictures)
    with pytest.raises(FrameStoreError, match=r"are \(48, 40\) px \(height, width\), the store"):
        clip.pictures([0, 1])


@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    mode=st.sampled_from(["L", "RGB", "CMYK"]),
    progressive=st.booleans(),
    comment=st.binary(max_size=300),
)
def test_the_header_tells_the_size(
    width: int, height: int, mode: str, *, progressive: bool, comment: bytes
) -> None:
    """The size read from the header is that of the picture, whatever segments stand before it."""
    file = io.BytesIO()
    picture = Image.new(mode, (width, height))
    picture.save(file, "JPEG", progressive=progressive, comment=comment, exif=b"\xff\xd8\xff\xc0")
    assert picture_size(file.getvalue()) == (height, width)
    padded = file.getvalue().replace(b"\xff\xe0", b"\xff\xff\xff\xe0", 1)  # fill bytes
    assert picture_size(padded) == (height, width)


@_fuzz
@given(st.binary(max_size=64).map(lambda data: b"\xff\xd8\xff" + data) | st.binary(max_size=16))
def test_any_bytes_have_a_size_or_none(data: bytes) -> None:
    """No bytes make the header's reader fail or go on for ever."""
    size = picture_size(data)
    assert size is None or all(0 <= side < 1 << 16 for side in size)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a store with the videos `v` and `other`, of three frames each."""
    videos = [(name, sample_video(sample_pictures(name, 3))) for name in ("v", "other")]
    write_shard(tmp_path / SHARD, videos)
    return tmp_path


def _edit(folder: Path, change: Callable[[h5py.Group], object]) -> None:
    with h5py.File(folder / SHARD, "a") as file:
        change(file["v"])


def _replace(group: h5py.Group, name: str, data: Any = None, **options: Any) -> None:
    del group[name]
    group.create_dataset(name, data=data, **options)


def _link(group: h5py.Group, link: object) -> None:
    """Put a link in the place of the pictures; a group as a link is a hard link to itself."""
    del group["jpeg"]
    group["jpeg"] = link


def _virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((8,), "u1")
    layout[:] = h5py.VirtualSource("/etc/hostname", "jpeg", (8,))
    del group["jpeg"]
    group.create_virtual_dataset("jpeg", layout)


_ELSEWHERE = "jpeg is chunked, virtual or external"
_BIG = 1 << 40


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda g: g["jpeg"].write_direct(np.ones(g["jpeg"].shape, np.uint8)), "checksum differs"),
        (lambda g: g["pts_seconds"].__setitem__(1, 0.05), "checksum differs"),
        (lambda g: _link(g, h5py.ExternalLink("/etc/x.h5", "/")), "'jpeg' is a ExternalLink"),
        (lambda g: _link(g, h5py.SoftLink("/other/jpeg")), "'jpeg' is a SoftLink"),
        (lambda g: _link(g, h5py.SoftLink("jpeg")), "'jpeg' is a SoftLink"),
        (lambda g: _link(g, g), "'jpeg' is a Group, must be a Dataset"),
        (lambda g: g.pop("offsets"), "'offsets' is missing"),
        (lambda g: _replace(g, "jpeg", shape=(_BIG,), dtype="u1"), f"claims {_BIG} bytes"),
        (lambda g: _replace(g, "jpeg", shape=(_BIG,), dtype="u1", chunks=(1 << 20,)), _ELSEWHERE),
        (lambda g: _replace(g, "jpeg", np.zeros(1 << 26, np.uint8), compression="gzip"), _ELSEWHERE),
        (
            lambda g: _replace(g, "jpeg", shape=(8,), dtype="u1", external=[("/etc/hostname", 0, 8)]),
            _ELSEWHERE,
        ),
        (_virtual, _ELSEWHERE),
        (lambda g: _replace(g, "jpeg", np.zeros(8, np.int64)), "jpeg is int64[8]"),
        (lambda g: _replace(g, "jpeg", np.uint8(1)), "jpeg is uint8[]"),
        (lambda g: _replace(g, "jpeg", shape=None, dtype="u1"), "jpeg is uint8[]"),
        (lambda g: _replace(g, "jpeg", [b"a", b"b"], dtype=h5py.string_dtype()), "jpeg is object"),
        (lambda g: _replace(g, "jpeg", dtype=h5py.ref_dtype, shape=(3,)), "jpeg is object"),
        (lambda g: _replace(g, "offsets", np.array([0, -5, 9, 20])), "offsets"),
        (lambda g: _replace(g, "offsets", np.array([0, 5, 9, 1 << 62])), "must run from 0 to"),
        (lambda g: _replace(g, "offsets", np.array([-(1 << 63), 5, 9, 20])), "must run from 0 to"),
        (lambda g: _replace(g, "offsets", np.arange(4, dtype=">i8")), "offsets is >i8[4]"),
        (lambda g: _replace(g, "offsets", np.arange(4, dtype="u8")), "offsets is uint64[4]"),
        (lambda g: _replace(g, "pts_seconds", np.zeros(3, "f4")), "pts_seconds is float32[3]"),
        (lambda g: g.attrs.__setitem__("width", np.int64(1 << 62)), "px, at most"),
        (lambda g: g.attrs.__setitem__("height", np.int64(-1)), "px, at most"),
        (lambda g: g.attrs.__setitem__("width", "wide"), "width is object[], must be one int"),
        (lambda g: g.attrs.__setitem__("width", h5py.Empty("i8")), "width is int64[], must be one"),
        (lambda g: g.attrs.__setitem__("fps", np.float64("nan")), "fps is nan"),
        (lambda g: g.attrs.__setitem__("fps", np.inf), "fps is inf"),
        (lambda g: g.attrs.__setitem__("id", np.zeros(1000, "S8")), "attribute id is"),
        (lambda g: g.attrs.__setitem__("id", "v"), "id is object[], must be one str"),  # in a heap
        (lambda g: g.attrs.__setitem__("id", np.bytes_("w")), "its group is that of 'w'"),
        (lambda g: g.attrs.__setitem__("checksum", np.bytes_(b"\xff")), "can't decode byte"),
        (lambda g: g.attrs.__delitem__("checksum"), "attribute checksum is missing"),
    ],
)  # fmt: skip
def test_a_hostile_shard_is_refused(
    folder: Path, change: Callable[[h5py.Group], object], problem: str
) -> None:
    """Links, filters, types and numbers that are not the format's are refused; other videos are read."""
    _edit(folder, change)
    with FrameStore(folder) as store:
        with pytest.raises(FrameStoreError) as caught:
            store.read(SHARD, "v")
        assert store.read(SHARD, "other").num_frames == 3
    assert problem in caught.value.problem
    assert caught.value.thing == f"{folder / SHARD}: video 'v'"
    assert "rerun fvar extract" in caught.value.fix
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("change", "video", "problem"),
    [
        (lambda f: f.__setitem__("x", h5py.SoftLink("/other")), "x", "'x' is a SoftLink"),
        (lambda f: f.attrs.__setitem__("format", np.bytes_("else")), "v", "has format 'else'"),
        (lambda f: f.attrs.__setitem__("version", 2), "v", "version 2, must be 'fvar.shard' version 1"),
        (lambda f: f.attrs.__setitem__("version", "1"), "v", "attribute version is object[]"),
    ],
)  # fmt: skip
def test_a_file_of_another_layout_is_refused(
    folder: Path, change: Callable[[h5py.File], object], video: str, problem: str
) -> None:
    """A link in the place of a video's group, another format and another version are refused."""
    _edit(folder, lambda group: change(group.file))
    with FrameStore(folder) as store, pytest.raises(FrameStoreError) as caught:
        store.read(SHARD, video)
    assert problem in caught.value.problem


@pytest.mark.slow
def test_random_damage_is_refused(folder: Path) -> None:
    """Whatever bytes of a shard change or are cut off, reading returns the very frames or refuses."""
    whole = (folder / SHARD).read_bytes()
    checksum = sample_video(sample_pictures("v", 3)).checksum()
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, len(data), rng.integers(1, 6))
        data[places] = rng.integers(0, 256, len(places), dtype=np.uint8)
        (folder / SHARD).write_bytes(data[: rng.integers(0, 4 * len(data))].tobytes())
        with FrameStore(folder) as store, contextlib.suppress(FrameStoreError):
            assert store.read(SHARD, "v").checksum() == checksum


_values = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(),
    st.binary(max_size=20).map(np.bytes_),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=9),
    st.lists(st.integers(-9, 9), max_size=3).map(np.array),
)


@_fuzz
@given(
    name=st.sampled_from(["id", "width", "height", "fps", "rotation", "checksum", "source_sha256"]),
    value=_values,
)
def test_attributes_of_any_kind(tmp_path: Path, name: str, value: Any) -> None:
    """Any attribute replaced by anything: the very frames, or refused by an error of ours."""
    video = sample_video(sample_pictures("v", 1))
    write_shard(tmp_path / SHARD, [("v", video)])
    _edit(tmp_path, lambda group: group.attrs.__setitem__(name, value))
    with FrameStore(tmp_path) as store, contextlib.suppress(FrameStoreError):
        assert store.read(SHARD, "v").checksum() == video.checksum()


@pytest.mark.slow
@_fuzz
@given(
    name=st.sampled_from(sorted(ARRAYS)),
    values=st.lists(st.integers(-(1 << 62), 1 << 62), max_size=5),
    dtype=st.sampled_from(["u1", "i1", "<i8", ">i8", "<f8", "<f4", "c16", "S3", "?"]),
)
def test_datasets_of_any_kind(tmp_path: Path, name: str, values: list[int], dtype: str) -> None:
    """Any dataset replaced by any other is refused: no frames but those written are ever returned."""
    write_shard(tmp_path / SHARD, [("v", sample_video(sample_pictures("v", 2)))])
    data = np.array(values, dtype=np.int64).astype(dtype)
    _edit(tmp_path, lambda group: _replace(group, name, data))
    with FrameStore(tmp_path) as store, pytest.raises(FrameStoreError):
        store.read(SHARD, "v")
