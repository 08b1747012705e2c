"""The page of a run's clusters: one HTML file with its pictures inside, no network, JavaScript optional."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import jinja2
from PIL import Image

from fvar.model.clusterings import load_clustering
from fvar.report import charts
from fvar.report.colours import cluster_colour
from fvar.store.files import atomic_open
from fvar.store.video_clusters import VideoClusters

MAX_EMBEDDED = (
    300  # filmstrips inside the page, about 0.15 MB each; the others are loaded from beside it
)


@dataclass(frozen=True)
class Card:
    """What the page shows of one video."""

    number: int
    clusters: VideoClusters
    filmstrip: Path
    link: str

    @property
    def is_embedded(self) -> bool:
        """Whether the filmstrip is inside the page."""
        return self.number < MAX_EMBEDDED

    def picture(self) -> tuple[str, int, int]:
        """Return the source of the filmstrip, its width and its height; read only now, one at a time."""
        with Image.open(self.filmstrip) as image:
            source = _data_uri(image) if self.is_embedded else self.link
            return source, *image.size

    @property
    def ratio(self) -> float:
        """Frames in the largest cluster for one in the smallest."""
        return float(self.clusters.sizes.max() / self.clusters.sizes.min())

    @property
    def mean_change(self) -> float:
        """Mean normalised Hamming distance of neighbours, 0 for a single frame."""
        steps = self.clusters.normalised_distances
        return float(steps.mean()) if len(steps) else 0.0

    @property
    def stripes(self) -> str:
        """The partition as the colours of a CSS gradient."""
        share = 100 / self.clusters.num_frames
        parts = (
            f"{cluster_colour(j)} {start * share:.3f}% {stop * share:.3f}%"
            for j, (start, stop) in enumerate(
                zip(self.clusters.starts.tolist(), self.clusters.stops.tolist(), strict=True)
            )
        )
        return f"linear-gradient(90deg, {', '.join(parts)})"


def write_page(
    path: Path,
    videos: Sequence[VideoClusters],
    filmstrips: Sequence[Path],
    *,
    clustering: str,
    settings: Mapping[str, str],
    num_available: int,
) -> None:
    """Write the HTML file `path`.

    The filmstrips of the first `MAX_EMBEDDED` videos are inside it, as WebP; those of the others are loaded
    from where they lie beside it, and the page says so.

    Args:
        path: The file, ``index.html``.
        videos: What was inspected, in order, at least one.
        filmstrips: The picture of each, below the folder of `path`.
        clustering: The name of the clustering.
        settings: What the head of the page says of the run: name and value, in order.
        num_available: Videos that could have been inspected.

    Raises:
        StoppedError: The disk is full.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fvar.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    num_right = sum(video.is_right for video in videos)
    pieces = environment.get_template("page.html.j2").generate(
        cards=[
            Card(i, clusters, filmstrip, filmstrip.relative_to(path.parent).as_posix())
            for i, (clusters, filmstrip) in enumerate(zip(videos, filmstrips, strict=True))
        ],
        charts=charts.charts(videos),
        geometry=charts,
        how_cut=load_clustering(clustering).EXPLANATION,
        settings=settings,
        figures=_figures(videos, num_right=num_right, num_available=num_available),
        num_videos=len(videos),
        num_wrong=len(videos) - num_right,
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
    """Return the headline figures: name, value, what it counts."""
    sizes = [size for video in videos for size in video.sizes.tolist()]
    frames = sum(video.num_frames for video in videos)
    singles = sum(size == 1 for size in sizes)
    return [
        ("videos", f"{len(videos):,}", f"of {num_available:,} in the split"),
        ("frames", f"{frames:,}", "each in exactly one cluster"),
        ("clusters", f"{len(sizes):,}", f"{frames / len(sizes):,.1f} frames on average"),
        ("single frames", f"{singles:,}", "clusters of one frame"),
        ("right", f"{num_right / len(videos):.1%}", f"{num_right:,} of {len(videos):,} videos"),
    ]
