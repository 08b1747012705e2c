"""Crops and pixel values: which part of a video's pictures the network sees, as normalized numbers.

Letters: n pictures, H and W of the stored pictures, S the side of the square that the network sees (px).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Mean and standard deviation of ImageNet's training pictures, RGB in 0..1; torchvision's weights expect them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# TSN's and TSM's training crops, as fractions of the short side
MULTI_SCALES = (1.0, 0.875, 0.75, 0.66)
# Their 13 places of a crop (down, right), in quarters of the free space
_PLACES = (
    *((0, 0), (0, 4), (4, 0), (4, 4)),
    (2, 2),
    *((2, 0), (2, 4), (4, 2), (0, 2)),
    *((1, 1), (1, 3), (3, 1), (3, 3)),
)


@dataclass(frozen=True)
class Framing:
    """The rectangle (px) that is cut out of every picture of one video, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False

    @property
    def rectangle(self) -> tuple[int, int, int, int]:
        """What is cut out; both mirror images have the same."""
        return self.top, self.left, self.height, self.width

    def crop(self, pictures: Tensor, *, size: int) -> Tensor:
        """Crop and resize: (n, 3, H, W) uint8 -> (n, 3, S, S) uint8, not mirrored."""
        rows = slice(self.top, self.top + self.height)
        return _resized(pictures[..., rows, self.left : self.left + self.width], size=size)

    def finish(self, cropped: Tensor) -> Tensor:
        """Mirror and normalize: (n, 3, S, S) uint8 -> float32, mean 0 and deviation 1."""
        seen = cropped.flip(-1) if self.mirrored else cropped
        mean, std = _statistics(seen.device)
        normalized: Tensor = (seen.to(torch.float32) - mean) / std
        return normalized


@cache  # a copy to the device would make the host wait for it, at every chunk
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel in levels of 0..255, (3, 1, 1) each."""
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) * 255 for values in (MEAN, STD))
    return mean, std


def _resized(pictures: Tensor, *, size: int) -> Tensor:
    """Resize (n, 3, h, w) uint8 to (n, 3, S, S) uint8, bilinear and antialiased.

    Equals torchvision's ``resize`` to the bit; `import torchvision` would load torch's compiler too.
    """
    if pictures.shape[-2:] == (size, size):
        return pictures
    # Only a CPU can resize integers, which is faster there.
    source = pictures if pictures.device.type == "cpu" else pictures.to(torch.float32)
    resized = functional.interpolate(source, (size, size), mode="bilinear", antialias=True)
    return resized if resized.dtype == torch.uint8 else resized.round_().to(torch.uint8)


def center_framing(height: int, width: int, *, fraction: float) -> Framing:
    """Return the central square whose side is `fraction` of the short side."""
    side = max(1, round(min(height, width) * fraction))
    return Framing((height - side) // 2, (width - side) // 2, side, side)


def multi_scale_framing(height: int, width: int, *, key: int) -> Framing:
    """Draw a crop of TSM's recipe: sides from `MULTI_SCALES`, at most one step apart, at one of 13 places."""
    draw = np.random.default_rng(key)
    sides = [max(1, round(min(height, width) * scale)) for scale in MULTI_SCALES]
    pairs = [(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1]
    crop_height, crop_width = pairs[draw.integers(len(pairs))]
    down, right = _PLACES[draw.integers(len(_PLACES))]
    return Framing(
        (height - crop_height) * down // 4,
        (width - crop_width) * right // 4,
        crop_height,
        crop_width,
    )
