"""The colors of clusters and of text on them, which color-blind people can distinguish too.

Source of the six: M. Okabe and K. Ito, Color Universal Design (2008), without its yellow (hard to see on
white) and its black (hard to see among dark frames).
"""

from matplotlib.colors import to_rgb
from matplotlib.typing import ColorType

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
INK = "#222222"
FAINT_INK = "#6b6b6b"
RULE = "#c9c9c9"

# Above this luminance black has more contrast than white: WCAG 2.1, (L + 0.05)^2 = 1.05 * 0.05.
_MID_LUMINANCE = 0.179


def cluster_color(cluster: int) -> str:
    """Return the color of a cluster; neighbors always differ, the colors repeat after six clusters."""
    return PALETTE[cluster % len(PALETTE)]


def ink_on(color: ColorType) -> str:
    """Return black or white, whichever reads better on a color in sRGB."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in to_rgb(color)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > _MID_LUMINANCE else "#ffffff"
