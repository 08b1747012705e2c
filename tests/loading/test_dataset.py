"""Datasets and batches: every byte arrives, threads change nothing, and an error arrives as it was raised."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_samples import HEIGHT, ROWS, WIDTH, sample_pictures, sample_video, write_frames
from training_samples import tiny_config as config

from fvar.errors import FrameStoreError
from fvar.loading.batch import load_batches
from fvar.loading.dataset import StoredVideo, VideoDataset, pick_frames
from fvar.loading.view import View, evaluation_view, training_view
from fvar.store.frame_store import write_shard

CPU = torch.device("cpu")
VIEW = training_view(config(), epoch=0)
SAMPLED = replace(VIEW, num_samples=4)
TRAIN = [row for row in ROWS if row.split == "train"]  # a to f, four in a shard
VIDEOS = [
    StoredVideo(row.id, f"shards/shard-0000{at // 4}.h5", at % 3, row.num_frames)
    for at, row in enumerate(TRAIN)
]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small extraction; no test writes into it."""
    return write_frames(tmp_path_factory.mktemp("run") / "frames")


def _dataset(
    folder: Path, view: View = VIEW, videos: Sequence[StoredVideo] = VIDEOS
) -> VideoDataset:
    return VideoDataset(folder, videos, view, device=CPU)


def test_a_batch_keeps_every_byte(frames: Path) -> None:
    """Clips are in the batch's order and as they were stored, with ids, labels and numbers of frames."""
    (batch,) = load_batches(_dataset(frames), [[(3, 1), (3, 5), (3, 0)]], workers=0)
    found = [(clip.id, clip.label, clip.num_frames) for clip in batch]
    assert found == [("b", 1, 9), ("f", 2, 1), ("a", 0, 3)]
    for clip in batch:
        pictures = sample_pictures(clip.id, clip.num_frames)
        assert [clip.video.frame(at).tobytes() for at in range(clip.num_frames)] == pictures


def test_clips_do_not_depend_on_the_batch(frames: Path) -> None:
    """A video's frames, framing and cuts are the same alone and beside others."""
    batches = load_batches(_dataset(frames), [[(2, 0)], [(2, 1), (2, 0), (2, 5)]], workers=0)
    alone, beside = next(batches)[0], next(batches)[1]
    assert (beside.id, beside.cut_key, beside.framing) == (alone.id, alone.cut_key, alone.framing)
    assert torch.equal(beside.pictures(range(3)), alone.pictures(range(3)))


def test_pick_frames_takes_the_named_ones() -> None:
    """Bytes and times are those of the named frames, repeated where they are."""
    pictures = sample_pictures("b", 9)
    picked = pick_frames(sample_video(pictures), [0, 3, 3, 8])
    assert [picked.frame(n).tobytes() for n in range(4)] == [pictures[n] for n in (0, 3, 3, 8)]
    assert picked.pts_seconds.tolist() == [0, 3 / 25, 3 / 25, 8 / 25]
    assert (picked.width, picked.height, picked.fps) == (WIDTH, HEIGHT, 25.0)


def test_sampled_videos_have_k_frames(frames: Path) -> None:
    """`uniform` keeps k frames of each video: random ones in training, the middle ones in testing."""
    train = _dataset(frames, SAMPLED)
    assert [train[0, at].num_frames for at in range(6)] == [4] * 6
    drawn = {tuple(train[epoch, 4].video.pts_seconds) for epoch in range(10)}
    assert len(drawn) > 1
    assert all(len(set(times)) == 4 for times in drawn)
    test = _dataset(frames, evaluation_view(config(clustering="uniform")))
    # 12 frames: segments 0..2, 3..5, 6..8, 9..11
    assert (test[0, 4].video.pts_seconds * 25).round().tolist() == [1, 4, 7, 10]


@pytest.mark.parametrize("view", [VIEW, SAMPLED])
def test_workers_change_nothing(frames: Path, view: View) -> None:
    """None, one or two workers give the same batches in the same order."""
    batches = [[(1, 3), (1, 0)], [(1, 5)], [], [(1, 4), (1, 1), (1, 2)]]
    loaded = [
        [
            [(clip.id, clip.framing, clip.video.checksum()) for clip in batch]
            for batch in load_batches(_dataset(frames, view), batches, workers=workers)
        ]
        for workers in (0, 1, 2)
    ]
    assert [[clip[0] for clip in batch] for batch in loaded[0]] == [[*"da"], ["f"], [], [*"ebc"]]
    assert loaded[0] == loaded[1] == loaded[2]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_as_many_batches_are_ahead_as_workers(
    frames: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Memory is bounded: beside the batch in use, one batch per worker is read or being read, no more."""
    read = list[tuple[int, int]]()
    monkeypatch.setattr(VideoDataset, "__getitem__", lambda _self, at: read.append(at))
    places = [(0, at) for at in range(6)]
    loaded = load_batches(_dataset(frames), [[place] for place in places], workers=workers)
    for in_use in range(3):
        next(loaded)
        _wait_for(read, in_use + 1 + workers)
        time.sleep(0.02)  # for one too many
        assert sorted(read) == places[: in_use + 1 + workers]
    loaded.close()


def _wait_for(found: Sequence[object], number: int) -> None:
    deadline = time.monotonic() + 5
    while len(found) < number and time.monotonic() < deadline:
        time.sleep(0.001)


def test_leaving_early_ends_the_readers(frames: Path) -> None:
    """A caller that stops midway leaves no thread behind."""
    before = set(threading.enumerate())
    loaded = load_batches(_dataset(frames), [[(0, at)] for at in range(6)], workers=2)
    next(loaded)
    assert set(threading.enumerate()) > before
    loaded.close()
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_arrives_as_it_was(frames: Path, workers: int) -> None:
    """A video that cannot be read is an error with its name, of its own class, when its batch is due."""
    videos = [VIDEOS[0], replace(VIDEOS[0], id="lost")]
    loaded = load_batches(
        _dataset(frames, videos=videos), [[(0, 0)], [(0, 0), (0, 1)]], workers=workers
    )
    assert [clip.id for clip in next(loaded)] == ["a"]
    with pytest.raises(FrameStoreError) as error:
        next(loaded)
    assert error.value.thing == f"{frames / VIDEOS[0].shard}: video 'lost'"


def test_other_number_of_frames_is_refused(tmp_path: Path) -> None:
    """A shard that holds more or fewer frames than its manifest says is named with both numbers."""
    write_shard(tmp_path / "s.h5", [("a", sample_video(sample_pictures("a", 3)))])
    dataset = _dataset(tmp_path, videos=[StoredVideo("a", "s.h5", 0, 4)])
    assert len(dataset) == 1
    with pytest.raises(FrameStoreError, match="holds 3 frames, the manifest says 4") as error:
        dataset[0, 0]
    assert error.value.thing == "s.h5: video 'a'"
