"""What a video file says about itself, without decoding: frames in its header, packets in it.

libavformat builds a file's whole index in memory, however large, so `pool` runs this in another process.
"""

from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from fvar.extraction.probe.avi_pauses import count_empty_chunks
from fvar.extraction.probe.claims import MAX_PIXELS, Claims, Glance, UnreadableError
from fvar.extraction.probe.fields import FieldCounter
from fvar.extraction.probe.truncation import cut_short

# libavformat's names of what an untrusted file may be: each is recognized by content, with frames of its own.
# All others are refused: some name other files, a network or a script, some make frames of any text.
FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,flv,live_flv,ogg,asf,mxf,wtv,rm,nut,ivf,dv,gxf,nsv,nuv,swf,dhav,cine,"
    "yuv4mpegpipe,gif,apng,smk,bink,flic,roq,vivo,thp,pva,mtv,xmv,4xm,"
    # streams without a container
    "h264,hevc,vvc,evc,av1,obu,m4v,mpegvideo,mjpeg,jpeg_pipe,h261,h263,vc1,dirac,cavsvideo,avs2,avs3"
)

# An MPEG-4 packet of this size holds no frame: an N-VOP (not coded) takes 5 to 8 bytes, and 1 byte is left of
# a B-frame that was packed into the packet before it.
_EMPTY_MPEG4_BYTES = 8
_WITH_HIDDEN_FRAMES = {"vp8", "vp9"}  # some of their packets hold a frame that is never shown
_MEASURED_PACKETS, _SMALLER = 256, 3  # packets; how much smaller the others may be
_HDR = {16: "smpte2084", 18: "arib-std-b67"}  # codes of ITU-T H.273: PQ, HLG


def read_claims(path: Path, *, number: int | None = None) -> Claims:
    """Read every packet of a video stream, counted from 0 without covers; None: the one that a player shows.

    Raises:
        UnreadableError: There is none, or the file is not a video.
    """
    try:
        with _open(path) as container:
            return _count(path, container, _video_stream(container, number))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UnreadableError(f"cannot be opened as a video ({_brief(error)})") from error


def concealed_times(path: Path, *, number: int | None = None) -> list[float]:
    """Decode a stream (as `read_claims`) past all damage; return the times of frames that are patched up.

    Raises:
        UnreadableError: The file is not a video.
    """
    found = []
    try:
        with _open(path) as container:
            stream = _video_stream(container, number)
            stream.codec_context.thread_count = 1
            for packet in container.demux(stream):
                with suppress(av.error.FFmpegError):
                    frames = packet.decode()
                    found += [float(f.time or 0) for f in frames if f.is_corrupt]
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if not found:
            raise UnreadableError(_brief(error)) from error
    return found


def glance(path: Path) -> Glance:
    """Return what the header promises, without reading further.

    Raises:
        UnreadableError: The file is not a video, or promises nothing, or more than is possible.
    """
    try:
        with _open(path) as container:
            stream = _video_stream(container)
            seconds = (container.duration or 0) / av.time_base
            frames = stream.frames or round(seconds * (stream.average_rate or 0))
            if not stream.frames or container.format.name == "avi":  # others list every frame
                frames = min(frames, _most_frames(container, stream, path.stat().st_size))
            if frames <= 0 or min(_coded_size(stream)) <= 0:
                raise UnreadableError("promises no frames")
            name = container.format.name
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UnreadableError(_brief(error)) from error
    if frames > (num_bytes := path.stat().st_size):
        raise UnreadableError(f"promises more frames than the {num_bytes} bytes it has")
    return Glance(name, frames, max(seconds, 0.0))


def _most_frames(container: InputContainer, stream: VideoStream, num_bytes: int) -> int:
    """Return a bound of the frames in a file of so many bytes, from the size of the first packets."""
    sizes = [p.size for p in islice(container.demux(stream), _MEASURED_PACKETS) if p.size]
    return _SMALLER * num_bytes * len(sizes) // sum(sizes) if sizes else num_bytes


