"""The picture of what windows of a long video show: scores over time, segments, and frames.

Letters: C classes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fvar.report.colors import FAINT_INK, INK, RULE, ink_on, line_color
from fvar.report.pictures.thumbnails import Picture
from fvar.store.files import atomic_path

_WIDTH_INCHES, _HEIGHT_INCHES, _DPI = 14.0, 4.6, 100
_NUM_FRAMES = 12
_THUMBNAIL = (220, 220)  # px
_LABEL_CHARACTERS_PER_SHARE = 150  # that fit into the whole width


class Part(Protocol):
    """A window or a segment."""

    @property
    def start_seconds(self) -> float:
        """When it begins."""

    @property
    def stop_seconds(self) -> float:
        """When it ends."""

    @property
    def label(self) -> str:
        """The leading class."""

    @property
    def probability(self) -> float:
        """Its score."""

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """(C,), of all classes."""


def write_timeline(
    path: Path,
    windows: Sequence[Part],
    segments: Sequence[Part],
    classes: Sequence[str],
    *,
    title: str,
    pts_seconds: npt.NDArray[np.float64],
    picture: Callable[[int, tuple[int, int]], Picture],
) -> None:
    """Write a PNG: a line per class over time, the segments as bands, and frames below.

    Args:
        path: The file.
        windows: In order, at least one.
        segments: What they were merged to.
        classes: Names of the classes; each has its color.
        title: Above the picture.
        pts_seconds: (T,), the times of the video's frames.
        picture: Takes a frame's number and a size; returns its picture.

    Raises:
        StoppedError: The disk is full.
    """
    figure = Figure(figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), dpi=_DPI, layout="constrained")
    heights = {"height_ratios": (2.6, 0.5, 1.3)}
    scores, bands, frames = figure.subplots(3, 1, gridspec_kw=heights)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK, parse_math=False)
    limits = (
        windows[0].start_seconds,
        max(windows[-1].stop_seconds, windows[0].start_seconds + 1e-3),
    )
    _draw_scores(scores, windows, classes, limits)
    _draw_segments(bands, segments, classes, limits)
    _draw_frames(frames, pts_seconds, limits, picture)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_scores(
    axes: Axes, windows: Sequence[Part], classes: Sequence[str], limits: tuple[float, float]
) -> None:
    """Draw the score of each class that leads in some window; the other lines would hide them."""
    middles = [(w.start_seconds + w.stop_seconds) / 2 for w in windows]
    leading = {window.label for window in windows}
    for number, name in enumerate(classes):
        if name in leading:
            line = [float(window.scores[number]) for window in windows]
            axes.plot(middles, line, color=line_color(number), label=name, marker=".")
    axes.set_xlim(limits)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("probability", color=INK)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("seconds", fontsize=10, color=FAINT_INK)
    axes.tick_params(colors=FAINT_INK)
    axes.grid(color=RULE, linewidth=0.5)
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _draw_segments(
    axes: Axes, segments: Sequence[Part], classes: Sequence[str], limits: tuple[float, float]
) -> None:
    axes.set_xlim(limits)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_xticks([])
    axes.set_ylabel("segments", color=INK, rotation=0, ha="right", va="center")
    for segment in segments:
        color = line_color(classes.index(segment.label))
        width = segment.stop_seconds - segment.start_seconds
        axes.broken_barh([(segment.start_seconds, width)], (0, 1), facecolors=color)
        room = width / (limits[1] - limits[0]) * _LABEL_CHARACTERS_PER_SHARE
        if len(segment.label) < room:
            middle = segment.start_seconds + width / 2
            style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 9}
            axes.text(middle, 0.5, segment.label, color=ink_on(color), parse_math=False, **style)
    if not segments:
        middle = sum(limits) / 2
        axes.text(
            middle, 0.5, "none above the threshold", ha="center", va="center", color=FAINT_INK
        )


def _draw_frames(
    axes: Axes,
    pts_seconds: npt.NDArray[np.float64],
    limits: tuple[float, float],
    picture: Callable[[int, tuple[int, int]], Picture],
) -> None:
    """Draw frames at even distances, each from its own time on."""
    axes.set_xlim(limits)
    axes.set_ylim(0, 1)
    axes.set_axis_off()
    step = (limits[1] - limits[0]) / _NUM_FRAMES
    for number in range(_NUM_FRAMES):
        start = limits[0] + number * step
        frame = min(int(np.searchsorted(pts_seconds, start + step / 2)), len(pts_seconds) - 1)
        extent = (start + 0.02 * step, start + 0.98 * step, 0.0, 1.0)
        axes.imshow(picture(frame, _THUMBNAIL), extent=extent, aspect="auto")
    axes.set_xlim(limits)  # imshow changed it
    axes.set_ylim(0, 1)
