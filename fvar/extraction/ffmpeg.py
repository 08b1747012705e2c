"""The ffmpeg command: it reads local files only, stops at the first error and leaves the times untouched."""

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import IO, Any, cast

import ffmpeg
import imageio_ffmpeg

from fvar.errors import ConfigError
from fvar.extraction.collect import Size
from fvar.extraction.probe.claims import MAX_PIXELS

_OLDEST = (5, 1)  # the first with -fps_mode
_OLDEST_LIBAVUTIL = (57, 28)  # of 5.1; builds between two releases have only this number
_VERSION_SECONDS = 20.0
_MOST_PARTS = 4096  # of a tick: as many frames in a row may have the same time
_PLACEHOLDER = "file:input"  # ffmpeg-python cannot hold a name that is not UTF-8
_FINEST_TICKS = 2**31 - 1  # a second: NUT holds no more
_WHITE_NITS = 203  # brightness of a white page in HDR: ITU-R BT.2408


@dataclass(frozen=True)
class Ffmpeg:
    """An ffmpeg that can be run, and the version that it prints."""

    path: str
    version: str


def find_ffmpeg(override: str | None = None) -> Ffmpeg:
    """Return the bundled ffmpeg, or the one at `override`.

    Raises:
        ConfigError: It does not run, or is older than 5.1.
    """
    path = override or imageio_ffmpeg.get_ffmpeg_exe()
    try:
        text = subprocess.run(
            [path, "-version"], capture_output=True, timeout=_VERSION_SECONDS, check=True
        ).stdout.decode(errors="replace")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise _unusable(path, f"does not run ({error})") from error
    first = re.match(r"ffmpeg version (\S+)", text)
    if first is None:
        raise _unusable(path, f"prints {text[:60]!r} for -version, which ffmpeg does not")
    if _is_too_old(first[1], text):
        raise _unusable(path, f"is version {first[1]}, must be {_OLDEST[0]}.{_OLDEST[1]} or later")
    return Ffmpeg(path, first[1])


def _unusable(path: str, problem: str) -> ConfigError:
    fix = "give the path of an ffmpeg program, or omit --ffmpeg to use the bundled one"
    return ConfigError(f"--ffmpeg {path}", problem, fix=fix)


def _is_too_old(version: str, text: str) -> bool:
    if numbers := re.match(r"n?(\d+)\.(\d+)", version):
        return (int(numbers[1]), int(numbers[2])) < _OLDEST
    library = re.search(r"libavutil\s+(\d+)\.\s*(\d+)", text)
    return library is None or (int(library[1]), int(library[2])) < _OLDEST_LIBAVUTIL


@dataclass(frozen=True)
class DecodeSettings:
    """How a video becomes JPEG.

    Attributes:
        short_side: Of the stored frames, px.
        quality: ffmpeg's JPEG scale, 1..31; 1 is the best.
        threads: That scale and encode, in one ffmpeg.
        time_limit_seconds: Without a frame; then the video is given up.
        fps: Keep the frames shown at this many ticks per second; None: all.
        stride: Keep every stride-th frame; None: all.
        stretch: Use the full range of pictures whose 16 bits are not all used.
        keep_going: Go on past damage.
        video_stream: Which video stream, from 0, without covers; None: the one that a player shows.
    """

    short_side: int
    quality: int
    threads: int = 1
    time_limit_seconds: float = 300.0
    fps: float | None = None
    stride: int | None = None
    stretch: bool = False
    keep_going: bool = False
    video_stream: int | None = None


