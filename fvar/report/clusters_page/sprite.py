"""The sprite of a video: small pictures of its frames and of its clusters' means, in one file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

from PIL import Image

from fvar.report.pictures.thumbnails import Picture, film, resized, spread
from fvar.store.clusters.video_clusters import VideoClusters

TILE = (128, 128)  # px, width and height that a tile fits into
_FRAMES = 96  # over all clusters, and at least one of each
_COLUMNS = 12
_STRIP = 5  # frames of a training video beside a mistake
_QUALITY = 72  # of WebP; a clip of 96 frames takes about 150 KB


@dataclass(frozen=True)
class Sprite:
    """Tiles in rows of `columns`: first those of `frames`, in time, then the mean of each cluster.

    Attributes:
        webp: The picture.
        frames: Numbers of the frames shown.
        means: Number of tiles that are means.
        columns: Tiles in a row.
        tile_width: Of a tile, px.
        tile_height: Of a tile, px.
    """

    webp: bytes
    frames: list[int]
    means: int
    columns: int
    tile_width: int
    tile_height: int

    def layout(self, source: str) -> dict[str, object]:
        """Return what the page needs to show a tile; `source` is the address of the picture."""
        names = ("frames", "means", "columns", "tile_width", "tile_height")
        tiles = len(self.frames) + self.means
        return {"source": source, "tiles": tiles} | {name: getattr(self, name) for name in names}


def make_sprite(clusters: VideoClusters, picture: Callable[[int], Picture]) -> Sprite:
    """Return the sprite of a video; `picture` returns the picture of a frame, all of one size."""
    count = clusters.num_clusters
    per_cluster = max(_FRAMES // count, 1)
    shown = list(film(clusters, picture, per_cluster=per_cluster))
    pictures = [frame for frames, _ in shown for frame in frames] + [mean for _, mean in shown]
    webp, (tile_width, tile_height) = _sheet(pictures, columns=_COLUMNS)
    frames = [
        frame
        for start, stop in pairwise(clusters.boundaries.tolist())
        for frame in spread(start, stop, number=per_cluster)
    ]
    return Sprite(webp, frames, count, _COLUMNS, tile_width, tile_height)


def draw_strip(num_frames: int, picture: Callable[[int], Picture]) -> bytes:
    """Return a few frames of a video side by side, as WebP."""
    pictures = [picture(frame) for frame in spread(0, num_frames, number=_STRIP)]
    return _sheet(pictures, columns=len(pictures))[0]


def _sheet(pictures: Sequence[Picture], *, columns: int) -> tuple[bytes, tuple[int, int]]:
    """Return pictures in rows as WebP, and the width and height of each, px."""
    height, width = pictures[0].shape[:2]
    scale = min(TILE[0] / width, TILE[1] / height, 1)
    wide, high = max(round(width * scale), 1), max(round(height * scale), 1)
    sheet = Image.new("RGB", (columns * wide, -(-len(pictures) // columns) * high))
    for at, tile in enumerate(pictures):
        row, column = divmod(at, columns)
        sheet.paste(resized(tile, width=wide, height=high), (column * wide, row * high))
    encoded = BytesIO()
    sheet.save(encoded, "WEBP", quality=_QUALITY)
    return encoded.getvalue(), (wide, high)
