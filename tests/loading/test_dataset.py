"""Ragged batches: every byte arrives, the same at every call, and what a worker meets is told as it is."""

import io
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from training_samples import HEIGHT, ROWS, WIDTH, sample_pictures, sample_video, write_frames

from fvar.errors import FrameStoreError
from fvar.loading.dataset import (
    FrameBatch,
    StoredVideo,
    VideoDataset,
    View,
    collate,
    load_batches,
    pick_frames,
)
from fvar.store.frame_store import write_shard
from fvar.store.manifest import FramesManifest, read_manifest
from fvar.training.inputs import select_videos, stored_videos

CPU = torch.device("cpu")
VIEW = View(
    size=32, crop="multi-scale", crop_share=0.875, flip=True, samples=None, random=True, seed=0
)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small extraction; nobody writes into it."""
    return write_frames(tmp_path_factory.mktemp("run") / "frames")


def _dataset(folder: Path, *, samples: int | None = None, random: bool = True) -> VideoDataset:
    manifest = read_manifest(folder / "manifest.json", FramesManifest)
    videos = select_videos(manifest, "train", allow_partial=False, source=folder)
    stored = stored_videos(videos, manifest.classes, source=folder)
    return VideoDataset(folder, stored, replace(VIEW, samples=samples, random=random))


def _batch(ids: Sequence[str], *, epoch: int = 0) -> FrameBatch:
    lengths = {row.id: row.num_frames for row in ROWS}
    videos = [sample_video(sample_pictures(name, lengths[name])) for name in ids]
    return collate(
        [(video, n, name, epoch) for n, (video, name) in enumerate(zip(videos, ids, strict=True))]
    )


def _bytes(batch: FrameBatch, frame: int) -> bytes:
    start, stop = batch.offsets[frame : frame + 2].tolist()
    return batch.encoded[start:stop].numpy().tobytes()


def test_collate_keeps_every_byte() -> None:
    """Videos lie one after the other: every picture, time, label, id and length is where it belongs."""
    ids = ["b", "f", "a"]
    batch = _batch(ids, epoch=3)
    pictures = sample_pictures("b", 9) + sample_pictures("f", 1) + sample_pictures("a", 3)
    assert [_bytes(batch, frame) for frame in range(13)] == pictures
    assert batch.lengths == (9, 1, 3)
    assert batch.ids == ("b", "f", "a")
    assert batch.labels.tolist() == [0, 1, 2]
    assert batch.picture_sizes == ((HEIGHT, WIDTH),) * 3
    assert batch.pts_seconds.tolist() == [*np.arange(9) / 25, 0.0, *np.arange(3) / 25]
    assert batch.epoch == 3


@pytest.mark.parametrize(
    "change",
    [
        {"lengths": (9, 1)},
        {"lengths": (9, 1, 4)},
        {"ids": ("b", "f")},
        {"labels": torch.tensor([0])},
        {"picture_sizes": ((HEIGHT, WIDTH),)},
        {"pts_seconds": torch.zeros(2, dtype=torch.float64)},
        {"offsets": torch.tensor([0, 5])},
    ],
)
def test_batch_refuses_parts_that_do_not_fit(change: dict[str, object]) -> None:
    """A batch of mismatched parts cannot be built, and the message shows its shapes."""
    with pytest.raises(
        ValueError, match=r"parts of a batch do not fit together: FrameBatch\(videos="
    ):
        replace(_batch(["b", "f", "a"]), **change)  # type: ignore[arg-type]  # wrong on purpose


def test_batch_refuses_lost_bytes() -> None:
    """The last picture ends where the bytes end."""
    batch = _batch(["a"])
    with pytest.raises(
        ValueError,
        match=f"{len(batch.encoded) - 1} bytes, the last picture ends at {len(batch.encoded)}",
    ):
        replace(batch, encoded=batch.encoded[:-1])


def test_batch_shows_its_shapes() -> None:
    """Its repr tells what a debugger wants, not the bytes."""
    assert repr(_batch(["a", "f"])).startswith(
        "FrameBatch(videos=2, lengths=(3, 1), labels=(2,), offsets=(5,), num_bytes="
    )


def test_pictures_are_pillows() -> None:
    """Decoding equals Pillow's, up to the rounding of another JPEG decoder: 2 of 255 levels."""
    (clip,) = _batch(["a"]).clips(
        replace(VIEW, random=False, crop="center", crop_share=1.0, size=HEIGHT), device=CPU
    )
    seen = clip.pictures(range(3))
    left = (WIDTH - HEIGHT) // 2
    for frame, jpeg in enumerate(sample_pictures("a", 3)):
        picture = np.asarray(Image.open(io.BytesIO(jpeg)), dtype=np.float64)[
            :, left : left + HEIGHT
        ]
        expected = (picture / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        assert np.abs(seen[frame].permute(1, 2, 0).numpy() - expected).max() < 2 / 255 / 0.224


@given(st.lists(st.integers(0, 8), min_size=1, max_size=9))
def test_pictures_are_the_same_at_every_call(asked: list[int]) -> None:
    """A frame is the same to the bit, alone or among others, in any order: a second sweep sees it again."""
    (clip,) = _batch(["b"], epoch=1).clips(VIEW, device=CPU)
    whole = clip.pictures(range(clip.num_frames))
    assert torch.equal(clip.pictures(asked), whole[asked])


@pytest.mark.parametrize("threads", [1, 2, 4, 16])
def test_pictures_come_in_order_from_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """As many threads decode as torch computes with; each picture is where it was asked for."""
    (clip,) = _batch(["b"], epoch=1).clips(VIEW, device=CPU)
    expected = torch.cat([clip.pictures([frame]) for frame in range(9)])
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(clip.pictures(range(9)), expected)


def test_clips_do_not_depend_on_the_batch() -> None:
    """A video's frames, framing and cuts are the same alone and beside others."""
    (alone,) = _batch(["a"], epoch=2).clips(VIEW, device=CPU)
    beside = _batch(["b", "a", "f"], epoch=2).clips(VIEW, device=CPU)[1]
    assert beside.num_frames == alone.num_frames == 3
    assert beside.cut_key == alone.cut_key
    assert torch.equal(beside.pictures(range(3)), alone.pictures(range(3)))


def test_epochs_draw_anew() -> None:
    """Another epoch gives other cuts and, sooner or later, another crop."""
    clips = [_batch(["a"], epoch=epoch).clips(VIEW, device=CPU)[0] for epoch in range(5)]
    assert len({clip.cut_key for clip in clips}) == 5
    assert any(not torch.equal(clip.pictures([0]), clips[0].pictures([0])) for clip in clips)


@pytest.mark.parametrize(
    ("bad", "problem"), [(b"not a picture", "no JPEG header"), (None, "truncated")]
)
def test_picture_that_is_no_jpeg_is_named(bad: bytes | None, problem: str) -> None:
    """Bytes that pass every checksum but are no picture are an error with video and frames."""
    pictures = sample_pictures("a", 3)
    pictures[1] = bad or pictures[1][:-200]
    (clip,) = collate([(sample_video(pictures), 0, "clip 7", 0)]).clips(VIEW, device=CPU)
    with pytest.raises(FrameStoreError) as error:
        clip.pictures([0, 1])
    assert str(error.value).startswith("video 'clip 7': frames 0 to 1: cannot be decoded (")
    assert problem in str(error.value)


def test_picture_of_another_size_is_named() -> None:
    """A picture that is not as large as its store says would be cropped elsewhere: refused."""
    video = replace(sample_video(sample_pictures("a", 2)), width=WIDTH + 2)
    (clip,) = collate([(video, 0, "a", 0)]).clips(VIEW, device=CPU)
    with pytest.raises(FrameStoreError) as error:
        clip.pictures([1])
    assert str(error.value) == (
        "video 'a': frames 1 to 1: are (40, 48) px (height, width), the store says (40, 50); "
        "rerun fvar extract with --overwrite"
    )


def test_pick_frames_takes_what_is_named() -> None:
    """Bytes and times are those of the named frames, repeated where they are."""
    pictures = sample_pictures("b", 9)
    picked = pick_frames(sample_video(pictures), [0, 3, 3, 8])
    assert [picked.frame(n).tobytes() for n in range(4)] == [pictures[n] for n in (0, 3, 3, 8)]
    assert picked.pts_seconds.tolist() == [0, 3 / 25, 3 / 25, 8 / 25]
    assert (picked.width, picked.height, picked.fps) == (WIDTH, HEIGHT, 25.0)


@pytest.mark.parametrize("samples", [None, 4])
def test_workers_change_nothing(frames: Path, samples: int | None) -> None:
    """None, one or two workers give the same batches in the same order."""
    batches = [[(1, 3), (1, 0)], [(1, 5)], [(1, 4), (1, 1), (1, 2)]]
    loaded = [
        list(load_batches(_dataset(frames, samples=samples), batches, workers=workers))
        for workers in (0, 1, 2)
    ]
    assert [batch.ids for batch in loaded[0]] == [("d", "a"), ("f",), ("e", "b", "c")]
    for others in loaded[1:]:
        for one, other in zip(loaded[0], others, strict=True):
            assert (one.ids, one.lengths, one.epoch) == (other.ids, other.lengths, other.epoch)
            for name in ("encoded", "offsets", "labels", "pts_seconds"):
                assert torch.equal(getattr(one, name), getattr(other, name))


def test_sampled_videos_have_k_frames(frames: Path) -> None:
    """`uniform` reads k frames of each video: random ones in training, the middle ones in testing."""
    train = _dataset(frames, samples=4)
    assert [train[0, at][0].num_frames for at in range(6)] == [4] * 6
    drawn = {tuple(train[epoch, 4][0].pts_seconds) for epoch in range(10)}
    assert len(drawn) > 1
    assert all(len(set(times)) == 4 for times in drawn)
    test = _dataset(frames, samples=4, random=False)
    # 12 frames: segments 0..2, 3..5, 6..8, 9..11
    assert (test[0, 4][0].pts_seconds * 25).round().tolist() == [1, 4, 7, 10]


def test_batches_need_no_shared_memory(frames: Path) -> None:
    """Nothing read ahead lies in shared memory, of which a container has 64 MB: 4,000 frames."""
    for batch in load_batches(_dataset(frames), [[(0, 0)], [(0, 1), (0, 2)], [(0, 3)]], workers=2):
        for name in ("encoded", "offsets", "labels", "pts_seconds"):
            assert not getattr(batch, name).is_shared()


def test_a_video_alone_is_not_copied() -> None:
    """A batch of one video, which may be a long one, is that video's bytes themselves."""
    video = sample_video(sample_pictures("a", 3))
    assert np.shares_memory(collate([(video, 0, "a", 0)]).encoded.numpy(), video.jpeg)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_as_many_batches_are_ahead_as_workers(
    frames: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Memory is bounded: beside the batch in use, a batch a worker is read or being read, and no more."""
    read = []
    monkeypatch.setattr(VideoDataset, "batch", lambda _self, places: read.append(places))
    batches = [[(0, at)] for at in range(6)]
    loaded = load_batches(_dataset(frames), batches, workers=workers)
    for in_use in range(3):
        next(loaded)
        _wait_for(read, in_use + 1 + workers)
        time.sleep(0.02)  # for one too many
        assert sorted(read) == batches[: in_use + 1 + workers]
    loaded.close()


def test_leaving_early_ends_the_readers(frames: Path) -> None:
    """Who stops midway leaves no thread behind."""
    before = set(threading.enumerate())
    loaded = load_batches(_dataset(frames), [[(0, at)] for at in range(6)], workers=2)
    next(loaded)
    assert set(threading.enumerate()) > before
    loaded.close()
    assert set(threading.enumerate()) == before


def _wait_for(found: Sequence[object], number: int) -> None:
    deadline = time.monotonic() + 5
    while len(found) < number and time.monotonic() < deadline:
        time.sleep(0.001)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_error_arrives_as_it_was(frames: Path, workers: int) -> None:
    """A video that cannot be read is an error with its name, of its own class, from a worker too."""
    shard = "shards/shard-00000.h5"
    videos = [StoredVideo("a", shard, 0, 3), StoredVideo("lost", shard, 0, 3)]
    dataset = VideoDataset(frames, videos, VIEW)
    loaded = load_batches(dataset, [[(0, 0)], [(0, 0), (0, 1)]], workers=workers)
    assert next(loaded).ids == ("a",)
    with pytest.raises(FrameStoreError) as error:
        next(loaded)
    assert str(error.value).startswith(
        f"{frames / shard}: video 'lost': 'lost' is missing; it is damaged"
    )


def test_other_number_of_frames_is_refused(tmp_path: Path) -> None:
    """A shard that holds more or fewer frames than its manifest says is named with both numbers."""
    write_shard(tmp_path / "s.h5", [("a", sample_video(sample_pictures("a", 3)))])
    dataset = VideoDataset(tmp_path, [StoredVideo("a", "s.h5", 0, 4)], VIEW)
    assert len(dataset) == 1
    with pytest.raises(FrameStoreError) as error:
        dataset[0, 0]
    assert str(error.value) == (
        "s.h5: video 'a': holds 3 frames, the manifest says 4; rerun fvar extract with --overwrite"
    )
