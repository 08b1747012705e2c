"""The filmstrip: every cluster is shown, by frames of its own and by their mean."""

import warnings
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from clusters_samples import gray_pictures, sample_clusters
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image, ImageColor

from fvar.errors import InputError
from fvar.report.colors import PALETTE, cluster_colors, ink_on
from fvar.report.pictures.filmstrip import (
    MAX_SHOWN,
    Layout,
    Pictures,
    chart_figure,
    draw_filmstrip,
    write_filmstrip,
)
from fvar.report.pictures.thumbnails import (
    MEAN_FRAMES,
    Picture,
    decode_thumbnail,
    film,
    resized,
    spread,
)
from fvar.store.clusters.video_clusters import VideoClusters


def pixels_of(clusters: VideoClusters, *size: int) -> np.ndarray:
    """Return the filmstrip of gray pictures, uint8 (H, W, 3)."""
    return np.asarray(draw_filmstrip(clusters, sized(gray_pictures(*size))))


def sized(picture: Callable[[int], Picture]) -> Pictures:
    """Return a function that gives each frame's picture whatever size is asked for."""
    return lambda frame, _size: picture(frame)


def chart_of(clusters: VideoClusters, *size: int) -> Figure:
    height, width = gray_pictures(*size)(0).shape[:2]
    return chart_figure(clusters, Layout(clusters, height=height, width=width))


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@given(start=st.integers(0, 500), size=st.integers(1, 500), number=st.integers(1, 70))
def test_spread_is_even_and_distinct(start: int, size: int, number: int) -> None:
    """Frames rise within [start, stop), reach both ends, and their distances differ by at most 1."""
    frames = spread(start, start + size, number=number)
    assert len(frames) == min(number, size)
    assert start <= min(frames)
    assert max(frames) < start + size
    if number > 1:
        assert (frames[0], frames[-1]) == (start, start + size - 1)
    steps = np.diff(frames)
    assert len(steps) == 0 or (steps.min() >= 1 and steps.max() - steps.min() <= 1)


