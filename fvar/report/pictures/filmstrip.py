"""The picture of one video's clusters: its change over time, its clusters, and their frames."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fvar.report.colors import FAINT_INK, INK, cluster_color, ink_on
from fvar.report.pictures.curve import draw_curve, time_limits
from fvar.report.pictures.thumbnails import MEAN_FRAMES, Picture, film, resized
from fvar.store.clusters.video_clusters import VideoClusters
from fvar.store.files import atomic_path

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
_COMPRESS_LEVEL = 2  # of zlib: a third of the time of its default 6 and a tenth more bytes
_MIN_SHOWN = 3  # first, middle and last


Pictures = Callable[[int, tuple[int, int]], Picture]
"""Takes a frame's number and a size (width, height); returns its picture, smaller only if the frame is."""


class Layout:
    """Sizes and positions of the film's parts, px; there are `columns` clusters in each of `rows` rows."""

    def __init__(self, clusters: VideoClusters, *, height: int, width: int) -> None:
        """Show as many frames as fit, at least three per cluster if it has them."""
        self.num_shown = min(clusters.num_clusters, MAX_SHOWN)
        self.rows = math.ceil(self.num_shown / _PER_ROW)
        self.columns = math.ceil(self.num_shown / self.rows)
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


def write_filmstrip(path: Path, clusters: VideoClusters, picture: Pictures) -> None:
    """Write the picture of `clusters` as the PNG file `path`, 1600 px wide.

    At the top are the normalized Hamming distances of neighboring frames over time, the cumulative change,
    and a band per cluster. Below are a few frames of each cluster, and the mean of its frames (of 64 evenly
    spaced ones if it has more). Id, label and prediction are in the text fields of the file.

    Args:
        path: The file.
        clusters: The clusters of the video.
        picture: Returns the picture of a frame.

    Raises:
        StoppedError: The disk is full.
    """
    drawn = draw_filmstrip(clusters, picture)
    text = PngInfo()
    text.add_text("Title", clusters.id)
    text.add_text("Description", f"label {clusters.label}, predicted {clusters.predicted}")
    text.add_text("Software", "fvar")
    with atomic_path(path) as temporary:
        drawn.save(temporary, "PNG", pnginfo=text, compress_level=_COMPRESS_LEVEL)


def draw_filmstrip(clusters: VideoClusters, picture: Pictures) -> Image.Image:
    """Return the picture of `clusters`, RGB, 1600 px wide; arguments as in `write_filmstrip`."""
    height, width = picture(0, (THUMBNAIL_PX, THUMBNAIL_PX)).shape[:2]
    layout = Layout(clusters, height=height, width=width)
    canvas = FigureCanvasAgg(chart_figure(clusters, layout))
    rgba, size = canvas.print_to_buffer()  # type: ignore[no-untyped-call]
    drawn = Image.frombuffer("RGBA", size, rgba).convert("RGB")
    _paste_film(drawn, clusters, picture, layout)
    return drawn


def chart_figure(clusters: VideoClusters, layout: Layout) -> Figure:
    """Return all of the picture but the frames, which matplotlib would take long to draw."""
    figure = Figure(figsize=(_WIDTH / _DPI, layout.height / _DPI), dpi=_DPI, facecolor="white")
    canvas = figure.add_axes((0, 0, 1, 1), xlim=(0, _WIDTH), ylim=(layout.height, 0))
    canvas.set_axis_off()
    bottom = layout.height - _CURVE_TOP - _CURVE_HEIGHT
    box = (_LEFT / _WIDTH, bottom / layout.height, _INNER / _WIDTH, _CURVE_HEIGHT / layout.height)
    draw_curve(figure.add_axes(box), clusters, width_px=_INNER)
    _draw_strip(canvas, clusters, layout)
    for j in range(layout.num_shown):
        _draw_caption(canvas, clusters, layout, cluster=j)
    _draw_margin(canvas, clusters, layout)
    return figure


def _draw_strip(canvas: Axes, clusters: VideoClusters, layout: Layout) -> None:
    """Draw every cluster's span of time in its color; with one row of film, connect it to its column."""
    first, last = time_limits(clusters)
    scale = _INNER / (last - first)
    lefts = _LEFT + (clusters.start_seconds - first) * scale
    rights = _LEFT + (clusters.stop_seconds - first) * scale
    for j, (left, right) in enumerate(zip(lefts.tolist(), rights.tolist(), strict=True)):
        color, width = cluster_color(j, clusters.num_clusters), right - left
        canvas.add_artist(
            Rectangle((left, _STRIP_TOP), width, _STRIP_HEIGHT, color=color, linewidth=0)
        )
        if layout.rows == 1:
            canvas.add_artist(_connector(left, right, layout, cluster=j, color=color))
        if width > 9 * len(str(j)) + 8:
            middle = _STRIP_TOP + _STRIP_HEIGHT / 2
            _label(canvas, left + width / 2, middle, str(j), on=color)


def _connector(left: float, right: float, layout: Layout, *, cluster: int, color: str) -> Polygon:
    top, bottom = _STRIP_TOP + _STRIP_HEIGHT, layout.film_top - 6
    column = layout.corner(cluster)[0]
    corners = [(left, top), (right, top), (column + layout.pitch - _GAP, bottom), (column, bottom)]
    return Polygon(corners, color=color, alpha=0.16, linewidth=0)


def _label(canvas: Axes, x: float, y: float, text: str, *, on: str) -> None:
    style: dict[str, Any] = {"va": "center_baseline", "fontsize": 10.5, "weight": "bold"}
    canvas.text(x, y, text, ha="center", color=ink_on(on), **style)


def _paste_film(
    drawn: Image.Image, clusters: VideoClusters, picture: Pictures, layout: Layout
) -> None:
    """Paste the frames and the means of the clusters shown into the picture."""
    pictures = film(
        clusters,
        lambda frame: picture(frame, layout.mean),  # no thumbnail is larger
        per_cluster=layout.across * layout.down,
    )
    for j, (thumbnails, mean) in zip(range(layout.num_shown), pictures, strict=False):
        left, top = layout.corner(j)
        width, height = layout.thumbnail
        for i, thumbnail in enumerate(thumbnails):
            row, column = divmod(i, layout.across)
            corner = (left + column * (width + 4), top + _CAPTION + row * (height + 4))
            _paste(
                drawn,
                thumbnail,
                corner,
                layout.thumbnail,
                color=cluster_color(j, clusters.num_clusters),
            )
        _paste(
            drawn,
            mean,
            (left, top + layout.mean_top),
            layout.mean,
            color=cluster_color(j, clusters.num_clusters),
        )


def _draw_caption(canvas: Axes, clusters: VideoClusters, layout: Layout, *, cluster: int) -> None:
    left, top = layout.corner(cluster)
    color, chip = cluster_color(cluster, clusters.num_clusters), 12 + 9 * len(str(cluster))
    canvas.add_artist(
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
    drawn: Image.Image,
    picture: Picture,
    corner: tuple[int, int],
    size: tuple[int, int],
    *,
    color: str,
) -> None:
    (x, y), (width, height) = corner, size
    drawn.paste(color, (x, y, x + width, y + height))
    inside = resized(picture, width=width - 2 * _BORDER, height=height - 2 * _BORDER)
    drawn.paste(inside, (x + _BORDER, y + _BORDER))


def _draw_margin(canvas: Axes, clusters: VideoClusters, layout: Layout) -> None:
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