@dataclass(frozen=True)
class FfmpegInput:
    """A video as ffmpeg reads it.

    Attributes:
        url: Of the input.
        format: libavformat's name of its container; ffmpeg tries no other.
        time_base: Unit of its times, seconds.
        options: Of the input.
        hdr: Transfer function of high dynamic range; None: it has an ordinary range.
        feed: Writes the video to ffmpeg's standard input; None: ffmpeg reads `url`.
        seconds: Time of each frame in order, if ffmpeg cannot know it.
        stream: Which of the streams, as ffmpeg names it; V:0 is the first that is no cover.
        frame_seconds: Usual time from a frame to the next; None: unknown.
        box: Size of the stored frames; a frame of another shape gets black bars. None: the size of the first
            frame, scaled to the short side.
    """

    url: str
    format: str
    time_base: Fraction
    options: Mapping[str, str | int | Size] = field(default_factory=dict)
    hdr: str | None = None
    feed: Callable[[IO[bytes]], None] | None = None
    seconds: Sequence[float] | None = None
    stream: str = "V:0"
    frame_seconds: float | None = None
    box: Size | None = None

    @property
    def parts(self) -> int:
        """Into how many parts a tick is divided, for frames that have the time of the frame before.

        An encoder wants times that rise. A frame whose time does not gets the next part of a tick, so that
        rounding down gives the time that it is stored with.
        """
        return max(1, min(_MOST_PARTS, _FINEST_TICKS // self.time_base.denominator))


def build_command(video: FfmpegInput, *, program: Ffmpeg, settings: DecodeSettings) -> list[str]:
    """Return the command that decodes `video` and writes its frames to standard output, as JPEG in NUT."""
    words = cast("list[str]", _stream(video, settings).get_args())
    words[words.index(_PLACEHOLDER)] = video.url
    switches = ["-hide_banner", "-nostats", "-loglevel", "level+info"]
    if not settings.keep_going:
        switches.append("-xerror")
    if video.feed is None:
        switches.append("-nostdin")
    return [program.path, *switches, "-filter_threads", str(settings.threads), *words]


def _stream(video: FfmpegInput, settings: DecodeSettings) -> Any:
    clock = video.time_base / video.parts
    quality: dict[str, int] = {"q:v": settings.quality}
    if settings.quality == 1:
        quality["qmin"] = 1  # otherwise the encoder stays at 2
    opened = ffmpeg.input(
        _PLACEHOLDER,
        # Only the input itself: no other file, no network, no giant frame.
        protocol_whitelist="file" if video.feed is None else "pipe",
        format_whitelist=video.format,
        max_pixels=MAX_PIXELS,
        # One thread decodes: several disagree about where an error was, and whether there was one.
        threads=1,
        **video.options,
    )
    return opened[video.stream].output(
        "pipe:1",
        map_metadata=-1,
        vf=",".join([*_rising(clock), *_filters(settings.short_side, video.box, video.hdr)]),
        vcodec="mjpeg",
        fps_mode="passthrough",
        enc_time_base=f"{clock.numerator}:{clock.denominator}",
        threads=settings.threads,
        format="nut",
        **quality,
    )


def _rising(clock: Fraction) -> Iterator[str]:
    """Yield filters that keep times; a frame whose time does not rise comes right after the one before."""
    yield f"settb={clock.numerator}/{clock.denominator}"
    after = "PREV_OUTPTS+1"
    yield f"setpts='if(isnan(PREV_OUTPTS),if(isnan(PTS),0,PTS),if(isnan(PTS),{after},max(PTS,{after})))'"


def _filters(side: int, box: Size | None, hdr: str | None) -> Iterator[str]:
    """Yield ffmpeg's filters; dar, the shape of a frame as it is shown, makes its pixels square."""
    if box is None:
        width = f"if(gte(dar,1),2*round({side}*dar/2),{side})"
        height = f"if(gte(dar,1),{side},2*round({side}/dar/2))"
    else:
        wide, high = box
        # If a frame has the box's shape but for rounding, it fills the box.
        fits = f"lte(abs({high}*dar-{wide}),1)+lte(abs({wide}/dar-{high}),1)"
        width = f"if({fits}+gte(dar,{wide}/{high}),{wide},max(2,2*round({high}*dar/2)))"
        height = f"if({fits}+lte(dar,{wide}/{high}),{high},max(2,2*round({wide}/dar/2)))"
    colors = "out_range=full:out_color_matrix=bt601"  # what readers of JPEG assume
    if hdr is None:
        yield f"scale=w='{width}':h='{height}':{colors}"
    else:
        # Without this it would look gray: convert to linear light, to the ordinary range, and back.
        yield f"scale=w='{width}':h='{height}',format=yuv444p10"
        yield f"zscale=tin={hdr}:min=bt2020nc:pin=bt2020:t=linear:npl={_WHITE_NITS}"
        yield "format=gbrpf32le,zscale=p=bt709,tonemap=tonemap=hable:desat=0"
        yield f"zscale=t=bt709:m=bt709:r=tv,format=yuv444p,scale={colors}"
    yield "setsar=1,format=yuvj420p"
    if box is not None:
        yield f"pad={box[0]}:{box[1]}:-1:-1"