def _open(path: Path) -> InputContainer:
    if path.exists() and not path.is_file():
        raise UnreadableError("is not a file")  # opening a pipe or a device may never end
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    try:
        # With file: in front, a name that holds a colon stays a name. Nobody needs the metadata.
        return av.open(f"file:{path}", mode="r", metadata_errors="ignore", options=options)
    except av.error.ArgumentError as error:
        raise UnreadableError(
            "is not in a video format (put images into a folder, numbered); a file that names other files, "
            "like a playlist, is not read"
        ) from error


def _video_stream(container: InputContainer, number: int | None = None) -> VideoStream:
    """Return what players show: no cover or still picture beside a film, the default one, the largest."""
    streams = _streams(container)
    if not streams:
        raise UnreadableError("holds no video stream")
    if number is not None:
        if number >= len(streams):
            raise UnreadableError(
                f"holds {len(streams)} video streams, none has the number {number}"
            )
        return streams[number]
    return max(streams, key=_preference)


def _streams(container: InputContainer) -> list[VideoStream]:
    cover = Disposition.attached_pic
    return [s for s in container.streams.video if not Disposition(s.disposition) & cover]


def _preference(stream: VideoStream) -> tuple[bool, bool, int, int]:
    width, height = _coded_size(stream)
    is_default = bool(Disposition(stream.disposition) & Disposition.default)
    return stream.frames != 1, is_default, width * height, -stream.index


def _count(path: Path, container: InputContainer, stream: VideoStream) -> Claims:
    codec = getattr(stream.codec_context, "name", None)  # without a decoder there is no context
    if codec:  # the decoder does not know the options that the file was opened with
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.codec_context.thread_count = 1  # it decodes one frame, and each thread takes memory
    fields = FieldCounter(stream.codec_context.extradata) if codec == "h264" else None
    max_packets = path.stat().st_size
    packets = empty = hidden = 0
    first: av.VideoFrame | None = None
    problem: str | None = None
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            packets += 1
            if packets > max_packets:  # a tiny index may name the same byte a billion times
                raise UnreadableError(f"claims more packets than the {max_packets} bytes it has")
            hidden += packet.is_discard
            empty += codec == "mpeg4" and packet.size <= _EMPTY_MPEG4_BYTES
            if fields is not None:
                fields.add(bytes(packet))
            first = first or (_decode(packet) if codec else None)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        problem = _brief(error)
    frames = stream.frames
    if container.format.name == "avi" and frames > packets:
        frames -= count_empty_chunks(path, stream.index)
    rate = stream.average_rate
    return Claims(
        format=container.format.name,
        stream=stream.index,
        num_streams=len(_streams(container)),
        frames=frames,
        packets=packets,
        empty=empty if fields is None else fields.num_fields // 2,
        hidden=hidden,
        # A packet of interlaced video may hold a field, half a frame.
        one_each=not (
            codec in _WITH_HIDDEN_FRAMES or (first and first.interlaced_frame and fields is None)
        ),
        time_base=stream.time_base or Fraction(1, 90000),
        fps=float(rate) if rate else None,
        rotation=-first.rotation % 360 if first else 0,
        size=(first.width, first.height) if first else _coded_size(stream),
        hdr=_HDR.get(stream.codec_context.color_trc) if first else None,
        error=problem,
        cut=cut_short(path, container.format.name),
    )


def _coded_size(stream: VideoStream) -> tuple[int, int]:
    """Return what the header says, px; zeros where the codec is unknown."""
    return getattr(stream, "width", 0), getattr(stream, "height", 0)


def _decode(packet: "av.Packet[VideoStream]") -> av.VideoFrame | None:
    """Return the first frame of a packet; None: it gives none."""
    context = packet.stream.codec_context
    try:
        # Flush the decoder; otherwise it buffers several packets before it returns a frame.
        return next(iter([*packet.decode(), *context.decode(None)]), None)
    except av.error.FFmpegError:
        return None  # ffmpeg reads the same packet and reports the error
    finally:
        context.flush_buffers()  # ready for the next packet


def _brief(error: Exception) -> str:
    """Return what the system or ffmpeg calls `error`."""
    return getattr(error, "strerror", None) or str(error)
