"""ffmpeg at work: any pictures in, JPEG pictures of one size out, each with its time."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from io import BufferedReader, RawIOBase
from typing import IO, Any, cast

import av
import ffmpeg

from fvar.data.container import FORMATS, MAX_PIXELS, short
from fvar.data.jpeg import picture_size
from fvar.data.parts import Sink
from fvar.data.program import Ffmpeg, Messages, Running, Watch, end
from fvar.errors import StoppedError

_STAND_IN = "file:input"
_ASKED_TO_END = {-signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM}  # as exit codes
_WHITE_NITS = 203  # brightness of a white page in HDR: ITU-R BT.2408

Size = tuple[int, int]  # width and height, px


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
        options: Of its input.
        time_base: Unit of its times, seconds.
        hdr: Transfer function of its high dynamic range; None: an ordinary one.
        feed: Writes to ffmpeg's standard input; None: nothing is.
        seconds: Time of each picture in order, where ffmpeg cannot know it.
    """

    url: str
    options: dict[str, str | int | Size]
    time_base: Fraction
    hdr: str | None = None
    feed: Callable[[IO[bytes]], None] | None = None
    seconds: Sequence[float] | None = None


@dataclass
class Pictures:
    """What came out of ffmpeg, and what it said.

    Attributes:
        parts: Where the pictures go.
        count: Called at each.
        size: Of all pictures.
        num_decoded: Pictures that came.
        last_seconds: When the last of them is shown.
        problem: What went wrong; None: nothing.
        passing: Whether that may be the moment's fault rather than the input's.
        new_sizes: Of pictures of the input that were unlike those before.
    """

    parts: Sequence[Sink]
    count: Callable[[], None]
    size: Size = (0, 0)
    num_decoded: int = 0
    last_seconds: float = 0.0
    problem: str | None = None
    passing: bool = False
    new_sizes: Sequence[Size] = field(default=())
    _heard: float = field(default_factory=time.monotonic)

    def silent_seconds(self) -> float:
        """How long no picture has come."""
        return time.monotonic() - self._heard

    def fail(self, problem: str, *, passing: bool = False) -> None:
        """Note what went wrong."""
        self.problem, self.passing = problem, passing

    def take(self, pipe: RawIOBase, seconds: Sequence[float] | None) -> str | None:
        """Read the pipe to its end, and return why that was not possible."""
        try:
            # Each picture as it comes: to guess a rate, ten would be waited for.
            options = {"fpsprobesize": "0"}
            with av.open(pipe, mode="r", format="nut", options=options) as container:
                tick = container.streams.video[0].time_base or Fraction(1)
                for packet in container.demux(video=0):
                    if packet.size:
                        self._add(packet, tick, seconds)
        except av.error.FFmpegError as error:
            # Without a single picture there is no stream to open: ffmpeg's code and words tell why.
            return f"the pictures stop ({short(error)})" if self.num_decoded else None
        finally:
            for part in self.parts:
                part.close()
        return None

    def _add(
        self, packet: "av.Packet[Any]", tick: Fraction, seconds: Sequence[float] | None
    ) -> None:
        self._heard = time.monotonic()
        data = bytes(packet)
        if not self.num_decoded:
            height, width = picture_size(data) or (0, 0)
            self.size = (width, height)  # ffmpeg scales what follows to the first picture's size
        if seconds is None:
            self.last_seconds = cast(int, packet.pts) * tick.numerator / tick.denominator
        else:
            self.last_seconds = seconds[self.num_decoded]
        self.num_decoded += 1
        self.count()
        for part in self.parts:
            part.offer(data, self.last_seconds)


