"""Which part of a video's pictures the network sees, and in which numbers: one crop and flip a video.

Letters: n pictures, H and W of the stored pictures, S the side of the square that the network sees (px).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

# Of ImageNet's training pictures, RGB in 0..1; torchvision's weights expect them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

MULTI_SCALES = (
    1.0,
    0.875,
    0.75,
    0.66,
)  # TSN's and TSM's training crops, as shares of the short side
# Their 13 fixed places of a crop, as shares of the free space (down, right), in quarters
_PLACES = np.array(
    [
        (0, 0),
        (0, 4),
        (4, 0),
        (4, 4),
        (2, 2),
        (2, 0),
        (2, 4),
        (4, 2),
        (0, 2),
        (1, 1),
        (1, 3),
        (3, 1),
        (3, 3),
    ]
)


@dataclass(frozen=True)
class Framing:
    """The rectangle of every picture of one video that is seen, and whether it is mirrored (px)."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False

    def apply(self, pictures: Tensor, *, size: int) -> Tensor:
        """Crop, resize and normalise: (n, 3, H, W) uint8 -> (n, 3, S, S) float32, mean 0 and deviation 1."""
        seen = tv.resized_crop(pictures, self.top, self.left, self.height, self.width, [size, size])
        if self.mirrored:
            seen = seen.flip(-1)
        mean = torch.tensor(MEAN, device=seen.device).view(3, 1, 1) * 255
        std = torch.tensor(STD, device=seen.device).view(3, 1, 1) * 255
        normalised: Tensor = (seen.to(torch.float32) - mean) / std
        return normalised


def center_framing(height: int, width: int, *, share: float) -> Framing:
    """Return the central square whose side is `share` of the short side."""
    side = max(1, round(min(height, width) * share))
    return Framing((height - side) // 2, (width - side) // 2, side, side)


def multi_scale_framing(height: int, width: int, *, key: int) -> Framing:
    """Draw a crop of TSM's recipe: sides from `MULTI_SCALES`, at most one step apart, at one of 13 places."""
    draw = np.random.default_rng(key)
    sides = [max(1, round(min(height, width) * scale)) for scale in MULTI_SCALES]
    pairs = [(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1]
    crop_height, crop_width = pairs[draw.integers(len(pairs))]
    down, right = _PLACES[draw.integers(len(_PLACES))]
    return Framing(
        int((height - crop_height) * down // 4),
        int((width - crop_width) * right // 4),
        crop_height,
        crop_width,
    )


CROPS: dict[str, Callable[[int, int, float, int], Framing]] = {
    "center": lambda height, width, share, _key: center_framing(height, width, share=share),
    "multi-scale": lambda height, width, _share, key: multi_scale_framing(height, width, key=key),
}
