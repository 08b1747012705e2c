"""What the page shows of each video: its row in the table, its filmstrip, its numbers and its sprite."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from fvar.report.clusters_page.page import Row, as_json
from fvar.report.clusters_page.sprite import Sprite, draw_strip, make_sprite
from fvar.report.colors import cluster_colors, ink_on
from fvar.report.pictures.filmstrip import write_filmstrip
from fvar.report.pictures.thumbnails import Picture, decode_thumbnail
from fvar.store.encoded_video import EncodedVideo
from fvar.store.files import atomic_open, atomic_path, slug
from fvar.store.video_clusters import VideoClusters

FILMSTRIPS, VIDEOS = "filmstrips", "videos"  # folders
_LEAST = (220, 190)  # px: no picture shown is larger
_DIGITS = 5  # of times and scores in the page; clusters.h5 has them all


@dataclass(frozen=True, eq=False)
class NearVideo:
    """A training video beside a mistake; `similarity` is the cosine of the pooled features."""

    id: str
    label: str
    similarity: float
    video: EncodedVideo


class VideoPages:
    """Writes the files of one video after the other, and keeps what the page itself will hold.

    Attributes:
        rows: Of the table, one for each video so far.
        embedded: What the page holds of opened videos, by number; empty where it lies beside.
        files: Paths of all files written, from the folder.
    """

    def __init__(self, folder: Path, *, originals: Mapping[str, str], embed: bool) -> None:
        """Write below `folder`.

        Args:
            folder: Of the page.
            originals: Addresses of the video files that are there, by id.
            embed: Whether the page holds the numbers and sprites of all videos.
        """
        self._folder, self._originals, self._embed = folder, originals, embed
        self.rows: list[Row] = []
        self.embedded: dict[int, dict[str, Any]] = {}
        self.files: list[str] = []

    def add(
        self, clusters: VideoClusters, video: EncodedVideo, *, near: Sequence[NearVideo] = ()
    ) -> None:
        """Write the filmstrip of a video, and beside the page what is not embedded.

        Args:
            clusters: Of the video.
            video: Its frames.
            near: Training videos to show beside it.

        Raises:
            InputError: A picture is damaged.
            StoppedError: The disk is full.
        """
        number = len(self.rows)
        name = f"{number:05d}-{slug(clusters.id)}"

        @cache
        def picture(frame: int) -> Picture:
            return decode_thumbnail(video.frame(frame), least=_LEAST)

        filmstrip = f"{FILMSTRIPS}/{name}.png"
        write_filmstrip(self._folder / filmstrip, clusters, lambda frame, _: picture(frame))
        self.files.append(filmstrip)
        sprite = make_sprite(clusters, picture)
        script = None if self._embed else f"{VIDEOS}/{name}.js"
        source = _as_address(sprite.webp) if script is None else f"{VIDEOS}/{name}.webp"
        original = self._originals.get(clusters.id)
        detail = _make_detail(clusters, sprite, source, original=original)
        detail["near"] = [_near(found) for found in near]
        if script is None:
            self.embedded[number] = detail
        else:
            _write_detail(self._folder / script, number, detail, sprite)
            self.files += [script, source]
        self.rows.append(_make_row(clusters, number, filmstrip=filmstrip, detail=script))


def _near(found: NearVideo) -> dict[str, Any]:
    """Return a training video as a strip of frames, inside the page or script."""
    strip = draw_strip(
        found.video.num_frames,
        lambda frame: decode_thumbnail(found.video.frame(frame), least=_LEAST),
    )
    return {
        "id": found.id,
        "label": found.label,
        "similarity": round(found.similarity, _DIGITS),
        "picture": _as_address(strip),
    }


def _make_row(clusters: VideoClusters, number: int, *, filmstrip: str, detail: str | None) -> Row:
    """Return the row of a video; `filmstrip` and `detail` are paths from the page."""
    best = None if clusters.scores is None else sorted(clusters.scores.tolist(), reverse=True)[:2]
    return Row(
        number=number,
        id=clusters.id,
        label=clusters.label,
        predicted=clusters.predicted,
        verdict=clusters.verdict,
        num_frames=clusters.num_frames,
        sizes=clusters.sizes.tolist(),
        confidence=None if best is None else best[0],
        margin=None if best is None else best[0] - best[-1],
        evenness=clusters.evenness,
        change=float(clusters.normalized_distances.sum()),
        stripes=_stripes(clusters),
        filmstrip=filmstrip,
        detail=detail,
    )


def _stripes(clusters: VideoClusters) -> str:
    percent, colors = 100 / clusters.num_frames, cluster_colors(clusters.num_clusters)
    parts = (
        f"{colors[j]} {start * percent:.2f}% {stop * percent:.2f}%"
        for j, (start, stop) in enumerate(pairwise(clusters.boundaries.tolist()))
    )
    return f"linear-gradient(90deg, {', '.join(parts)})"


def _make_detail(
    clusters: VideoClusters, sprite: Sprite, source: str, *, original: str | None = None
) -> dict[str, Any]:
    """Return what the page shows of an opened video, as JSON can hold it.

    Args:
        clusters: Of the video.
        sprite: Its pictures.
        source: Address of the sprite's picture.
        original: Address of the video file; None if it is not there.
    """
    colors = cluster_colors(clusters.num_clusters)
    each, whole = clusters.cluster_scores, clusters.scores
    return {
        "pts": clusters.pts_seconds.round(_DIGITS).tolist(),
        "end": round(float(clusters.stop_seconds[-1]), _DIGITS),
        "steps": clusters.step_distances.tolist(),
        "bits": clusters.num_bits,
        "boundaries": clusters.boundaries.tolist(),
        "colors": colors,
        "inks": [ink_on(color) for color in colors],
        "scores": None if each is None else each.round(_DIGITS).tolist(),
        "whole": None if whole is None else whole.round(_DIGITS).tolist(),
        "sprite": sprite.layout(source),
        "original": original,
    }


def _as_address(webp: bytes) -> str:
    """Return a picture as an address that holds it."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode('ascii')}"


def _write_detail(path: Path, number: int, detail: Mapping[str, Any], sprite: Sprite) -> None:
    """Write the script `path` of an opened video, and its sprite beside it, with the suffix .webp.

    Raises:
        StoppedError: The disk is full.
    """
    with atomic_path(path.with_suffix(".webp")) as temporary:
        temporary.write_bytes(sprite.webp)
    with atomic_open(path) as file:
        file.write(f"fvarVideo({number}, {as_json(detail)});\n")