def take_pictures(
    footage: Footage,
    parts: Sequence[Sink],
    *,
    program: Ffmpeg,
    settings: DecodeSettings,
    running: Running,
    box: Size | None = None,
) -> Pictures:
    """Decode `footage` to its end or the first error, into `parts`.

    Args:
        footage: What to decode.
        parts: Are offered every picture.
        program: From `find_ffmpeg`.
        settings: Size, quality and limits.
        running: Where the process is entered while it runs.
        box: Size of the pictures; what has another shape gets black bars. None: that of the first one with
            its short side as set.

    Raises:
        StoppedError: Somebody asked ffmpeg to end.
    """
    pictures = Pictures(parts, running.count_picture)
    arguments = _arguments(footage, program, settings, box)
    with running.start(arguments, with_input=footage.feed is not None) as process:
        messages = Messages(cast(IO[bytes], process.stderr))
        watch = Watch(process, pictures.silent_seconds, limit_seconds=settings.time_limit_seconds)
        feeder = _start_feeding(footage, process.stdin)
        try:
            # Past its buffer, which would be filled before it gave anything.
            pipe = cast(RawIOBase, cast(BufferedReader, process.stdout).raw)
            broken = pictures.take(pipe, footage.seconds)
            given_up = broken is not None and process.poll() is None
            if given_up:
                end(process)
            code = process.wait()
        finally:
            watch.end()
            end(process)  # so that the threads beside come to their end
            feeder.join()
            messages.join()
    if code in _ASKED_TO_END or messages.signal() is not None:
        # A batch system asks all processes of a job to end, ours and ffmpeg: no verdict on the video.
        raise StoppedError(
            footage.url,
            f"its ffmpeg was ended by signal {messages.signal() or -code}",
            fix="run the same command again: finished shards are kept",
        )
    if watch.ended_it:
        limit = settings.time_limit_seconds
        pictures.fail(f"ffmpeg gave no picture for {limit:g} s (--time-limit)", passing=True)
    elif code == -signal.SIGKILL and not given_up:
        pictures.fail("ffmpeg was killed, perhaps for want of memory", passing=True)
    elif broken:
        pictures.fail(broken)
    # An error counts although ffmpeg may end with code 0: some readers skip what they cannot read.
    elif said := messages.errors() or ([f"ended with code {code}"] if code else []):
        pictures.fail(f"ffmpeg: {said[0]}")
    pictures.new_sizes = messages.new_sizes()
    return pictures


def _start_feeding(footage: Footage, pipe: IO[bytes] | None) -> threading.Thread:
    def work() -> None:
        if footage.feed is not None and pipe is not None:
            footage.feed(pipe)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _arguments(
    footage: Footage, program: Ffmpeg, settings: DecodeSettings, box: Size | None
) -> list[str]:
    """Build the command: local files only, an end at the first error, one JPEG a frame, times untouched."""
    threads, clock = settings.threads, footage.time_base
    quality: dict[str, int] = {"q:v": settings.quality}
    if settings.quality == 1:
        quality["qmin"] = 1  # otherwise the encoder stays at 2
    source = ffmpeg.input(
        _STAND_IN,  # ffmpeg-python cannot hold a name that is not UTF-8
        **_fences(footage),
        # One thread decodes: several do not agree at which frame an error was, nor whether there was one.
        threads=1,
        **footage.options,
    )
    stream = source.output(
        "pipe:1",
        map="0:V:0",
        map_metadata=-1,
        vf=",".join(_filters(settings.short_side, box, footage.hdr)),
        vcodec="mjpeg",
        fps_mode="passthrough",
        enc_time_base=f"{clock.numerator}:{clock.denominator}",
        threads=threads,
        # NUT carries the boundaries and exact times of the pictures through the pipe.
        format="nut",
        **quality,
    )
    switches = ["-hide_banner", "-nostats", "-loglevel", "level+info", "-xerror"]
    if footage.feed is None:
        switches.append("-nostdin")
    words = cast("list[str]", stream.get_args())
    words[words.index(_STAND_IN)] = footage.url
    return [program.path, *switches, "-filter_threads", str(threads), *words]


def _fences(footage: Footage) -> dict[str, str | int]:
    """Return what keeps ffmpeg to its input alone: no other file, no network, no giant picture."""
    fed = footage.feed is not None  # with what we made ourselves
    return {
        "protocol_whitelist": "pipe" if fed else "file",
        "format_whitelist": str(footage.options["format"]) if fed else FORMATS,
        "max_pixels": MAX_PIXELS,
    }


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
