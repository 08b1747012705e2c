"""What a file claims, against what was decoded."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from fvar.extraction.probe.claims import Claims, Glance, UnreadableError
from fvar.extraction.probe.container import glance

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"  # as libavformat calls it
CLAIMS = Claims(
    format=MP4,
    frames=10,
    packets=10,
    empty=0,
    one_each=True,
    hidden=0,
    time_base=Fraction(1, 25),
    fps=25.0,
    rotation=0,
    size=(64, 48),
    hdr=None,
    error=None,
)


@pytest.mark.parametrize(
    ("changes", "decoded", "doubt"),
    [
        ({}, 10, None),
        ({"frames": 0, "packets": 12}, 10, "it holds 12 coded frames, 10 decoded"),
        ({"frames": 0, "packets": 12, "one_each": False}, 10, None),  # VP9's hidden frames
        ({"frames": 0, "packets": 12, "empty": 2}, 10, None),
        ({"cut": "it is cut short: x"}, 10, "it is cut short: x, 10 frames decoded"),
        ({"frames": 4, "packets": 30}, 30, None),  # fragmented: the header counts the first part
        ({"empty": 3}, 8, None),  # packed B-frames leave packets without a picture
        ({"empty": 3}, 6, "its header claims 10 frames, 6 decoded"),
        ({"packets": 6, "empty": 6}, 4, "it is cut short: its header claims 10 frames, it holds 6"),
        ({"hidden": 3}, 7, "its header claims 10 frames, 7 decoded; its edit list hides 3"),
        ({"error": "I/O"}, 10, "its packets cannot all be read (I/O), 10 frames decoded"),
    ],
)
def test_claims_are_held_against_the_frames(
    changes: dict[str, object], decoded: int, doubt: str | None
) -> None:
    """Doubt rises exactly when the header or the packets promise more than was decoded."""
    found = replace(CLAIMS, **changes).doubt(decoded)
    assert (found is None) == (doubt is None)
    assert (doubt or "") in (found or "")


def test_a_glance_at_the_header(samples: Path) -> None:
    """Frames come from the count or from duration and rate; a file without either is unreadable."""
    assert glance(samples / "plain.mp4") == Glance(MP4, 50, 2.0, (64, 48))
    assert glance(samples / "plain.mkv") == Glance("matroska,webm", 50, 2.0, (64, 48))
    for name in ("text.mp4", "sound.m4a"):
        with pytest.raises(UnreadableError):
            glance(samples / name)
