"""How large a frame store will become, guessed from the headers of some videos before any is decoded."""

import math
from collections.abc import Sequence
from pathlib import Path

from fvar.data.container import Glance, UnreadableError, glance
from fvar.data.folder import glance_at_series

_SAMPLE = 64  # videos looked at: opening one takes milliseconds, a hundred thousand take minutes
# Bytes a pixel of JPEG at quality 2 and short side 128, and how they fall with quality and size: fitted to
# UT-Interaction, Big Buck Bunny and three phone videos; a single video may take twice as much or half.
_BYTES_PER_PIXEL = 0.32
_QUALITY_EXPONENT = 0.65
_SIDE_EXPONENT = 0.55


def estimate_store(
    paths: Sequence[Path],
    *,
    short_side: int,
    quality: int,
    fps: float | None = None,
    stride: int | None = None,
) -> tuple[int, int] | None:
    """Return about how many frames and bytes `paths` will take; None: no header tells.

    Args:
        paths: All videos; some of them, evenly spaced, are looked at.
        short_side: Of the stored pictures, px.
        quality: ffmpeg's JPEG scale, 1..31.
        fps: Ticks a second at which frames are kept; None: all are.
        stride: One in this many frames is kept; None: all are.
    """
    step = math.ceil(len(paths) / _SAMPLE)
    looked: list[Glance] = []
    for path in paths[::step]:
        try:
            looked.append(glance_at_series(path) if path.is_dir() else glance(path))
        except (UnreadableError, OSError):
            continue  # extraction itself will say what is wrong with it
    if not looked:
        return None
    per_pixel = (
        _BYTES_PER_PIXEL * (2 / quality) ** _QUALITY_EXPONENT * (128 / short_side) ** _SIDE_EXPONENT
    )
    scale = len(paths) / len(looked)
    kept = [_kept(found, fps=fps, stride=stride) for found in looked]
    ratios = [max(found.size) / min(found.size) for found in looked]
    pixels = sum(map(math.prod, zip(kept, ratios, strict=True))) * short_side**2
    return round(sum(kept) * scale), round(pixels * per_pixel * scale)


def _kept(found: Glance, *, fps: float | None, stride: int | None) -> int:
    if stride is not None:
        return math.ceil(found.frames / stride)
    if fps is not None and found.seconds:
        return min(found.frames, math.ceil(found.seconds * fps))
    return found.frames
