"""The page of a run's clusters: one HTML file that needs no network and works without JavaScript."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path

from PIL import Image

from fvar.report import charts
from fvar.report.colors import cluster_color
from fvar.report.templates import load_template
from fvar.store.files import atomic_open
from fvar.store.video_clusters import VideoClusters

# Number of filmstrips inside the page, about 0.15 MB each; it loads the others from files beside it.
MAX_EMBEDDED = 300


@dataclass(frozen=True)
class Card:
    """The part of the page about one video; `link` is the path of the filmstrip from the page."""

    number: int
    clusters: VideoClusters
    filmstrip: Path
    link: str

    @property
    def is_embedded(self) -> bool:
        """Whether the page contains the filmstrip."""
        return self.number < MAX_EMBEDDED

    def picture(self) -> tuple[str, int, int]:
        """Return the source, width and height of the filmstrip; it is read only now, one at a time."""
        with Image.open(self.filmstrip) as image:
            source = _data_uri(image) if self.is_embedded else self.link
            return source, *image.size

    @property
    def ratio(self) -> float:
        """Size of the largest cluster divided by that of the smallest."""
        return float(self.clusters.sizes.max() / self.clusters.sizes.min())

    @property
    def mean_change(self) -> float:
        """Mean normalized Hamming distance of neighboring frames; 0 for a single frame."""
        steps = self.clusters.normalized_distances
        return float(steps.mean()) if len(steps) else 0.0

    @property
    def stripes(self) -> str:
        """The clusters as the colors of a CSS gradient."""
        percent = 100 / self.clusters.num_frames
        parts = (
            f"{cluster_color(j)} {start * percent:.3f}% {stop * percent:.3f}%"
            for j, (start, stop) in enumerate(pairwise(self.clusters.boundaries.tolist()))
        )
        return f"linear-gradient(90deg, {', '.join(parts)})"


def write_page(
    path: Path,
    videos: Sequence[VideoClusters],
    filmstrips: Sequence[Path],
    *,
    explanation: str,
    settings: Mapping[str, str],
    num_available: int,
) -> None:
    """Write the HTML file `path`.

    It contains the filmstrips of the first `MAX_EMBEDDED` videos, as WebP; it loads those of the others from
    the files beside it, and says so.

    Args:
        path: The file, ``index.html``.
        videos: The inspected videos in order, at least one.
        filmstrips: The picture of each video, below the folder of `path`.
        explanation: How the clustering cuts a video, in a sentence.
        settings: Name and value of each setting at the top of the page, in order.
        num_available: Number of videos in the split.

    Raises:
        StoppedError: The disk is full.
    """
    num_right = sum(video.is_right for video in videos)
    pieces = load_template("page.html.j2").generate(
        cards=[
            Card(i, clusters, filmstrip, filmstrip.relative_to(path.parent).as_posix())
            for i, (clusters, filmstrip) in enumerate(zip(videos, filmstrips, strict=True))
        ],
        charts=charts.charts(videos),
        geometry=charts,
        explanation=explanation,
        settings=settings,
        figures=_figures(videos, num_right=num_right, num_available=num_available),
        num_videos=len(videos),
        num_right=num_right,
        num_wrong=sum(video.verdict == "wrong" for video in videos),
        num_beside=max(len(videos) - MAX_EMBEDDED, 0),
    )
    with atomic_open(path) as file:
        file.writelines(pieces)


def _data_uri(image: Image.Image) -> str:
    encoded = BytesIO()
    image.convert("RGB").save(encoded, "WEBP", quality=85)  # a fifth of the PNG, text still sharp
    return f"data:image/webp;base64,{base64.b64encode(encoded.getvalue()).decode('ascii')}"


def _figures(
    videos: Sequence[VideoClusters], *, num_right: int, num_available: int
) -> list[tuple[str, str, str]]:
    """Return the headline figures: name, value, explanation."""
    sizes = [size for video in videos for size in video.sizes.tolist()]
    frames = sum(video.num_frames for video in videos)
    singles = sum(size == 1 for size in sizes)
    return [
        ("videos", f"{len(videos):,}", f"of {num_available:,} in the split"),
        ("frames", f"{frames:,}", "each in exactly one cluster"),
        ("clusters", f"{len(sizes):,}", f"{frames / len(sizes):,.1f} frames on average"),
        ("single frames", f"{singles:,}", "clusters of one frame"),
        _right_figure(videos, num_right),
    ]


def _right_figure(videos: Sequence[VideoClusters], num_right: int) -> tuple[str, str, str]:
    labelled = sum(bool(video.label) for video in videos)
    if not labelled:
        return ("right", "?", "no video has a label")
    noun = "videos" if labelled == len(videos) else "videos with a label"
    return ("right", f"{num_right / labelled:.1%}", f"{num_right:,} of {labelled:,} {noun}")
