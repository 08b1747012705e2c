"""The ffmpeg command: local files only, an end at the first error, one JPEG a frame, times untouched."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, Any, cast

import ffmpeg

from fvar.extraction.collect import Size
from fvar.extraction.parts import Sink
from fvar.extraction.probe.claims import MAX_PIXELS
from fvar.extraction.program import Ffmpeg

_STAND_IN = (
    "file:input"  # for the input meanwhile: ffmpeg-python cannot hold a name that is not UTF-8
)
_WHITE_NITS = 203  # brightness of a white page in HDR: ITU-R BT.2408


@dataclass(frozen=True)
class DecodeSettings:
    """How a video becomes JPEG.

    Attributes:
        short_side: Of the stored pictures, px.
        quality: ffmpeg's JPEG scale, 1..31.
        threads: That scale and encode, in one ffmpeg.
        time_limit_seconds: Without a picture; then the video is given up.
        fps: Keep the frames shown at this many ticks a second; None: all.
        stride: Keep every stride-th frame; None: all.
    """

    short_side: int
    quality: int
    threads: int = 1
    time_limit_seconds: float = 300.0
    fps: float | None = None
    stride: int | None = None


@dataclass(frozen=True)
class Footage:
    """What ffmpeg reads.

    Attributes:
        url: Of its input.
        format: That this is of, by libavformat's names; ffmpeg tries no other.
        options: Of its input.
        time_base: Unit of its times, seconds.
        hdr: Transfer function of its high dynamic range; None: an ordinary one.
        feed: Writes to ffmpeg's standard input; None: nothing is.
        seconds: Time of each picture in order, where ffmpeg cannot know it.
    """

    url: str
    format: str
    options: dict[str, str | int | Size]
    time_base: Fraction
    hdr: str | None = None
    feed: Callable[[IO[bytes]], None] | None = None
    seconds: Sequence[float] | None = None


@dataclass(frozen=True)
class Take:
    """A video to be decoded.

    Attributes:
        footage: What to decode.
        parts: Are offered every picture.
        box: Size of the pictures; what has another shape gets black bars. None: that of the first one with
            its short side as set.
    """

    footage: Footage
    parts: Sequence[Sink]
    box: Size | None = None


def build_command(take: Take, *, program: Ffmpeg, settings: DecodeSettings) -> list[str]:
    """Return the command that decodes `take` and writes its pictures to standard output, as NUT."""
    words = cast("list[str]", _stream(take, settings).get_args())
    words[words.index(_STAND_IN)] = take.footage.url
    switches = ["-hide_banner", "-nostats", "-loglevel", "level+info", "-xerror"]
    if take.footage.feed is None:
        switches.append("-nostdin")
    return [program.path, *switches, "-filter_threads", str(settings.threads), *words]


def _stream(take: Take, settings: DecodeSettings) -> Any:
    footage, clock = take.footage, take.footage.time_base
    quality: dict[str, int] = {"q:v": settings.quality}
    if settings.quality == 1:
        quality["qmin"] = 1  # otherwise the encoder stays at 2
    source = ffmpeg.input(
        _STAND_IN,
        # Its input alone: no other file, no network, no giant picture.
        protocol_whitelist="file" if footage.feed is None else "pipe",
        format_whitelist=footage.format,
        max_pixels=MAX_PIXELS,
        # One thread decodes: several do not agree at which frame an error was, nor whether there was one.
        threads=1,
        **footage.options,
    )
    return source["V:0"].output(
        "pipe:1",
        map_metadata=-1,
        vf=",".join(_filters(settings.short_side, take.box, footage.hdr)),
        vcodec="mjpeg",
        fps_mode="passthrough",
        enc_time_base=f"{clock.numerator}:{clock.denominator}",
        threads=settings.threads,
        format="nut",
        **quality,
    )


def _filters(side: int, box: Size | None, hdr: str | None) -> Iterator[str]:
    """Yield ffmpeg's filters; dar, the shape of a picture as it is shown, makes its pixels square."""
    if box is None:
        width = f"if(gte(dar,1),2*round({side}*dar/2),{side})"
        height = f"if(gte(dar,1),{side},2*round({side}/dar/2))"
    else:
        wide, high = box
        # within rounding of the box's shape: fill it
        fits = f"lte(abs({high}*dar-{wide}),1)+lte(abs({wide}/dar-{high}),1)"
        width = f"if({fits}+gte(dar,{wide}/{high}),{wide},max(2,2*round({high}*dar/2)))"
        height = f"if({fits}+lte(dar,{wide}/{high}),{high},max(2,2*round({wide}/dar/2)))"
    colours = "out_range=full:out_color_matrix=bt601"  # what readers of JPEG assume
    if hdr is None:
        yield f"scale=w='{width}':h='{height}':{colours}"
    else:
        # Shown as if it were ordinary it would be grey: to light, to the ordinary range, back to a picture.
        yield f"scale=w='{width}':h='{height}',format=yuv444p10"
        yield f"zscale=tin={hdr}:min=bt2020nc:pin=bt2020:t=linear:npl={_WHITE_NITS}"
        yield "format=gbrpf32le,zscale=p=bt709,tonemap=tonemap=hable:desat=0"
        yield f"zscale=t=bt709:m=bt709:r=tv,format=yuv444p,scale={colours}"
    yield "setsar=1,format=yuvj420p"
    if box is not None:
        yield f"pad={box[0]}:{box[1]}:-1:-1"
