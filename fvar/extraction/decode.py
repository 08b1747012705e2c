"""From a video to its frames as JPEG, with proof that none is missing.

Three witnesses: ffmpeg, which decodes; PyAV, which counts the packets there are; the container's header,
which says how many frames there ought to be. ffmpeg alone is not to be believed: of a file that was cut
short it decodes what is left and ends with code 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvar.extraction.collect import Pictures, Size
from fvar.extraction.ffmpeg import DecodeSettings, Footage, Take
from fvar.extraction.ffmpeg_run import take_pictures
from fvar.extraction.image_folder import read_series
from fvar.extraction.parts import Interval, Part
from fvar.extraction.probe.claims import Claims, UnreadableError
from fvar.extraction.probe.pool import Probes
from fvar.extraction.program import Ffmpeg
from fvar.extraction.spool import Spool
from fvar.extraction.thinning import keep_frames
from fvar.store.encoded_video import EncodedVideo
from fvar.store.manifest import Status

WHOLE: Interval = (None, None)


@dataclass(frozen=True)
class Source:
    """A video, and what of it is wanted.

    Attributes:
        path: Absolute, of a video file or of a folder of numbered pictures.
        sha256: Kept with the frames.
        intervals: Parts wanted: frames with ``start <= time < end``, in seconds from the container's start.
    """

    path: Path
    sha256: str = ""
    intervals: Sequence[Interval] = (WHOLE,)


@dataclass(frozen=True)
class Decoded:
    """What became of a video, or of a part of one.

    Attributes:
        status: Whether all its frames are there.
        reason: Why not, or None.
        video: The frames kept; None when failed.
        num_decoded: Frames there were before some were left out on purpose.
        note: What the user should know although nothing is missing.
        passing: Whether the reason may be the moment's fault rather than the video's: worth another try.
    """

    status: Status
    reason: str | None
    video: EncodedVideo | None
    num_decoded: int = 0
    note: str | None = None
    passing: bool = False


@dataclass(frozen=True)
class Decoder:
    """Decodes videos to JPEG pictures: upright, square pixels, short side exact, long side even.

    Attributes:
        program: From `find_ffmpeg`.
        settings: Size, quality, limits and which frames to leave out.
        probes: Read what files claim; ffmpeg is entered in the same `running`.
        new_spool: Makes what gathers the pictures of a part.
    """

    program: Ffmpeg
    settings: DecodeSettings
    probes: Probes
    new_spool: Callable[[], Spool] = Spool

    def decode(self, source: Source) -> list[Decoded]:
        """Decode a video once.

        Returns:
            One result for each interval. ``ok`` only when ffmpeg ended well, every packet was read and the
            header claims nothing more; otherwise a reason, and the frames there are. The file's verdict is
            that of each part: where a damaged file lacks frames is not known.
        """
        try:
            if source.path.is_dir():
                return self._decode_folder(source)
            return self._decode_file(source)
        except UnreadableError as error:
            return _failed(source, error)

    def _claims(self, source: Source) -> Claims:
        limit = self.settings.time_limit_seconds
        return self.probes.claims(source.path, time_limit_seconds=limit)

    def _decode_file(self, source: Source) -> list[Decoded]:
        claims = self._claims(source)
        footage = _footage(source, claims)
        pictures, parts = self._take(source, footage)
        note = None
        if others := [size for size in pictures.new_sizes if size != claims.size]:
            # Whoever asked for one size gets it: ffmpeg would stretch what follows to the first one's shape.
            pictures, parts = self._take(source, footage, box=pictures.size)
            note = _size_note(claims.size, others[0], pictures)
        reason = _joined(claims.doubt(pictures.num_decoded), pictures.problem)
        return [
            self._decoded(part, pictures, source, reason=reason, note=note, claims=claims)
            for part in parts
        ]

    def _decode_folder(self, source: Source) -> list[Decoded]:
        series = read_series(source.path)
        feeder = series.feeder()
        pictures, parts = self._take(source, feeder.footage())
        reason = _joined(series.gaps(), feeder.problem, pictures.problem)
        other = feeder.other_size
        note = None if other is None else _size_note(feeder.size, other, pictures)
        return [self._decoded(part, pictures, source, reason=reason, note=note) for part in parts]

    def _take(
        self, source: Source, footage: Footage, *, box: Size | None = None
    ) -> tuple[Pictures, list[Part]]:
        parts = self._parts(source, footage)
        pictures = take_pictures(
            Take(footage, parts, box),
            program=self.program,
            settings=self.settings,
            running=self.probes.running,
        )
        return pictures, parts

    def _parts(self, source: Source, footage: Footage) -> list[Part]:
        settings, clock = self.settings, float(footage.time_base)
        return [
            Part(
                interval,
                keep_frames(fps=settings.fps, stride=settings.stride, clock_seconds=clock),
                self.new_spool(),
            )
            for interval in source.intervals
        ]

    def _decoded(
        self,
        part: Part,
        pictures: Pictures,
        source: Source,
        *,
        reason: str | None = None,
        note: str | None = None,
        claims: Claims | None = None,
    ) -> Decoded:
        if not part.pts_seconds:
            found, last = pictures.num_decoded, pictures.last_seconds
            empty = part.why_empty(found, last) if found else "ffmpeg found no picture"
            why = _joined(reason, empty if found or not reason else None)
            return Decoded("failed", why, None, passing=pictures.passing)
        video = EncodedVideo(
            jpeg=part.jpeg.array(),
            offsets=np.array(part.offsets, dtype=np.int64),
            pts_seconds=np.array(part.pts_seconds, dtype=np.float64),
            width=pictures.size[0],
            height=pictures.size[1],
            fps=claims.fps if claims else None,
            rotation=claims.rotation if claims else 0,
            source_sha256=source.sha256,
            ffmpeg_version=self.program.version,
        )
        status: Status = "partial" if reason else "ok"
        return Decoded(status, reason, video, part.num_decoded, note, pictures.passing)


def _failed(source: Source, error: UnreadableError) -> list[Decoded]:
    failed = Decoded("failed", str(error), None, passing=error.passing)
    return [failed] * len(source.intervals)


def _footage(source: Source, claims: Claims) -> Footage:
    return Footage(f"file:{source.path}", claims.format, {}, claims.time_base, hdr=claims.hdr)


def _joined(*doubts: str | None) -> str | None:
    return "; ".join(doubt for doubt in doubts if doubt) or None


def _size_note(first: Size, other: Size, pictures: Pictures) -> str:
    return (
        f"its picture changes from {first[0]}x{first[1]} to {other[0]}x{other[1]} px; all are stored with "
        f"{pictures.size[0]}x{pictures.size[1]} px, in black bars where the shape differs"
    )