@settings(deadline=None)
@given(num_frames=st.integers(1, 200), k=st.integers(1, 12))
def test_size_times_mean_picture_is_the_sum_of_pictures(num_frames: int, k: int) -> None:
    """With at most 64 frames in a cluster its mean picture is the mean of all of them, to half a level."""
    k = max(k, -(-num_frames // MEAN_FRAMES))
    clusters = sample_clusters(num_frames, k)
    shown = list(film(clusters, gray_pictures(2, 3), per_cluster=3))
    assert len(shown) == clusters.num_clusters
    for start, stop, (frames, mean) in zip(clusters.starts, clusters.stops, shown, strict=True):
        assert mean.shape == (2, 3, 3)
        assert abs(mean.mean() - np.arange(start, stop).mean()) <= 0.5
        wanted = spread(int(start), int(stop), number=3)
        assert [picture[0, 0, 0] for picture in frames] == wanted


def test_a_frame_is_decoded_once_and_a_large_cluster_sampled() -> None:
    """A cluster of 1,000 frames needs at most 64 pictures for its mean and those shown, none twice."""
    asked: list[int] = []
    draw = gray_pictures(1, 1)
    clusters = sample_clusters(1000, 1)
    list(film(clusters, lambda frame: asked.append(frame) or draw(frame), per_cluster=5))
    assert len(asked) == len(set(asked)) <= MEAN_FRAMES + 5
    assert {0, 999} <= set(asked)


def jpeg(width: int, height: int, mode: str = "RGB") -> np.ndarray:
    encoded = BytesIO()
    Image.new(mode, (width, height), 200).save(encoded, "JPEG")
    return np.frombuffer(encoded.getvalue(), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_thumbnails_are_decoded_small(mode: str) -> None:
    """A 1600 x 800 picture wanted at 400 x 200 px is decoded at a quarter; gray becomes RGB."""
    assert decode_thumbnail(jpeg(1600, 800, mode), least=(400, 200)).shape == (200, 400, 3)
    assert decode_thumbnail(jpeg(1600, 800, mode), least=(401, 1)).shape == (400, 800, 3)
    assert decode_thumbnail(jpeg(64, 48, mode), least=(200, 200)).shape == (48, 64, 3)


def test_a_broken_jpeg_is_an_error() -> None:
    """Bytes that are no JPEG, or end early, are an error and never a gray picture."""
    for broken in (np.arange(50, dtype=np.uint8), jpeg(640, 480)[:900]):
        with pytest.raises(InputError, match="is no JPEG picture"):
            decode_thumbnail(broken, least=(100, 100))


def test_resizing_keeps_a_flat_picture_flat() -> None:
    """A picture of one color stays that color at any size."""
    flat = np.full((64, 48, 3), 77, dtype=np.uint8)
    for size in ((10, 7), (200, 90)):
        smaller = resized(flat, width=size[0], height=size[1])
        assert smaller.size == size
        assert (np.asarray(smaller) == 77).all()


def test_neighboring_clusters_differ_in_color() -> None:
    """No color comes twice; neighbors differ in lightness, which all people see."""

    def gray(color: str) -> float:
        return float(np.dot(ImageColor.getrgb(color), (0.2126, 0.7152, 0.0722)))

    for count in range(1, 65):
        colors = cluster_colors(count)
        assert len(set(colors)) == count
        assert all(abs(gray(a) - gray(b)) > 40 for a, b in pairwise(colors))


@pytest.mark.parametrize("color", [*PALETTE, *cluster_colors(16), *cluster_colors(7)])
def test_numbers_can_be_read_on_every_color(color: str) -> None:
    """The ink on a cluster's color has a WCAG contrast of at least 4.5, computed here from sRGB."""

    def luminance(text: str) -> float:
        parts = [part / 255 for part in ImageColor.getrgb(text)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    ink = ink_on(color)
    bright, dark = sorted((luminance(color), luminance(ink)), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_frames", "k", "size"),
    [(1, 8, (64, 64)), (2, 8, (64, 64)), (100, 1, (120, 214)), (100, 16, (214, 120)), (40, 20, (4, 400))],
)  # fmt: skip
def test_every_cluster_is_drawn(num_frames: int, k: int, size: tuple[int, int]) -> None:
    """Each cluster has its number, its first and last frame, and its color in the picture."""
    clusters = sample_clusters(num_frames, k)
    figure = chart_of(clusters, *size)
    texts = texts_of(figure)
    for j, (start, stop) in enumerate(zip(clusters.starts, clusters.stops, strict=True)):
        assert str(j) in texts
        assert (f"{start}" if stop - start == 1 else f"{start}–{stop - 1}") in texts  # noqa: RUF001  # a span
    pixels = pixels_of(clusters, *size)
    assert pixels.shape[1] == 1600
    for color in cluster_colors(clusters.num_clusters):
        assert (pixels == ImageColor.getrgb(color)).all(axis=-1).sum() > 100


def test_the_mean_is_drawn_in_its_gray() -> None:
    """Two clusters of levels 0..9 and 10..19: the means' grays 4 or 5 and 14 or 15 fill their pictures."""
    pixels = pixels_of(sample_clusters(20, 2))
    for level in (4.5, 14.5):
        near = (np.abs(pixels.astype(float) - level) <= 0.5).all(axis=-1)
        assert near.sum() >= 180 * 180


def _boundaries(curve: Axes) -> list[np.ndarray]:
    """Return the lines between clusters, each as two points (2, 2)."""
    (lines,) = (item for item in curve.collections if isinstance(item, LineCollection))
    return lines.get_segments()


def test_boundaries_stand_where_the_frames_begin() -> None:
    """The curve has a line at the first frame of every cluster but the first, in seconds."""
    clusters = sample_clusters(32, 4)
    curve = chart_of(clusters).axes[1]
    assert [x for ((x, _), _) in _boundaries(curve)] == clusters.start_seconds[1:].tolist()
    assert curve.get_xlim() == (0.0, pytest.approx(32 / 25))


@pytest.mark.slow
def test_no_peak_of_a_long_video_is_lost() -> None:
    """Of 10,000 steps, more than there are pixels, the one large step still reaches its height."""
    steps = np.zeros(9999, dtype=np.int64)
    steps[7777] = 500
    clusters = sample_clusters(10_000, 16, step_distances=steps)
    curve = chart_of(clusters, 8, 8).axes[1]
    (bars,) = (patch for patch in curve.patches if hasattr(patch, "get_data"))
    values, edges, _ = bars.get_data()
    assert len(values) < 1600
    assert values.max() == 0.5
    peak = int(np.argmax(values))
    assert edges[peak] <= clusters.pts_seconds[7778] <= edges[peak + 1]


def test_more_clusters_than_fit_are_named() -> None:
    """With 100 clusters the film shows 64 and says so; the curve shows them all."""
    figure = chart_of(sample_clusters(100, 100), 8, 8)
    assert f"film: clusters 0 to {MAX_SHOWN - 1} of 100" in texts_of(figure)
    assert len(_boundaries(figure.axes[1])) == 99


@pytest.mark.parametrize(("num_frames", "text"), [(9, "nothing changes"), (1, "a single frame")])
def test_a_still_video_says_so(num_frames: int, text: str) -> None:
    """A video without change or duration has an axis of one second, and says why its curve is empty."""
    times = np.full(num_frames, 3.0)
    clusters = sample_clusters(num_frames, 3, still=True, pts_seconds=times, fps=None)
    figure = chart_of(clusters)
    assert text in texts_of(figure)
    assert figure.axes[1].get_xlim() == (3.0, 4.0)


def test_long_captions_shrink() -> None:
    """With 16 columns and clusters of 1,000 frames a caption leaves out the noun rather than overlap."""
    texts = texts_of(chart_of(sample_clusters(160_000, 16), 2, 2))
    assert "10000" in texts
    assert "150000–159999" in texts  # noqa: RUF001  # a span


@pytest.mark.slow
def test_file_names_the_video(tmp_path: Path) -> None:
    """The PNG carries id, label and prediction in its text fields, whatever letters they have."""
    path = tmp_path / "film.png"
    clusters = sample_clusters(id="$x$ 日本 <b>", label="wave", predicted="clap")
    with warnings.catch_warnings(action="error"):
        write_filmstrip(path, clusters, sized(gray_pictures()))
    with Image.open(path) as image:
        assert image.size[0] == 1600
        assert image.info["Title"] == "$x$ 日本 <b>"
        assert image.info["Description"] == "label wave, predicted clap"
    first = path.read_bytes()
    write_filmstrip(path, clusters, sized(gray_pictures()))
    assert path.read_bytes() == first
