"""How sure a difference in accuracy is: bootstrap intervals over videos and McNemar's exact test."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f})"


def bootstrap(values: npt.NDArray[np.float64]) -> Interval:
    """Return the mean of one value per video, and the middle 95 % of the means of resampled videos."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the two-sided exact p of McNemar's test.

    Under the null hypothesis each video that one method alone recognizes is either method's by a fair coin.

    Args:
        only_first: Number of videos that the first method alone recognizes.
        only_second: Number of videos that the second method alone recognizes.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, count) for count in range(fewer + 1)) / 2**total
    return min(1.0, 2 * tail)
