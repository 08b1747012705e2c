"""The small charts over all videos: bars in the coordinates of an SVG of 360 x 190."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fvar.store.video_clusters import VideoClusters

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


def charts(videos: Sequence[VideoClusters]) -> list[Chart]:
    """Return the charts over all `videos` (at least one): how unequal clusters are, and how large.

    Fractions are those of the videos with the most clusters; shorter videos are cut into single frames.
    """
    most = max(video.num_clusters for video in videos)
    full = [video for video in videos if video.num_clusters == most]
    fractions = np.stack([video.sizes / video.num_frames for video in full])  # (videos, K)
    noun = "video" if len(full) == 1 else "videos"
    note = f"Median of {len(full):,} {noun}; whiskers: middle 80 %; dashed line: equal clusters"
    return [
        _fraction_chart(
            "Fraction of a video per cluster, largest first",
            np.sort(fractions, axis=1)[:, ::-1],
            note=note,
            x_title="rank, 1 is the largest",
            first=1,
        ),
        _fraction_chart(
            "Fraction of a video per cluster, in time",
            fractions,
            note=note,
            x_title="number of the cluster",
            first=0,
        ),
        _size_chart(videos),
    ]


def _fraction_chart(
    title: str, fractions: npt.NDArray[np.float64], *, note: str, x_title: str, first: int
) -> Chart:
    low, middle, high = np.quantile(fractions, (0.1, 0.5, 0.9), axis=0)
    top = _nice_ceiling(float(high.max()))
    bars = [
        _bar(
            i,
            fractions.shape[1],
            middle[i] / top,
            name=str(i + first),
            hint=f"{i + first}: median {middle[i]:.1%}, {low[i]:.1%} to {high[i]:.1%}",
            whisker=(_y(low[i] / top), _y(high[i] / top)),
        )
        for i in range(fractions.shape[1])
    ]
    equal = 1 / fractions.shape[1]
    ticks = [(_y(part), f"{100 * top * part:.4g} %") for part in (0, 0.5, 1)]
    return Chart(title, note, x_title, bars, ticks, rule=_y(equal / top))


def _size_chart(videos: Sequence[VideoClusters]) -> Chart:
    """Count clusters by size, in doubling ranges: 1, 2 to 3, 4 to 7, ..."""
    counts = Counter(size.bit_length() - 1 for video in videos for size in video.sizes.tolist())
    ranges = range(max(counts) + 1)
    top = _nice_ceiling(max(counts.values()), whole=True)
    names = [
        "1" if power == 0 else f"{2**power}\N{EN DASH}{2 ** (power + 1) - 1}" for power in ranges
    ]
    bars = [
        _bar(
            i,
            len(names),
            counts[i] / top,
            name=names[i] if len(names) <= 7 else f"{2**i}+",
            hint=f"{counts[i]:,} clusters of {names[i]} frames",
        )
        for i in ranges
    ]
    ticks = [(_y(part), f"{top * part:,.4g}") for part in (0, 0.5, 1)]
    note = f"Number of clusters of each size, {sum(counts.values()):,} in all"
    return Chart("Sizes of all clusters", note, "frames in a cluster", bars, ticks)


def _bar(
    index: int,
    number: int,
    part: float,
    *,
    name: str,
    hint: str,
    whisker: tuple[float, float] | None = None,
) -> Bar:
    """Return bar `index` of `number` bars; its height is the fraction `part` of the plot."""
    pitch = _PLOT_WIDTH / number
    is_named = index % math.ceil(number / _MAX_NAMES) == 0
    return Bar(
        x=round(LEFT + (index + 0.14) * pitch, 2),
        y=_y(part),
        width=round(0.72 * pitch, 2),
        height=round(_PLOT_HEIGHT * part, 2),
        name=name if is_named else "",
        hint=hint,
        whisker=whisker,
    )


def _y(part: float) -> float:
    return round(TOP + _PLOT_HEIGHT * (1 - part), 2)


def _nice_ceiling(value: float, *, whole: bool = False) -> float:
    """Return the smallest number not below `value` (positive) that is 1, 2, 4 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    if whole and value <= 2:
        return 2
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value)
