"""How sure an accuracy or a difference is: bootstrap intervals over videos and McNemar's exact test.

Letters: N videos, S resamples, C classes.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_RESAMPLES = 10_000
_LEVELS = (0.025, 0.975)


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f})"


def bootstrap(values: npt.NDArray[np.float64]) -> Interval:
    """Return the mean of one value per video, (N,), and the middle 95 % of the means of resampled videos."""
    counts = _resamples(len(values))
    return _interval(float(values.mean()), counts @ values / len(values))


def bootstrap_class_mean(right: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> Interval:
    """Return the mean accuracy over classes, and the middle 95 % of it for resampled videos.

    Args:
        right: (N,), 1 where a video was recognized, else 0.
        labels: (N,), the class of each video.
    """
    counts = _resamples(len(right))
    of_class = labels[:, None] == np.unique(labels)  # (N, C)
    totals = counts @ of_class  # (S, C)
    accuracies = np.divide(
        counts @ (of_class * right[:, None]),
        totals,
        out=np.full(totals.shape, np.nan),
        where=totals > 0,
    )
    mean = float((right @ of_class / of_class.sum(axis=0)).mean())
    return _interval(mean, np.nanmean(accuracies, axis=1))


def _resamples(num_videos: int) -> npt.NDArray[np.float64]:
    """Return how often each video is in each resample, (S, N); the same for the same number of videos."""
    rng = np.random.default_rng(0)
    return rng.multinomial(num_videos, [1 / num_videos] * num_videos, _RESAMPLES).astype(np.float64)


def _interval(mean: float, resampled: npt.NDArray[np.float64]) -> Interval:
    low, high = np.quantile(resampled, _LEVELS)
    return Interval(mean, float(low), float(high))


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the two-sided exact p of McNemar's test.

    Under the null hypothesis each video that one method alone recognizes is either method's by a fair coin.

    Args:
        only_first: Number of videos that the first method alone recognizes.
        only_second: Number of videos that the second method alone recognizes.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, count) for count in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**total))
