"""From a video file to its frames as JPEG, with proof that none is missing; the only file that knows ffmpeg.

Three witnesses: ffmpeg, which decodes; PyAV, which counts the packets there are; the container's header,
which says how many frames there ought to be. ffmpeg alone is not to be believed: of a file that was cut
short it decodes what is left and ends with code 0.
"""

import threading
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, cast

import av
import ffmpeg
import numpy as np

from fvar.data.container import FORMATS, MAX_PIXELS, UnreadableError, read_claims, short
from fvar.data.encoded import EncodedVideo
from fvar.data.jpeg import picture_size
from fvar.data.program import ErrorOutput, Ffmpeg, Running, first_line
from fvar.manifest import Status

_STAND_IN = "file:input"
# Matroska's demuxer says so, and ffmpeg ends with code 0 all the same.
_CUT_SHORT = "File ended prematurely"


@dataclass(frozen=True)
class DecodeSettings:
    """How a video becomes JPEG: `short_side` in px, `quality` 1..31, `threads` of one ffmpeg."""

    short_side: int
    quality: int
    threads: int = 1
    time_limit_seconds: float = 3600.0


@dataclass(frozen=True)
class Decoded:
    """What became of a video: its frames (None when failed) and whether they are all there."""

    status: Status
    reason: str | None
    video: EncodedVideo | None


def decode_video(
    path: Path,
    *,
    program: Ffmpeg,
    settings: DecodeSettings,
    running: Running,
    source_sha256: str = "",
    interval: tuple[float | None, float | None] = (None, None),
) -> Decoded:
    """Decode a video to JPEG pictures: upright, square pixels, short side exact, long side even.

    Args:
        path: An absolute path.
        program: From `find_ffmpeg`.
        settings: Size, quality and limits.
        running: Where the process is entered while it runs.
        source_sha256: Kept with the frames.
        interval: Frames with ``start <= time < end`` are kept, in seconds from the container's start.

    Returns:
        ``ok`` only when ffmpeg ended well, every packet was read and the header claims nothing more;
        otherwise a reason, and the frames there are.
    """
    try:
        claims = read_claims(path)
    except UnreadableError as error:
        return Decoded("failed", str(error), None)
    pictures = _Pictures(interval)
    ended = _run(_arguments(path, program, settings, claims.time_base), pictures, settings, running)
    doubts = (claims.doubt(pictures.num_decoded), ended)
    reason = "; ".join(doubt for doubt in doubts if doubt)
    if not pictures.pts_seconds:
        return Decoded("failed", reason or pictures.why_none(), None)
    video = EncodedVideo(
        jpeg=np.frombuffer(pictures.jpeg, dtype=np.uint8),
        offsets=np.array(pictures.offsets, dtype=np.int64),
        pts_seconds=np.array(pictures.pts_seconds, dtype=np.float64),
        width=pictures.size[0],
        height=pictures.size[1],
        fps=claims.fps,
        rotation=claims.rotation,
        source_sha256=source_sha256,
        ffmpeg_version=program.version,
    )
    return Decoded("partial" if reason else "ok", reason or None, video)


def _arguments(
    path: Path, program: Ffmpeg, settings: DecodeSettings, time_base: Fraction
) -> list[str]:
    """Build the command: local files only, an end at the first error, one JPEG a frame, times untouched."""
    side, threads = settings.short_side, settings.threads
    # dar, of the picture as shown, makes pixels square; out_color_matrix is what readers of JPEG assume.
    scale = (
        f"scale=w='if(gte(dar,1),2*round({side}*dar/2),{side})':"
        f"h='if(gte(dar,1),{side},2*round({side}/dar/2))':out_range=full:out_color_matrix=bt601,"
        "setsar=1,format=yuvj420p"
    )
    quality: dict[str, int] = {"q:v": settings.quality}
    if settings.quality == 1:
        quality["qmin"] = 1  # otherwise the encoder stays at 2
    source = ffmpeg.input(
        _STAND_IN,  # ffmpeg-python cannot hold a name that is not UTF-8
        protocol_whitelist="file",
        format_whitelist=FORMATS,
        max_pixels=MAX_PIXELS,
        threads=threads,
    )
    stream = source.output(
        "pipe:1",
        map="0:V:0",
        map_metadata=-1,
        vf=scale,
        vcodec="mjpeg",
        fps_mode="passthrough",
        enc_time_base=f"{time_base.numerator}:{time_base.denominator}",
        threads=threads,
        # NUT carries the boundaries and exact times of the pictures through the pipe.
        format="nut",
        **quality,
    )
    switches = ["-nostdin", "-hide_banner", "-loglevel", "error", "-xerror"]
    arguments = [
        f"file:{path}" if word == _STAND_IN else word
        for word in cast("list[str]", stream.get_args())
    ]
    return [program.path, *switches, "-filter_threads", str(threads), *arguments]


def _run(
    arguments: list[str], pictures: "_Pictures", settings: DecodeSettings, running: Running
) -> str | None:
    """Run ffmpeg, collect its pictures, and return what went wrong; None: it ended well."""
    with running.start(arguments) as process:
        said = ErrorOutput(cast(IO[bytes], process.stderr))
        late = threading.Event()

        def expire() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(settings.time_limit_seconds, expire)
        timer.start()
        try:
            broken = pictures.take(cast(IO[bytes], process.stdout))
            if broken:
                process.kill()
            code = process.wait()
        finally:
            timer.cancel()
        errors = said.text()
    if late.is_set():
        return f"ffmpeg took longer than {settings.time_limit_seconds:g} s"
    if broken:
        return broken
    if code or _CUT_SHORT in errors:
        return f"ffmpeg: {first_line(errors) or f'ended with code {code}'}"
    return None


@dataclass
class _Pictures:
    """The pictures of one video as they come out of the pipe."""

    interval: tuple[float | None, float | None]
    jpeg: bytearray = field(default_factory=bytearray)
    offsets: list[int] = field(default_factory=lambda: [0])
    pts_seconds: list[float] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    num_decoded: int = 0
    last_seconds: float = 0.0

    def take(self, pipe: IO[bytes]) -> str | None:
        """Read the pipe to its end, and return why that was not possible."""
        try:
            with av.open(pipe, mode="r", format="nut") as container:
                for packet in container.demux(video=0):
                    if packet.size:
                        self._add(packet)
        except av.error.FFmpegError as error:
            # Without a single picture there is no stream to open: ffmpeg's code and words tell why.
            return f"the pictures stop ({short(error)})" if self.num_decoded else None
        return None

    def _add(self, packet: "av.Packet[Any]") -> None:
        self.num_decoded += 1
        self.last_seconds = float(cast(int, packet.pts) * packet.time_base)
        start, end = self.interval
        if start is not None and self.last_seconds < start:
            return
        if end is not None and self.last_seconds >= end:
            return
        data = bytes(packet)
        if not self.pts_seconds:
            height, width = picture_size(data) or (0, 0)
            self.size = (width, height)  # ffmpeg scales what follows to the first picture's size
        self.jpeg += data
        self.offsets.append(len(self.jpeg))
        self.pts_seconds.append(self.last_seconds)

    def why_none(self) -> str:
        """Return why no picture was kept although nothing went wrong."""
        if not self.num_decoded:
            return "ffmpeg found no picture"
        return (
            f"none of its {self.num_decoded} frames lies in [{self.interval[0] or 0:g}, "
            f"{'end' if self.interval[1] is None else format(self.interval[1], 'g')}) s; "
            f"the last is shown at {self.last_seconds:g} s"
        )
