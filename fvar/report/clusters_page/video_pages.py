"""What the page shows of each video: its row in the table, its filmstrip, its numbers and its sprite."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from fvar.report.boundaries import KnownSegment
from fvar.report.clusters_page.page import Row, as_json
from fvar.report.clusters_page.sprite import Sprite, draw_strip, make_sprite
from fvar.report.colors import cluster_colors, ink_on
from fvar.report.pictures.filmstrip import write_filmstrip
from fvar.report.pictures.thumbnails import Picture, decode_thumbnail
from fvar.store.clusters.video_clusters import VideoClusters
from fvar.store.encoded_video import EncodedVideo
from fvar.store.files import atomic_open, atomic_path, slug

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


def is_picture(name: str) -> bool:
    """Return whether a file in `FILMSTRIPS` or `VIDEOS` has a name that `VideoPages` gives."""
    return re.fullmatch(r"[0-9]{5,}-[A-Za-z0-9_-]+\.(png|js|webp)", name) is not None


class VideoPages:
    """Writes the files of each video, and tells what the page itself shows of it.

    Attributes:
        folder: Of the page.
    """

    def __init__(
        self,
        folder: Path,
        ids: Sequence[str],
        *,
        runs: Sequence[str],
        beside: bool,
        drafts: Path,
        originals: Mapping[str, str],
        known: Mapping[str, Sequence[KnownSegment]],
    ) -> None:
        """Write below `folder`.

        Args:
            folder: Of the page.
            ids: Of all videos, in order.
            runs: Names of the trainings; the first one's clusters are those of the page.
            beside: Whether numbers and sprites of videos lie beside the page; else it holds them.
            drafts: Folder of what the page will hold, until it is written.
            originals: Addresses of the video files that are there, by id.
            known: Marked segments of some videos, by id.
        """
        self.folder, self._beside, self._drafts = folder, beside, drafts
        self._runs, self._originals, self._known = runs, originals, known
        self._names = [f"{number:05d}-{slug(name)}" for number, name in enumerate(ids)]

    def write(
        self,
        number: int,
        runs: Sequence[VideoClusters],
        video: EncodedVideo,
        *,
        near: Sequence[NearVideo] = (),
    ) -> None:
        """Write the filmstrip of a video, its numbers and its sprite.

        Args:
            number: From 0, its place among `ids`.
            runs: Its clusters under each training.
            video: Its frames.
            near: Training videos to show beside it.

        Raises:
            InputError: A picture is damaged.
            StoppedError: The disk is full.
        """
        clusters = runs[0]

        @cache
        def picture(frame: int) -> Picture:
            return decode_thumbnail(video.frame(frame), least=_LEAST)

        write_filmstrip(
            self.folder / self._filmstrip(number), clusters, lambda frame, _: picture(frame)
        )
        sprite = make_sprite(clusters, picture)
        source = self._sprite(number) if self._beside else _as_address(sprite.webp)
        detail = _make_detail(clusters, sprite, source)
        detail["original"] = self._originals.get(clusters.id)
        detail["near"] = [_near(found) for found in near]
        detail["known"] = [
            [part.start_seconds, part.stop_seconds, part.name]
            for part in self._known.get(clusters.id, ())
        ]
        detail["runs"] = [_band(*found) for found in zip(self._runs, runs, strict=True)]
        if self._beside:
            with atomic_path(self.folder / source) as temporary:
                temporary.write_bytes(sprite.webp)
            with atomic_open(self.folder / self._script(number)) as file:
                file.write(f"fvarVideo({number}, {as_json(detail)});\n")
        else:
            with atomic_open(self._draft(number)) as file:
                file.write(as_json(detail))

    def row(self, number: int, clusters: VideoClusters) -> Row:
        """Return the row of a video in the table."""
        script = self._script(number) if self._beside else None
        return _make_row(clusters, number, filmstrip=self._filmstrip(number), detail=script)

    def embedded(self) -> Iterator[tuple[int, str]]:
        """Yield what the page holds of each video, with its number; nothing where that lies beside."""
        if not self._beside:
            for number in range(len(self._names)):
                yield number, self._draft(number).read_text(encoding="utf-8")

    @property
    def files(self) -> list[str]:
        """Paths of all files that are written and stay, from the folder."""
        return [name for number in range(len(self._names)) for name in self._files(number)]

    def has(self, number: int) -> bool:
        """Return whether the files of a video are there."""
        drafts = [] if self._beside else [self._draft(number)]
        paths = [*(self.folder / name for name in self._files(number)), *drafts]
        return all(path.is_file() for path in paths)

    def _files(self, number: int) -> list[str]:
        beside = [self._script, self._sprite] if self._beside else []
        return [path(number) for path in (self._filmstrip, *beside)]

    def _filmstrip(self, number: int) -> str:
        return f"{FILMSTRIPS}/{self._names[number]}.png"

    def _script(self, number: int) -> str:
        return f"{VIDEOS}/{self._names[number]}.js"

    def _sprite(self, number: int) -> str:
        return f"{VIDEOS}/{self._names[number]}.webp"

    def _draft(self, number: int) -> Path:
        return self._drafts / f"{number:05d}.json"


def _band(run: str, clusters: VideoClusters) -> dict[str, Any]:
    """Return the clusters of a video under one training, as a band in time."""
    return {
        "name": run,
        "what": f"{clusters.predicted}, {clusters.verdict}",
        "starts": clusters.start_seconds.round(_DIGITS).tolist(),
        "colors": cluster_colors(clusters.num_clusters),
    }


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


def _make_detail(clusters: VideoClusters, sprite: Sprite, source: str) -> dict[str, Any]:
    """Return what the page shows of an opened video, as JSON can hold it.

    Args:
        clusters: Of the video.
        sprite: Its pictures.
        source: Address of the sprite's picture.
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
    }


def _as_address(webp: bytes) -> str:
    """Return a picture as an address that holds it."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode('ascii')}"
