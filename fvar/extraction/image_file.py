"""One picture in a file that nobody vouches for."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fvar.extraction.probe.claims import MAX_PIXELS, UnreadableError

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # of Pillow, told by content

# A picture whose header claims a hundred million pixels is refused before any is decoded.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def open_picture(path: Path) -> Image.Image:
    """Return a picture upright, as RGB, 8 bits a channel.

    Raises:
        UnreadableError: It cannot be read, or claims more than `MAX_PIXELS`.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _refuse_giant(path, image.size)  # before its pixels are read
            if image.mode.startswith("I"):  # 16 bits: converting would clip
                high_bytes = np.asarray(image).astype(np.uint16) >> 8
                return Image.fromarray(high_bytes.astype(np.uint8)).convert("RGB")
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        why = getattr(error, "strerror", None) or str(error).replace(str(path), path.name)
        raise UnreadableError(f"{path.name} ({why})") from error


def _refuse_giant(path: Path, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise UnreadableError(f"{path.name} (claims {size[0]}x{size[1]} px)")


def fit_picture(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return `picture` with `size`, px, in black bars where its shape is another."""
    return ImageOps.pad(picture, size)
