"""The frame store: what is written is read, and nothing else is ever taken for it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fvar.errors import FrameStoreError
from fvar.store import frame_store
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import FrameStore, write_shard

SHARD = "shards/shard-00000.h5"


def _video(sizes: list[int], *, fps: float | None = 25.0) -> EncodedVideo:
    """Return a video whose pictures have `sizes` bytes; frame i is full of i's lowest byte."""
    jpeg = np.repeat(np.arange(len(sizes), dtype=np.uint8), sizes)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    times = np.arange(len(sizes), dtype=np.float64) / 25
    return EncodedVideo(jpeg, offsets, times, width=64, height=48, fps=fps, rotation=90)


def _same(a: EncodedVideo, b: EncodedVideo) -> bool:
    names = [field.name for field in fields(EncodedVideo)]
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    write_shard(tmp_path / SHARD, [("a/b", _video([3, 1, 4])), ("other", _video([2]))])
    with FrameStore(tmp_path) as opened:
        yield opened


@pytest.mark.slow
@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    ids=st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
        min_size=1,
        max_size=4,
        unique=True,
    ),
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=20),
    fps=st.one_of(st.none(), st.floats(0.01, 1e4)),
)
@example(ids=[".", "..", "/", "a/./b", "../x", "%2E"], sizes=[1], fps=None)  # paths, to HDF5
def test_what_is_written_is_read(
    tmp_path: Path, ids: list[str], sizes: list[int], fps: float | None
) -> None:
    """Reading returns what was written, under any id, slashes and dots included."""
    videos = [(name, _video([*sizes, index + 1], fps=fps)) for index, name in enumerate(ids)]
    write_shard(tmp_path / SHARD, iter(videos))
    with FrameStore(tmp_path) as store:
        for name, video in reversed(videos):
            assert _same(store.read(SHARD, name), video)


def test_frames_are_views() -> None:
    """`frame` cuts one picture out without copying, and knows how many there are."""
    video = _video([3, 1, 4])
    assert [bytes(video.frame(i)) for i in range(video.num_frames)] == [
        b"\0\0\0",
        b"\1",
        b"\2\2\2\2",
    ]
    assert np.shares_memory(video.frame(1), video.jpeg)
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"frame {index} of 3"):
            video.frame(index)
    assert repr(video) == "EncodedVideo(3 frames of 64x48 px, 8 bytes, 0.000..0.080 s)"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"offsets": np.zeros(1, np.int64)}, "offsets holds 1 numbers"),
        ({"pts_seconds": np.zeros(2)}, "2 times for 3 frames"),
        ({"offsets": np.array([0, 3, 4, 9])}, "run from 0 to 9, must run from 0 to 8"),
        ({"offsets": np.array([1, 3, 4, 8])}, "run from 1 to 8"),
        ({"offsets": np.array([0, 4, 4, 8])}, "frame 1 takes no bytes"),
        ({"offsets": np.array([0, 5, 4, 8])}, "frame 1 takes no bytes"),
        ({"pts_seconds": np.array([0, np.nan, 1])}, "pts_seconds must be finite"),
        ({"pts_seconds": np.array([0, 2.0, 1])}, "pts_seconds must be finite and never fall"),
        ({"width": 0}, "pictures of 0x48 px"),
        ({"width": 65500, "height": 65500}, "at most 4320x65500"),  # agrees with bombs of that size
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": 0.0}, "fps is 0.0"),
    ],
)
def test_a_video_refuses_nonsense(change: dict[str, Any], problem: str) -> None:
    """Parts that do not fit together are refused, and the message says which."""
    with pytest.raises(FrameStoreError) as caught:
        replace(_video([3, 1, 4]), **change)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("shard", "problem"),
    [
        ("shards/shard-00001.h5", "does not exist"),
        (SHARD, "video 'nobody': 'nobody' is missing"),
        ("../x.h5", "lies outside the store"),
        ("/x.h5", "lies outside the store"),
    ],
)
def test_what_is_not_there(store: FrameStore, shard: str, problem: str) -> None:
    """A missing video, a missing shard and one outside the store each have their message."""
    with pytest.raises(FrameStoreError, match=problem):
        store.read(shard, "nobody")


def test_few_files_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many shards are read, at most `_MAX_OPEN` stay open, the ones read last."""
    monkeypatch.setattr(frame_store, "_MAX_OPEN", 2)
    names = [f"shards/shard-{n:05d}.h5" for n in range(4)]
    for name in names:
        write_shard(tmp_path / name, [("v", _video([1]))])
    with FrameStore(tmp_path) as store:
        for name in (*names, names[2], names[0]):
            store.read(name, "v")
        assert list(store._files) == [names[2], names[0]]
    assert not store._files


@pytest.mark.slow
def test_threads_share_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread gets the video it asked for, also while others make room for shards of theirs."""
    monkeypatch.setattr(frame_store, "_MAX_OPEN", 1)
    videos = {f"shards/shard-{n:05d}.h5": _video([n + 1] * 3) for n in range(3)}
    for name, video in videos.items():
        write_shard(tmp_path / name, [("v", video)])
    asked = list(videos) * 60
    with FrameStore(tmp_path) as store, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: store.read(name, "v"), asked))
    assert all(_same(video, videos[name]) for name, video in zip(asked, found, strict=True))


def test_ids_come_once(tmp_path: Path) -> None:
    """A second video of the same id is refused, and no shard is left."""
    with pytest.raises(FrameStoreError, match="id 'v' comes twice"):
        write_shard(tmp_path / "s.h5", [("v", _video([1])), ("v", _video([2]))])
    assert not list(tmp_path.iterdir())
