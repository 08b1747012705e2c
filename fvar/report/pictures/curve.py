"""The curve of a video's change over time, with its clusters as colored bands."""

import math

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.ticker import MaxNLocator

from fvar.report.colors import FAINT_INK, INK, RULE, cluster_color
from fvar.store.clusters.video_clusters import VideoClusters

_BARS = "#98a1aa"


def time_limits(clusters: VideoClusters) -> tuple[float, float]:
    """Return the limits of the time axis in seconds; a video without duration gets one second."""
    start = float(clusters.pts_seconds[0])
    return start, start + (clusters.duration_seconds or 1.0)


def draw_curve(axes: Axes, clusters: VideoClusters, *, width_px: int) -> None:
    """Draw a band per cluster, a bar per step distance, and the line of the cumulative change.

    Args:
        axes: To draw on, `width_px` pixels wide.
        clusters: The clusters and their step distances.
        width_px: With more steps than pixels, a bar shows the largest of several steps.
    """
    axes.set_xlim(time_limits(clusters))
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("seconds", fontsize=11, color=FAINT_INK, labelpad=4)
    axes.set_ylabel("change of pattern\n(fraction of bits)", fontsize=11, color=INK)
    axes.yaxis.set_label_coords(-56 / width_px, 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=3))
    _quiet(axes)
    _draw_bands(axes, clusters)
    if clusters.num_frames > 1:
        values, edges = _bars(clusters, most=width_px)
        axes.stairs(values, edges, fill=True, color=_BARS, linewidth=0)
    highest = float(clusters.normalized_distances.max(initial=0.0))
    axes.set_ylim(0, highest * 1.12 or 1.0)
    if highest == 0:
        text = "nothing changes" if clusters.num_frames > 1 else "a single frame"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=FAINT_INK)
    _draw_cumulative(axes, clusters, width_px=width_px)


def _draw_bands(axes: Axes, clusters: VideoClusters) -> None:
    """Draw all bands as one artist, and all their boundaries: one per cluster takes several times as long."""
    colors = [
        to_rgba(cluster_color(j, clusters.num_clusters), (0.1, 0.22)[j % 2])
        for j in range(clusters.num_clusters)
    ]
    starts, whole = clusters.start_seconds, axes.get_xaxis_transform()
    spans = list(zip(starts, clusters.stop_seconds - starts, strict=True))
    axes.broken_barh(spans, (0, 1), facecolors=colors, linewidth=0, transform=whole)
    axes.vlines(starts[1:], 0, 1, colors=INK, linewidth=0.8, alpha=0.55, transform=whole)


def _bars(
    clusters: VideoClusters, *, most: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return heights (n,) and edges (n + 1,) of bars; each bar surrounds the time of the later frame.

    With more than `most` steps, a bar shows the largest of several steps, so that no peak is lost.
    """
    times = clusters.pts_seconds
    edges = np.append((times[:-1] + times[1:]) / 2, times[-1] + clusters.frame_seconds / 2)
    values = clusters.normalized_distances
    first = np.arange(0, len(values), math.ceil(len(values) / most))
    return np.maximum.reduceat(values, first), np.append(edges[first], edges[-1])


def _draw_cumulative(axes: Axes, clusters: VideoClusters, *, width_px: int) -> None:
    fractions = clusters.cumulative_fractions
    right = axes.twinx()
    right.plot(clusters.pts_seconds, fractions, color=INK, linewidth=1.5)
    right.plot(
        clusters.start_seconds,
        fractions[clusters.starts],
        linestyle="none",
        marker="o",
        markersize=5.5,
        markerfacecolor="white",
        markeredgecolor=INK,
        clip_on=False,
    )
    right.set(ylim=(0, 1.06), yticks=(0, 0.5, 1))
    right.set_ylabel("change so far", fontsize=11, color=INK)
    right.yaxis.set_label_coords(1 + 54 / width_px, 0.5)
    _quiet(right)


def _quiet(axes: Axes) -> None:
    axes.tick_params(labelsize=10, colors=FAINT_INK, length=3)
    axes.yaxis.set_major_formatter(lambda fraction, _: f"{100 * fraction:.4g} %")
    for side in axes.spines.values():
        side.set_color(RULE)
