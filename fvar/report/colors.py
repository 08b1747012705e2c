"""The colors of clusters, of lines and of text on them, which color-blind people can distinguish too."""

import math
from collections.abc import Sequence
from functools import cache

# Source: M. Okabe and K. Ito, Color Universal Design (2008), without its yellow (hard to see on white) and
# its black (hard to see among dark frames).
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
INK = "#222222"
FAINT_INK = "#6b6b6b"
RULE = "#c9c9c9"

# Above this luminance black has more contrast than white: WCAG 2.1, (L + 0.05)^2 = 1.05 * 0.05.
_MID_LUMINANCE = 0.179

# Of clusters, in OKLCH. Time goes from blue over green to red, so that no color comes again. Lightness
# alternates, so that neighbors differ for people who see no hue.
_FIRST_HUE, _LAST_HUE = 262.0, 25.0
_LIGHTNESS, _CHROMA = (0.52, 0.80), (0.115, 0.105)


def line_color(number: int) -> str:
    """Return the color of a line or a class; the colors repeat after six."""
    return PALETTE[number % len(PALETTE)]


@cache
def cluster_colors(count: int) -> tuple[str, ...]:
    """Return a color for each of `count` clusters of a video, in time: all differ, neighbors clearly."""
    step = (_LAST_HUE - _FIRST_HUE) / max(count - 1, 1)
    return tuple(
        _from_oklch(_LIGHTNESS[j % 2], _CHROMA[j % 2], _FIRST_HUE + j * step) for j in range(count)
    )


def cluster_color(cluster: int, count: int) -> str:
    """Return the color of one of `count` clusters of a video."""
    return cluster_colors(count)[cluster]


def _from_oklch(lightness: float, chroma: float, hue: float) -> str:
    """Return a color of OKLCH in sRGB; the matrices are from B. Ottosson, A perceptual color space (2020)."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )
    parts = (
        12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055
        for part in (min(max(part, 0.0), 1.0) for part in linear)
    )
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def ink_on(color: str | Sequence[float]) -> str:
    """Return black or white, whichever reads better on a color in sRGB: ``#rrggbb``, or parts in 0..1."""
    if isinstance(color, str):
        color = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color[:3]
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > _MID_LUMINANCE else "#ffffff"
