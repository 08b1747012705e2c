"""The small charts over all videos: bars in the coordinates of an SVG of 360 x 190."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 12, 34
_PLOT_WIDTH, _PLOT_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
_MAX_NAMES = 16  # names under the bars that fit side by side


@dataclass(frozen=True)
class Bar:
    """One bar in SVG units; `whisker` is the range of the middle 80 %, `hint` gives the numbers."""

    x: float
    y: float
    width: float
    height: float
    name: str
    hint: str
    whisker: tuple[float, float] | None = None


@dataclass(frozen=True)
class Chart:
    """A bar chart; `ticks` are (y, text), `rule` is the y of a dashed line."""

    title: str
    note: str
    x_title: str
    bars: list[Bar]
    ticks: list[tuple[float, str]]
    rule: float | None = None


def charts(videos: Sequence[Sequence[int]]) -> list[Chart]:
    """Return the charts over the sizes of the clusters of all `videos`: how unequal they are, and how large.

    Fractions are those of the videos with the most clusters; shorter videos are cut into single frames.
    """
    most = max(len(sizes) for sizes in videos)
    full = [np.array(sizes) for sizes in videos if len(sizes) == most]
    in_time = np.stack([sizes / sizes.sum() for sizes in full])  # (videos, K)
    by_rank = np.sort(in_time, axis=1)[:, ::-1]
    titles = "Fraction of a video per cluster, largest first", "rank, 1 is the largest"
    largest_first = _fraction_chart(*titles, by_rank, first=1)
    titles = "Fraction of a video per cluster, in time", "number of the cluster"
    return [largest_first, _fraction_chart(*titles, in_time, first=0), _size_chart(videos)]


def _fraction_chart(
    title: str, x_title: str, fractions: npt.NDArray[np.float64], *, first: int
) -> Chart:
    """Draw the median of each column of `fractions`, (videos, K); columns are numbered from `first`."""
    num_videos, num_clusters = fractions.shape
    noun = "video" if num_videos == 1 else "videos"
    note = f"Median of {num_videos:,} {noun}; whiskers: middle 80 %; dashed line: equal clusters"
    low, middle, high = np.quantile(fractions, (0.1, 0.5, 0.9), axis=0)
    top = _nice_ceiling(float(high.max()))
    names = [str(i + first) for i in range(num_clusters)]
    hints = [
        f"{name}: median {middle[i]:.1%}, {low[i]:.1%} to {high[i]:.1%}"
        for i, name in enumerate(names)
    ]
    whiskers = [(_y(a / top), _y(b / top)) for a, b in zip(low, high, strict=True)]
    bars = _bars(middle / top, names, hints, whiskers)
    ticks = [(_y(part), f"{100 * top * part:.4g} %") for part in (0, 0.5, 1)]
    return Chart(title, note, x_title, bars, ticks, rule=_y(1 / num_clusters / top))


def _size_chart(videos: Sequence[Sequence[int]]) -> Chart:
    """Count clusters by size, in doubling ranges: 1, 2 to 3, 4 to 7, ..."""
    counts = Counter(size.bit_length() - 1 for sizes in videos for size in sizes)
    powers = range(max(counts) + 1)
    top = _nice_ceiling(max(2, *counts.values()))  # half of it is a tick, and whole
    spans = [f"{2**power}\N{EN DASH}{2 ** (power + 1) - 1}" if power else "1" for power in powers]
    names = spans if len(spans) <= 7 else [f"{2**power}+" for power in powers]
    hints = [f"{counts[power]:,} clusters of {spans[power]} frames" for power in powers]
    bars = _bars([counts[power] / top for power in powers], names, hints)
    ticks = [(_y(part), f"{top * part:,.10g}") for part in (0, 0.5, 1)]
    note = f"Number of clusters of each size, {counts.total():,} in all"
    return Chart("Sizes of all clusters", note, "frames in a cluster", bars, ticks)


def _bars(
    parts: Iterable[float],
    names: Sequence[str],
    hints: Sequence[str],
    whiskers: Iterable[tuple[float, float] | None] = repeat(None),
) -> list[Bar]:
    """Return bars side by side, each as high as its fraction of the plot in `parts`."""
    pitch = _PLOT_WIDTH / len(names)
    every = math.ceil(len(names) / _MAX_NAMES)
    return [
        Bar(
            x=round(LEFT + (i + 0.14) * pitch, 2),
            y=_y(part),
            width=round(0.72 * pitch, 2),
            height=round(_PLOT_HEIGHT * part, 2),
            name=names[i] if i % every == 0 else "",
            hint=hints[i],
            whisker=whisker,
        )
        for i, (part, whisker) in enumerate(zip(parts, whiskers, strict=False))
    ]


def _y(part: float) -> float:
    return round(TOP + _PLOT_HEIGHT * (1 - part), 2)


def _nice_ceiling(value: float) -> float:
    """Return the smallest number not below `value` (positive) that is 1, 2, 4 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value)
