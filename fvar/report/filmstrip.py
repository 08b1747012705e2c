"""The picture of one video's clusters: its change over time, its clusters, and their frames."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle
from PIL import ImageColor

from fvar.report.colors import FAINT_INK, INK, cluster_color, ink_on
from fvar.report.curve import draw_curve, time_limits
from fvar.report.thumbnails import MEAN_FRAMES, Picture, film, resized
from fvar.store.files import atomic_path
from fvar.store.video_clusters import VideoClusters

MAX_SHOWN = 64  # clusters whose frames are shown; the curve shows all clusters
THUMBNAIL_PX = 220  # width of the widest picture of the film

# All in pixels of the filmstrip; a point of a font is _DPI / 72 pixels.
_DPI = 100
_WIDTH = 1600
_LEFT, _RIGHT = 108, 84
_INNER = _WIDTH - _LEFT - _RIGHT
_CURVE_TOP, _CURVE_HEIGHT = 58, 190
_STRIP_TOP, _STRIP_HEIGHT = _CURVE_TOP + _CURVE_HEIGHT + 4, 20
_CONNECTOR_HEIGHT = 52
_CAPTION = 50
_GAP = 10  # between columns, and between the frames and their mean
_BORDER = 3  # around each picture, in the cluster's color
_PER_ROW = 16
_THUMBNAIL_WANTED, _THUMBNAIL_HIGHEST, _MEAN_HIGHEST = 80, 130, 190
_MIN_SHOWN = 3  # first, middle and last


class _Layout:
    """Sizes and positions of the film's parts, px; there are `columns` clusters in each of `rows` rows."""

    def __init__(self, clusters: VideoClusters, *, height: int, width: int) -> None:
        """Show as many frames as fit, at least three per cluster if it has them."""
        shown = min(clusters.num_clusters, MAX_SHOWN)
        self.rows = math.ceil(shown / _PER_ROW)
        self.columns = math.ceil(shown / self.rows)
        self.pitch = _INNER / self.columns
        room, largest = _INNER // self.columns - _GAP, int(clusters.sizes.max())
        self.across = min(max(room // _THUMBNAIL_WANTED, 1), largest)
        self.down = math.ceil(min(_MIN_SHOWN, largest) / self.across)
        ratio = height / width
        thumbnail_room = min((room - 4 * (self.across - 1)) // self.across, THUMBNAIL_PX)
        self.thumbnail = _fitted(thumbnail_room, ratio, highest=_THUMBNAIL_HIGHEST)
        self.mean = _fitted(min(room, THUMBNAIL_PX), ratio, highest=_MEAN_HIGHEST)
        self.frames_height = self.down * (self.thumbnail[1] + 4)
        self.mean_top = _CAPTION + self.frames_height + _GAP  # below the top of its row
        self.row_height = self.mean_top + self.mean[1] + 26
        connector = _CONNECTOR_HEIGHT if self.rows == 1 else 32
        self.film_top = _STRIP_TOP + _STRIP_HEIGHT + connector
        self.height = self.film_top + self.rows * self.row_height

    def corner(self, cluster: int) -> tuple[int, int]:
        """Return the left and top edge of the cluster's column."""
        row, column = divmod(cluster, self.columns)
        return round(_LEFT + column * self.pitch + _GAP / 2), self.film_top + row * self.row_height


def _fitted(width: int, ratio: float, *, highest: int) -> tuple[int, int]:
    """Return the width and height of a box: height / width is `ratio`, within both limits."""
    width = min(width, round(highest / ratio))
    smallest = 2 * _BORDER + 2
    return max(width, smallest), max(round(width * ratio), smallest)


def write_filmstrip(path: Path, clusters: VideoClusters, picture: Callable[[int], Picture]) -> None:
    """Write the picture of `clusters` as the PNG file `path`, 1600 px wide.

    At the top are the normalized Hamming distances of neighboring frames over time, the cumulative change,
    and a band per cluster. Below are a few frames of each cluster, and the mean of its frames (of 64 evenly
    spaced ones if it has more). Id, label and prediction are in the text fields of the file.

    Args:
        path: The file.
        clusters: The clusters of the video.
        picture: Takes a frame's number; returns its picture, uint8 in 0..255, shape (H, W, 3).

    Raises:
        StoppedError: The disk is full.
    """
    figure = filmstrip_figure(clusters, picture)
    text = {
        "Title": clusters.id,
        "Description": f"label {clusters.label}, predicted {clusters.predicted}",
        "Software": "fvar",
    }
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata=text)


def filmstrip_figure(clusters: VideoClusters, picture: Callable[[int], Picture]) -> Figure:
    """Return the picture of `clusters`; arguments as in `write_filmstrip`."""
    height, width = picture(0).shape[:2]
    layout = _Layout(clusters, height=height, width=width)
    figure = Figure(figsize=(_WIDTH / _DPI, layout.height / _DPI), dpi=_DPI, facecolor="white")
    canvas = figure.add_axes((0, 0, 1, 1))
    canvas.set_axis_off()
    bottom = layout.height - _CURVE_TOP - _CURVE_HEIGHT
    box = (_LEFT / _WIDTH, bottom / layout.height, _INNER / _WIDTH, _CURVE_HEIGHT / layout.height)
    draw_curve(figure.add_axes(box), clusters, width_px=_INNER)
    _draw_strip(canvas, clusters, layout)
    _draw_film(canvas, clusters, picture, layout)
    # Last, because drawing pictures changes the limits.
    canvas.set(xlim=(0, _WIDTH), ylim=(layout.height, 0), aspect="auto")
    return figure


def _draw_strip(canvas: Axes, clusters: VideoClusters, layout: _Layout) -> None:
    """Draw every cluster's span of time in its color; with one row of film, connect it to its column."""
    first, last = time_limits(clusters)
    scale = _INNER / (last - first)
    lefts = _LEFT + (clusters.start_seconds - first) * scale
    rights = _LEFT + (clusters.stop_seconds - first) * scale
    for j, (left, right) in enumerate(zip(lefts.tolist(), rights.tolist(), strict=True)):
        color, width = cluster_color(j), right - left
        canvas.add_patch(
            Rectangle((left, _STRIP_TOP), width, _STRIP_HEIGHT, color=color, linewidth=0)
        )
        if layout.rows == 1:
            canvas.add_patch(_connector(left, right, layout, cluster=j))
        if width > 9 * len(str(j)) + 8:
            middle = _STRIP_TOP + _STRIP_HEIGHT / 2
            _label(canvas, left + width / 2, middle, str(j), on=color)


def _connector(left: float, right: float, layout: _Layout, *, cluster: int) -> Polygon:
    top, bottom = _STRIP_TOP + _STRIP_HEIGHT, layout.film_top - 6
    column = layout.corner(cluster)[0]
    corners = [(left, top), (right, top), (column + layout.pitch - _GAP, bottom), (column, bottom)]
    return Polygon(corners, color=cluster_color(cluster), alpha=0.16, linewidth=0)


def _label(canvas: Axes, x: float, y: float, text: str, *, on: str) -> None:
    style: dict[str, Any] = {"va": "center_baseline", "fontsize": 10.5, "weight": "bold"}
    canvas.text(x, y, text, ha="center", color=ink_on(on), **style)


def _draw_film(
    canvas: Axes, clusters: VideoClusters, picture: Callable[[int], Picture], layout: _Layout
) -> None:
    pixels = np.full((layout.height, _WIDTH, 3), 255, dtype=np.uint8)
    pictures = film(clusters, picture, per_cluster=layout.across * layout.down)
    for j, (thumbnails, mean) in zip(range(layout.rows * layout.columns), pictures, strict=False):
        _draw_caption(canvas, clusters, layout, cluster=j)
        left, top = layout.corner(j)
        width, height = layout.thumbnail
        for i, thumbnail in enumerate(thumbnails):
            row, column = divmod(i, layout.across)
            corner = (left + column * (width + 4), top + _CAPTION + row * (height + 4))
            _paste(pixels, thumbnail, corner, layout.thumbnail, color=cluster_color(j))
        _paste(pixels, mean, (left, top + layout.mean_top), layout.mean, color=cluster_color(j))
    top = layout.film_top - 4  # the strip and the connectors are above it
    extent = (0, _WIDTH, layout.height, top)
    canvas.imshow(pixels[top:], extent=extent, interpolation="nearest", zorder=0)
    _draw_margin(canvas, clusters, layout)


def _draw_caption(canvas: Axes, clusters: VideoClusters, layout: _Layout, *, cluster: int) -> None:
    left, top = layout.corner(cluster)
    color, chip = cluster_color(cluster), 12 + 9 * len(str(cluster))
    canvas.add_patch(
        FancyBboxPatch(
            (left, top + 2), chip, 18, boxstyle="round,pad=0,rounding_size=4", color=color
        )
    )
    _label(canvas, left + chip / 2, top + 11, str(cluster), on=color)
    start, stop = int(clusters.starts[cluster]), int(clusters.stops[cluster])
    size, room = stop - start, layout.pitch - chip - 10
    noun = "frame" if size == 1 else "frames"
    text = next(
        (text for text in (f"{size} {noun}", f"{size} fr.") if len(text) * 8.8 < room), str(size)
    )
    canvas.text(left + chip + 6, top + 11, text, va="center_baseline", fontsize=11, color=INK)
    span = f"{start}" if size == 1 else f"{start}\N{EN DASH}{stop - 1}"
    fontsize = 10 if len(span) * 8 < layout.pitch else 8
    canvas.text(left, top + 34, span, va="center_baseline", fontsize=fontsize, color=FAINT_INK)


def _paste(
    pixels: Picture,
    picture: Picture,
    corner: tuple[int, int],
    size: tuple[int, int],
    *,
    color: str,
) -> None:
    (x, y), (width, height) = corner, size
    pixels[y : y + height, x : x + width] = ImageColor.getrgb(color)
    inside = resized(picture, width=width - 2 * _BORDER, height=height - 2 * _BORDER)
    pixels[y + _BORDER : y + height - _BORDER, x + _BORDER : x + width - _BORDER] = inside


def _draw_margin(canvas: Axes, clusters: VideoClusters, layout: _Layout) -> None:
    """Label the lines of each row at its left, and name the clusters that are not shown."""
    sampled = clusters.sizes.max() > MEAN_FRAMES
    mean = f"mean of up\nto {MEAN_FRAMES} of its\nframes" if sampled else "mean of\nall its\nframes"
    labels = {
        "frame\nnumbers": 34,
        "some of\nits frames": _CAPTION + layout.frames_height / 2,
        mean: layout.mean_top + layout.mean[1] / 2,
    }
    style: dict[str, Any] = {"fontsize": 10.5, "color": FAINT_INK, "zorder": 3}
    for row in range(layout.rows):
        for text, y in labels.items():
            top = layout.film_top + row * layout.row_height
            canvas.text(_LEFT - 8, top + y, text, ha="right", va="center", **style)
    if clusters.num_clusters > MAX_SHOWN:
        text = f"film: clusters 0 to {MAX_SHOWN - 1} of {clusters.num_clusters}"
        canvas.text(_LEFT, layout.film_top - 16, text, **style)
