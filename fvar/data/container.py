"""What a video file claims about itself, without decoding: frames in its header, packets in it."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

# An MPEG-4 packet of this size holds no picture: a lone N-VOP (not coded) takes 5 to 8 bytes, what is left of
# a B-frame that was packed into the packet before it 1.
_EMPTY_MPEG4_BYTES = 8
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
"""What an untrusted file may be, PyAV's names; ffmpeg is held to them too."""

MAX_PIXELS = 1 << 26
"""Of a picture: 8192x8192, twice 8K. A hundred bytes may claim more, and the decoder would make room."""


@dataclass(frozen=True)
class Claims:
    """What the container says."""

    frames: int  # in its header; 0: it does not say
    packets: int  # there are
    empty: int  # of these hold no picture
    hidden: int  # of these lie outside the edit list: decoded, never shown
    time_base: Fraction
    fps: float | None
    rotation: int
    error: str | None  # that ended the counting

    def doubt(self, decoded: int) -> str | None:
        """Return why frames may be missing when `decoded` were found; None: they are all there."""
        if self.error:
            return f"its packets cannot all be read ({self.error}), {decoded} frames decoded"
        if self.frames > self.packets:
            return (
                f"it is cut short: its header claims {self.frames} frames, it holds {self.packets}, "
                f"{decoded} decoded"
            )
        if self.frames > decoded + self.empty:
            why = f"; its edit list hides {self.hidden}" if self.hidden else ""
            return f"its header claims {self.frames} frames, {decoded} decoded{why}"
        return None


class UnreadableError(Exception):
    """The file holds nothing to decode; the message is the reason."""


def read_claims(path: Path) -> Claims:
    """Read every packet of the first video stream that is not a cover picture.

    Raises:
        UnreadableError: There is none, or the file is not a video.
    """
    try:
        with _open(path) as container:
            return _count(container, _video_stream(container), max_packets=path.stat().st_size)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UnreadableError(f"cannot be opened as a video ({short(error)})") from error


def _open(path: Path) -> InputContainer:
    if path.exists() and not path.is_file():
        raise UnreadableError("is not a file")  # opening a pipe or a device may never end
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": FORMATS,
        "max_pixels": str(MAX_PIXELS),
    }
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


def _count(container: InputContainer, stream: VideoStream, *, max_packets: int) -> Claims:
    codec = getattr(stream.codec_context, "name", None)  # without a decoder there is no context
    packed = codec == "mpeg4"
    packets = empty = hidden = 0
    rotation: int | None = None
    problem: str | None = None
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            packets += 1
            if packets > max_packets:  # an index of a few bytes may name one byte a billion times
                raise UnreadableError(f"claims more packets than the {max_packets} bytes it has")
            hidden += packet.is_discard
            empty += packed and packet.size <= _EMPTY_MPEG4_BYTES
            rotation = _rotation(packet) if codec and rotation is None else rotation
    except (av.error.FFmpegError, OSError, ValueError) as error:
        problem = short(error)
    rate = stream.average_rate
    return Claims(
        frames=stream.frames,
        packets=packets,
        empty=empty,
        hidden=hidden,
        time_base=stream.time_base or Fraction(1, 90000),
        fps=float(rate) if rate else None,
        rotation=rotation or 0,
        error=problem,
    )


def _rotation(packet: "av.Packet[VideoStream]") -> int | None:
    """Return by how many degrees clockwise ffmpeg will turn the picture; None: this packet does not tell."""
    try:
        for frame in packet.decode():
            return -frame.rotation % 360
    except av.error.FFmpegError:
        return None  # ffmpeg meets the same packet and judges it
    return None


def short(error: Exception) -> str:
    """Return what the system or ffmpeg calls `error`."""
    return getattr(error, "strerror", None) or str(error)


def glance(path: Path) -> tuple[int, float]:
    """Return how many frames the header promises, by count or by duration and rate, and long over short side.

    Raises:
        UnreadableError: It is not a video, or promises nothing.
    """
    try:
        with _open(path) as container:
            stream = _video_stream(container)
            seconds = (container.duration or 0) / av.time_base
            frames = stream.frames or round(seconds * (stream.average_rate or 0))
            sides = sorted((stream.width, stream.height))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UnreadableError(short(error)) from error
    if frames <= 0 or sides[0] <= 0:
        raise UnreadableError("promises no frames")
    return frames, sides[1] / sides[0]
