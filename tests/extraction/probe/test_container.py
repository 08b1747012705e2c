"""What a file claims, against what was decoded."""

import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import pytest

from fvar.extraction.probe.claims import Claims, Glance, UnreadableError
from fvar.extraction.probe.container import glance, read_claims

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"  # as libavformat calls it
CLAIMS = Claims(
    format=MP4,
    stream=0,
    num_streams=1,
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
    assert glance(samples / "plain.mp4") == Glance(MP4, 50, 2.0)
    assert glance(samples / "plain.mkv") == Glance("matroska,webm", 50, 2.0)
    for name in ("text.mp4", "sound.m4a"):
        with pytest.raises(UnreadableError):
            glance(samples / name)


@pytest.mark.parametrize(
    ("suffix", "arguments"),
    [
        *(("nut", ""), ("mpg", ""), ("m1v", ""), ("h261", ""), ("h263", ""), ("mjpeg", "")),
        *(("y4m", "-pix_fmt yuv420p"), ("swf", "-c:v flv1"), ("rm", "-c:v rv10"), ("f4v", "")),
        *((suffix, "-c:v mpeg2video") for suffix in ("m2v", "mxf", "wtv", "vob")),
        *(
            ("gxf", "-s 720x576"),
            ("dv", "-s 720x576 -pix_fmt yuv420p"),
            ("roq", "-r 30 -s 256x256"),
        ),
        *(("ivf", "-c:v libvpx"), ("obu", "-c:v libsvtav1 -f obu"), ("m4v", "-c:v mpeg4 -f m4v")),
        *(("gif", ""), ("apng", "-f apng"), ("m2ts", ""), ("hevc", "-c:v libx265"), ("3gp", "")),
    ],
)
def test_every_video_format_is_read(tmp_path: Path, suffix: str, arguments: str) -> None:
    """The formats that are allowed include all that ffmpeg itself can write."""
    path = tmp_path / f"a.{suffix}"
    source = "-f lavfi -i testsrc=duration=0.2:rate=25:size=352x288"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", *source.split()]
    subprocess.run([*command, *arguments.split(), path], check=True)
    claims = read_claims(path)
    assert (claims.error, claims.cut) == (None, None)
    assert claims.packets >= 5
