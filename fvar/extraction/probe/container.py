"""What a video file claims about itself, without decoding: frames in its header, packets in it.

A file's index is built in memory, whatever it claims: `probes` has the functions here run in a process apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from fvar.extraction.probe.claims import MAX_PIXELS, Claims, Glance, UnreadableError
from fvar.extraction.probe.truncation import cut_short

# An MPEG-4 packet of this size holds no picture: a lone N-VOP (not coded) takes 5 to 8 bytes, what is left of
# a B-frame that was packed into the packet before it 1.
_EMPTY_MPEG4_BYTES = 8
# These code frames that are never shown, some in packets of their own.
_WITH_HIDDEN_FRAMES = {"vp8", "vp9"}
_HDR = {16: "smpte2084", 18: "arib-std-b67"}  # codes of ITU-T H.273: PQ, HLG
_NAME_OTHERS = {  # other files, a network, a script: what is named may lie anywhere
    *(
        "avisynth",
        "concat",
        "dash",
        "hls",
        "imf",
        "rtp",
        "rtsp",
        "sap",
        "sdp",
        "svg_pipe",
        "vapoursynth",
    ),
    *("vobsub", "webm_dash_manifest"),
    "image2",  # taken for a picture with a number pattern or a glob in its name: all files that match
}
_DEVICES = {"alsa", "fbdev", "kmsgrab", "lavfi", "oss", "v4l2", "video4linux2", "x11grab"}
# A name alone makes pictures of any text or data.
_TOLD_BY_NAME = {"adf", "bin", "bitpacked", "idf", "rawvideo", "tty", "v210", "v210x", "xbin"}
_KNOWN = {name for names in av.formats_available for name in names.split(",")}
FORMATS = ",".join(sorted(_KNOWN - _NAME_OTHERS - _DEVICES - _TOLD_BY_NAME))
"""What an untrusted file may be, libavformat's names; ffmpeg is held to the one that it was found to be."""


def read_claims(path: Path, *, progress: Callable[[], None]) -> Claims:
    """Read every packet of the first video stream that is not a cover picture.

    Args:
        path: Of the file.
        progress: Called at each packet.

    Raises:
        UnreadableError: There is none, or the file is not a video.
    """
    try:
        with _open(path) as container:
            stream = _video_stream(container)
            claims = _count(container, stream, max_packets=path.stat().st_size, progress=progress)
            cut = cut_short(path, claims.format, progress=progress)
            return replace(claims, cut=cut)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UnreadableError(f"cannot be opened as a video ({short(error)})") from error


def _open(path: Path) -> InputContainer:
    if path.exists() and not path.is_file():
        raise UnreadableError("is not a file")  # opening a pipe or a device may never end
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    try:
        # file: makes a name with a colon a name; undecodable metadata is no concern of ours.
        return av.open(f"file:{path}", mode="r", metadata_errors="ignore", options=options)
    except av.error.ArgumentError as error:
        raise UnreadableError(
            "is of no format that holds its own pictures; a file that names others, like a playlist, "
            "is not read"
        ) from error


def _video_stream(container: InputContainer) -> VideoStream:
    for stream in container.streams.video:
        if not Disposition(stream.disposition) & Disposition.attached_pic:
            return stream
    raise UnreadableError("holds no video stream")


def _count(
    container: InputContainer,
    stream: VideoStream,
    *,
    max_packets: int,
    progress: Callable[[], None],
) -> Claims:
    codec = getattr(stream.codec_context, "name", None)  # without a decoder there is no context
    if codec:  # the decoder does not know what the file was opened with
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.codec_context.thread_count = 1  # of one picture; each thread takes memory
    packets = empty = hidden = 0
    first: _FirstPicture | None = None
    problem: str | None = None
    try:
        for packet in container.demux(stream):
            progress()
            if not packet.size:
                continue
            packets += 1
            if packets > max_packets:  # an index of a few bytes may name one byte a billion times
                raise UnreadableError(f"claims more packets than the {max_packets} bytes it has")
            hidden += packet.is_discard
            empty += codec == "mpeg4" and packet.size <= _EMPTY_MPEG4_BYTES
            first = first or (_first_picture(packet) if codec else None)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        problem = short(error)
    rate = stream.average_rate
    return Claims(
        format=container.format.name,
        frames=stream.frames,
        packets=packets,
        empty=empty,
        hidden=hidden,
        # Of interlaced video a packet may hold a field, half a picture.
        one_each=not (codec in _WITH_HIDDEN_FRAMES or (first and first.interlaced)),
        time_base=stream.time_base or Fraction(1, 90000),
        fps=float(rate) if rate else None,
        rotation=first.rotation if first else 0,
        size=first.size if first else _coded_size(stream),
        hdr=_HDR.get(first.transfer) if first else None,
        error=problem,
    )


def _coded_size(stream: VideoStream) -> tuple[int, int]:
    """Return what the header says, px; zeros where nobody knows the codec."""
    return getattr(stream, "width", 0), getattr(stream, "height", 0)


@dataclass(frozen=True)
class _FirstPicture:
    rotation: int  # degrees clockwise by which ffmpeg will turn it
    size: tuple[int, int]  # as it is coded, px
    interlaced: bool
    transfer: int


def _first_picture(packet: "av.Packet[VideoStream]") -> _FirstPicture | None:
    """Decode a packet; None: it does not give a picture."""
    context = packet.stream.codec_context
    try:
        # Asked for what it holds back, or it would want a few packets more before it gives one.
        for frame in [*packet.decode(), *context.decode(None)]:
            turned = -frame.rotation % 360
            size = (frame.width, frame.height)
            return _FirstPicture(turned, size, frame.interlaced_frame, context.color_trc)
    except av.error.FFmpegError:
        return None  # ffmpeg meets the same packet and judges it
    finally:
        context.flush_buffers()  # ready for the next packet
    return None


def short(error: Exception) -> str:
    """Return what the system or ffmpeg calls `error`."""
    return getattr(error, "strerror", None) or str(error)


def glance(path: Path) -> Glance:
    """Return what the header promises, without reading on.

    Raises:
        UnreadableError: It is not a video, or promises nothing that can be.
    """
    try:
        with _open(path) as container:
            stream = _video_stream(container)
            seconds = (container.duration or 0) / av.time_base
            frames = stream.frames or round(seconds * (stream.average_rate or 0))
            size = _coded_size(stream)
            name = container.format.name
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UnreadableError(short(error)) from error
    if frames <= 0 or min(size) <= 0:
        raise UnreadableError("promises no frames")
    if frames > (num_bytes := path.stat().st_size):
        raise UnreadableError(f"promises more frames than the {num_bytes} bytes it has")
    return Glance(name, frames, max(seconds, 0.0), size)
