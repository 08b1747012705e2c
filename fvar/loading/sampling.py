"""Random draws that depend on (seed, epoch, video) alone, and the order and size of batches.

Nothing depends on the batch a video is in, on the thread that reads it or on the number of processes. So a
second sweep, a resumed training and another machine draw the same.
"""

import hashlib
from collections.abc import Sequence

import numpy as np


def draw_key(*parts: object) -> int:
    """Return a seed in [0, 2**63) that depends on `parts` alone, e.g. seed, epoch, video id, purpose."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def uniform_frames(num_frames: int, num_samples: int, *, key: int | None) -> list[int]:
    """Return one frame from each of K equal segments: how TSN and TSM sample a video.

    Segment j is ``[floor(j*T/K), floor((j+1)*T/K))``. For T < K it may be empty; then frame ``floor(j*T/K)``
    is taken, so that every frame appears.

    Args:
        num_frames: T, at least 1.
        num_samples: K.
        key: Draw a random frame of each segment from this seed (training); None takes the middle (testing).

    Returns:
        K frame numbers in ascending order; some repeat where T < K.
    """
    edges = np.arange(num_samples + 1) * num_frames // num_samples
    starts, sizes = edges[:-1], np.maximum(np.diff(edges), 1)
    offsets = sizes // 2 if key is None else np.random.default_rng(key).integers(0, sizes)
    return [int(frame) for frame in starts + offsets]


def balanced_draw(labels: Sequence[int], *, seed: int, epoch: int) -> list[int]:
    """Return N positions in the N `labels`, drawn so that all classes are equally often among them.

    Classes differ by at most one, and so do the videos within a class. A rare class repeats its videos, a
    common one leaves some out of this epoch.

    Args:
        labels: Class of each video.
        seed: Of the training.
        epoch: Its number.
    """
    random = np.random.default_rng(draw_key(seed, epoch, "balance"))
    of_video = np.asarray(labels)
    turns = [random.permutation(np.flatnonzero(of_video == c)) for c in np.unique(of_video)]
    random.shuffle(turns)  # the classes that get one more than others
    count = len(turns)
    return [int(turns[n % count][n // count % len(turns[n % count])]) for n in range(len(labels))]


def epoch_batches(
    num_frames: Sequence[int],
    *,
    batch_size: int,
    frames_per_batch: int,
    seed: int,
    epoch: int,
    drawn: Sequence[int] | None = None,
) -> list[list[int]]:
    """Return the batches of an epoch: the videos in random order, each exactly once.

    Args:
        num_frames: T of each video.
        batch_size: Largest number of videos in a batch.
        frames_per_batch: Largest number of frames in a batch; a longer video is a batch of its own.
        seed: Of the training.
        epoch: Its number.
        drawn: The videos of the epoch, if it is not each once.

    Returns:
        Batches of positions in `num_frames`.
    """
    videos = range(len(num_frames)) if drawn is None else drawn
    order = np.random.default_rng(draw_key(seed, epoch, "order")).permutation(videos)
    batches: list[list[int]] = []
    room = 0
    for video in map(int, order):
        if not batches or len(batches[-1]) == batch_size or num_frames[video] > room:
            batches.append([])
            room = frames_per_batch
        batches[-1].append(video)
        room -= num_frames[video]
    return batches


def split_batch(
    batch: Sequence[int], num_frames: Sequence[int], *, world_size: int
) -> list[list[int]]:
    """Return the videos of `batch` that each process takes: longest first, each to the least loaded process.

    Every process computes the same result. A process may get no video.
    """
    parts: list[list[int]] = [[] for _ in range(world_size)]
    loads = [0] * world_size
    for video in sorted(batch, key=lambda v: (-num_frames[v], v)):
        least = loads.index(min(loads))
        parts[least].append(video)
        loads[least] += num_frames[video]
    return parts
