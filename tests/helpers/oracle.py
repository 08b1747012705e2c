"""The method as slow Python, written from its definitions: the reference for the tests.

Lists and loops, no tensors. Letters: T frames, K clusters; ``steps`` are the T-1 distances of each frame to
the next.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np


def step_distances(activations: np.ndarray) -> list[int]:
    """Return how many signs ``x > 0`` differ between each frame and the next: (T, ...) -> T-1 integers."""
    patterns = [[bool(value > 0) for value in frame.ravel()] for frame in activations]
    return [
        sum(a != b for a, b in zip(now, then, strict=True))
        for now, then in itertools.pairwise(patterns)
    ]


def even(num_frames: int, k: int) -> list[int]:
    """Return ``b[j] = floor(j*T/K)`` for j = 0..K."""
    return [j * num_frames // k for j in range(k + 1)]


def crossings(steps: Sequence[int], k: int) -> list[int]:
    """Return ``raw[j]``, the first t with ``K*D[t] > j*D[T-1]``, for j = 1..K-1, by looking at every t."""
    cumulated = list(itertools.accumulate(steps, initial=0))
    return [
        next(t for t in range(len(cumulated)) if k * cumulated[t] > j * cumulated[-1])
        for j in range(1, k)
    ]


def spread(raw: Sequence[int], num_frames: int) -> list[int]:
    """Return ``b[j] = min(max(j, max over i<=j of (raw[i]-i) + j), T-K+j)`` for j = 1..K-1."""
    k = len(raw) + 1
    return [
        min(max(j, max(raw[i - 1] - i for i in range(1, j + 1)) + j), num_frames - k + j)
        for j in range(1, k)
    ]


def earliest_cuts(raw: Sequence[int], num_frames: int) -> list[int]:
    """Return `spread` by trying every way to cut: the earliest cuts that leave no cluster empty.

    No cut comes before its crossing, unless the clusters after it would not all fit.
    """
    k = len(raw) + 1
    floors = [min(crossing, num_frames - k + j) for j, crossing in enumerate(raw, start=1)]
    allowed = [
        cuts
        for cuts in itertools.combinations(range(1, num_frames), k - 1)
        if all(cut >= floor for cut, floor in zip(cuts, floors, strict=True))
    ]
    return [min(cuts[j] for cuts in allowed) for j in range(k - 1)]


def cumulative(steps: Sequence[int], k: int) -> list[int]:
    """Return the boundaries ``b[0..K]`` of cumulative clustering, for T >= K."""
    num_frames = len(steps) + 1
    if sum(steps) == 0:
        return even(num_frames, k)
    return [0, *spread(crossings(steps, k), num_frames), num_frames]


def slope(steps: Sequence[int], k: int) -> list[int]:
    """Return the boundaries of slope clustering, T >= K: the K-1 largest steps, of equal ones the earlier."""
    num_frames = len(steps) + 1
    if sum(steps) == 0:
        return even(num_frames, k)
    largest = sorted(range(num_frames - 1), key=lambda t: (-steps[t], t))[: k - 1]
    return [0, *sorted(t + 1 for t in largest), num_frames]


def positions(steps: Sequence[int]) -> list[int]:
    """Return the frames of a video as numbers that lie the steps apart, to be descriptors with D = 1.

    Steps are taken modulo 1000: sums of squares then stay exact in float64.
    """
    return list(itertools.accumulate((step % 1000 for step in steps), initial=0))


def gain(left: Sequence[int], right: Sequence[int]) -> Fraction:
    """Return how much less is the squared distance of two groups of numbers to two means than to one."""
    return _squared_distance([*left, *right]) - _squared_distance(left) - _squared_distance(right)


def _squared_distance(numbers: Sequence[int]) -> Fraction:
    mean = Fraction(sum(numbers), len(numbers))
    return sum(((number - mean) ** 2 for number in numbers), start=Fraction(0))


def variance(steps: Sequence[int], k: int) -> list[int]:
    """Return the boundaries of greedy splitting, T >= K: of equal gains the earlier, a still video `even`."""
    frames = positions(steps)
    if not any(frames):
        return even(len(frames), k)
    bounds = [0, len(frames)]
    while len(bounds) <= k:
        found = [
            (gain(frames[start:cut], frames[cut:stop]), -cut)
            for start, stop in itertools.pairwise(bounds)
            for cut in range(start + 1, stop)
        ]
        bounds = sorted([*bounds, -max(found)[1]])
    return bounds


def windowed(steps: Sequence[int], k: int) -> list[int]:
    """Return the boundaries of windowed clustering, for T >= K: windows of 4 frames, 1.5 x lower quartile."""
    frames = positions(steps)
    change = [
        math.sqrt(gain(frames[max(0, cut - 4) : cut], frames[cut : cut + 4]))
        for cut in range(1, len(frames))
    ]
    if not any(change):
        return even(len(frames), k)
    floor = 1.5 * sorted(change)[(len(change) - 1) // 4]
    above = [max(0.0, size - floor) for size in change]
    unit = max(*above, 1e-30) / 2**24
    return cumulative([round(size / unit) for size in above], k)


BOUNDARIES: dict[str, Callable[[Sequence[int], int], list[int]]] = {
    "cumulative": cumulative,
    "slope": slope,
    "variance": variance,
    "windowed": windowed,
    "even": lambda steps, k: even(len(steps) + 1, k),
}


def clusters(method: str, steps: Sequence[int], k: int) -> list[tuple[int, int]]:
    """Return the frames ``[start, stop)`` of each of the K clusters."""
    num_frames = len(steps) + 1
    if num_frames < k:
        return [(j * num_frames // k, j * num_frames // k + 1) for j in range(k)]
    return list(itertools.pairwise(BOUNDARIES[method](steps, k)))


def means(activations: np.ndarray, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the mean of the frames of each span, summed one by one in float64: (T, ...) -> (K, ...)."""
    wide = activations.astype(np.float64)
    return np.stack([sum(wide[start:stop]) / (stop - start) for start, stop in spans])


def temporal_shift(x: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Return the shifted representations of videos one after the other: (R, C, ...), R = sum of `counts`."""
    fold, shifted, first = x.shape[1] // 8, x.copy(), 0
    for count in counts:
        for at, channel in itertools.product(range(count), range(2 * fold)):
            source = at + 1 if channel < fold else at - 1
            inside = 0 <= source < count
            shifted[first + at, channel] = x[first + source, channel] if inside else 0.0
        first += count
    return shifted
