"""Sampling: drawn from (seed, epoch, video) alone, with every video and every segment where it belongs."""

from itertools import chain

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fvar.loading.sampling import (
    balanced_draw,
    draw_key,
    epoch_batches,
    split_batch,
    uniform_frames,
)

lengths = st.lists(st.integers(1, 500), min_size=1, max_size=40)
seeds = st.integers(0, 2**63 - 1)


def _batches(
    num_frames: list[int], *, seed: int = 0, epoch: int = 0, size: int = 4, frames: int = 600
) -> list[list[int]]:
    return epoch_batches(
        num_frames, batch_size=size, frames_per_batch=frames, seed=seed, epoch=epoch
    )


def _flat(lists: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


@given(st.integers(1, 400), st.integers(1, 40), st.none() | seeds)
def test_uniform_frames_are_one_of_each_segment(t: int, k: int, key: int | None) -> None:
    """Frame j lies in [floor(jT/k), floor((j+1)T/k)); an empty segment shows the frame it starts at."""
    frames = uniform_frames(t, k, key=key)
    assert len(frames) == k
    for j, frame in enumerate(frames):
        start, stop = j * t // k, (j + 1) * t // k
        assert start <= frame < max(stop, start + 1) <= t


@given(st.integers(1, 40), st.integers(0, 40), st.none() | seeds)
def test_uniform_frames_of_a_short_video_show_every_frame(
    t: int, more: int, key: int | None
) -> None:
    """With T <= k no frame is left out, and row j shows frame floor(j*T/k)."""
    assert uniform_frames(t, t + more, key=key) == [j * t // (t + more) for j in range(t + more)]


def test_uniform_frames_in_testing_are_the_middles() -> None:
    """Of 16 frames in 4 segments: 0..3, 4..7, 8..11, 12..15, by hand."""
    assert uniform_frames(16, 4, key=None) == [2, 6, 10, 14]
    assert uniform_frames(10, 3, key=None) == [1, 4, 8]


def test_uniform_frames_in_training_reach_every_frame() -> None:
    """Over many draws every frame of a segment is taken, none much more often than another."""
    drawn = np.array([uniform_frames(12, 3, key=draw_key(0, n)) for n in range(2000)])
    counts = np.bincount(drawn[:, 1], minlength=12)
    assert set(np.flatnonzero(counts)) == {4, 5, 6, 7}
    assert abs(counts[4:8] - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)  # 5 standard deviations


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), seeds, st.integers(0, 99))
def test_a_balanced_draw_holds_all_classes_equally_often(
    labels: list[int], seed: int, epoch: int
) -> None:
    """As many draws as videos; classes differ by one at most, and so do the videos of a class."""
    drawn = balanced_draw(labels, seed=seed, epoch=epoch)
    assert len(drawn) == len(labels)
    times = np.bincount(drawn, minlength=len(labels))
    classes = np.unique(labels)
    per_class = [times[np.equal(labels, c)].sum() for c in classes]
    assert max(per_class) - min(per_class) <= 1
    for c in classes:
        assert np.ptp(times[np.equal(labels, c)]) <= 1
    assert drawn == balanced_draw(labels, seed=seed, epoch=epoch)


def test_a_balanced_draw_differs_by_epoch_and_reaches_every_video() -> None:
    """What a common class leaves out of one epoch comes in another."""
    labels = [0] * 30 + [1] * 2
    draws = [balanced_draw(labels, seed=0, epoch=epoch) for epoch in range(20)]
    assert len({tuple(drawn) for drawn in draws}) == 20
    assert set(_flat(draws)) == set(range(32))
    batches = _flat(
        epoch_batches([5] * 32, batch_size=4, frames_per_batch=600, seed=0, epoch=0, drawn=draws[0])
    )
    assert sorted(batches) == sorted(draws[0])


@given(lengths, st.integers(1, 8), st.integers(1, 1200), seeds, st.integers(0, 99))
def test_epoch_batches_hold_every_video_once(
    num_frames: list[int], size: int, frames: int, seed: int, epoch: int
) -> None:
    """No video is dropped or repeated, no batch is empty, and both bounds hold but for a long video alone."""
    batches = _batches(num_frames, seed=seed, epoch=epoch, size=size, frames=frames)
    assert sorted(video for batch in batches for video in batch) == list(range(len(num_frames)))
    for batch in batches:
        assert 1 <= len(batch) <= size
        assert len(batch) == 1 or sum(num_frames[video] for video in batch) <= frames


@given(lengths, lengths, st.integers(1, 8), seeds, st.integers(0, 99))
def test_order_depends_on_seed_and_epoch_only(
    a: list[int], b: list[int], size: int, seed: int, epoch: int
) -> None:
    """The same number of videos comes in the same order, whatever their lengths and batches."""
    n = min(len(a), len(b))
    one = _batches(a[:n], seed=seed, epoch=epoch, size=size)
    two = _batches(b[:n], seed=seed, epoch=epoch)
    assert _flat(one) == _flat(two)


def test_order_changes_with_seed_and_epoch() -> None:
    """Another epoch and another seed give another order; the same ones give the same order."""
    orders = {
        (seed, epoch): tuple(_flat(_batches([1] * 30, seed=seed, epoch=epoch)))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(set(orders.values())) == 9
    assert orders[1, 2] == tuple(_flat(_batches([1] * 30, seed=1, epoch=2)))


@given(lengths, st.integers(1, 8), st.randoms())
def test_a_split_batch_is_a_balanced_partition(
    num_frames: list[int], world_size: int, random: object
) -> None:
    """Every video goes to one process; no load exceeds the least by more than the part's shortest video.

    The shortest came last, to the process that had the least then. The order of the batch changes nothing.
    """
    batch = list(range(len(num_frames)))
    parts = split_batch(batch, num_frames, world_size=world_size)
    assert sorted(_flat(parts)) == batch
    loads = [sum(num_frames[video] for video in part) for part in parts]
    for part, load in zip(parts, loads, strict=True):
        assert load - min(loads) <= min((num_frames[video] for video in part), default=0)
    random.shuffle(batch)  # type: ignore[attr-defined]  # hypothesis' Random
    assert split_batch(batch, num_frames, world_size=world_size) == parts


def test_a_split_batch_by_hand() -> None:
    """Longest first, each to the least loaded: 9 | 7, 5 -> 12 | 9 takes 4 -> 13 | 12 takes 3."""
    num_frames = [4, 9, 5, 3, 7]
    assert split_batch(range(5), num_frames, world_size=2) == [[1, 0], [4, 2, 3]]
    assert split_batch([2], num_frames, world_size=2) == [[2], []]


PARTS = st.tuples(seeds, st.integers(0, 99), st.text(max_size=5))


@given(st.lists(PARTS, min_size=2, max_size=9, unique=True))
def test_keys_are_a_function_of_their_parts(parts: list[tuple[int, int, str]]) -> None:
    """Equal parts give the equal key, in 0..2**63-1; different parts give different keys."""
    keys = [draw_key(*part, "crop") for part in parts]
    assert keys == [draw_key(*part, "crop") for part in parts]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**63 for key in keys)


def test_key_is_pinned() -> None:
    """A key never changes between versions: resumed trainings draw what they drew.

    The number is the first 63 bits of SHA-256 of "0", 0x1f, "3", 0x1f, "clip", by sha256sum.
    """
    assert draw_key(0, 3, "clip") == int("215f61180be487e1", 16) >> 1
