"""How large a frame store will become, guessed from the headers of some videos before any is decoded."""

import math
from collections.abc import Sequence
from pathlib import Path

from fvar.data.container import UnreadableError, glance

_SAMPLE = 64  # videos looked at: opening one takes milliseconds, a hundred thousand take minutes
# Bytes a pixel of JPEG at quality 2 and short side 128, and how they fall with quality and size: fitted to
# UT-Interaction, Big Buck Bunny and three phone videos; a single video may take twice as much or half.
_BYTES_PER_PIXEL = 0.32
_QUALITY_EXPONENT = 0.65
_SIDE_EXPONENT = 0.55


def estimate_store(
    paths: Sequence[Path], *, short_side: int, quality: int
) -> tuple[int, int] | None:
    """Return about how many frames and bytes `paths` will take; None: no header tells.

    Args:
        paths: All videos; some of them, evenly spaced, are looked at.
        short_side: Of the stored pictures, px.
        quality: ffmpeg's JPEG scale, 1..31.
    """
    step = math.ceil(len(paths) / _SAMPLE)
    looked: list[tuple[int, float]] = []
    for path in paths[::step]:
        try:
            looked.append(glance(path))
        except UnreadableError:
            continue  # extraction itself will say what is wrong with it
    if not looked:
        return None
    per_pixel = (
        _BYTES_PER_PIXEL * (2 / quality) ** _QUALITY_EXPONENT * (128 / short_side) ** _SIDE_EXPONENT
    )
    scale = len(paths) / len(looked)
    frames = sum(frames for frames, _ in looked)
    pixels = sum(frames * ratio for frames, ratio in looked) * short_side**2
    return round(frames * scale), round(pixels * per_pixel * scale)
