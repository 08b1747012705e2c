"""From a video to its frames as JPEG, with proof that none is missing.

Three witnesses: ffmpeg, which decodes; PyAV, which counts the packets there are; the container's header,
which says how many frames there ought to be. ffmpeg alone is not to be believed: of a file that was cut
short it decodes what is left and ends with code 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvar.data.container import Claims, UnreadableError
from fvar.data.encoded import EncodedVideo
from fvar.data.folder import read_series
from fvar.data.jpeg_pipe import DecodeSettings, Footage, Pictures, Size, take_pictures
from fvar.data.parts import Interval, Part
from fvar.data.probes import Probes
from fvar.data.program import Ffmpeg, Running
from fvar.data.spool import Spool
from fvar.data.thinning import keep_frames
from fvar.manifest import Status

WHOLE: Interval = (None, None)


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


def decode_video(
    path: Path,
    *,
    program: Ffmpeg,
    settings: DecodeSettings,
    probes: Probes,
    source_sha256: str = "",
    intervals: Sequence[Interval] = (WHOLE,),
    new_spool: Callable[[], Spool] = Spool,
) -> list[Decoded]:
    """Decode a video once, to JPEG pictures: upright, square pixels, short side exact, long side even.

    Args:
        path: Absolute path of a video file, or of a folder of numbered pictures.
        program: From `find_ffmpeg`.
        settings: Size, quality, limits and which frames to leave out.
        probes: Read what the file claims; ffmpeg is entered in the same `running`.
        source_sha256: Kept with the frames.
        intervals: Parts wanted: frames with ``start <= time < end``, in seconds from the container's start.
        new_spool: Makes what gathers the pictures of a part.

    Returns:
        One result for each interval. ``ok`` only when ffmpeg ended well, every packet was read and the header
        claims nothing more; otherwise a reason, and the frames there are. The file's verdict is that of
        each part: where a damaged file lacks frames is not known.
    """
    run = _Run(program, settings, probes.running, intervals, new_spool)
    try:
        if path.is_dir():
            return _decode_folder(path, run, source_sha256)
        claims = probes.claims(path, time_limit_seconds=settings.time_limit_seconds)
        return _decode_file(path, run, claims, source_sha256)
    except UnreadableError as error:
        failed = Decoded("failed", str(error), None, passing=error.passing)
        return [failed] * len(intervals)


@dataclass(frozen=True)
class _Run:
    program: Ffmpeg
    settings: DecodeSettings
    running: Running
    intervals: Sequence[Interval]
    new_spool: Callable[[], Spool]

    def take(self, footage: Footage, *, box: Size | None = None) -> tuple[Pictures, list[Part]]:
        settings = self.settings
        parts = [
            Part(
                interval,
                keep_frames(
                    fps=settings.fps,
                    stride=settings.stride,
                    clock_seconds=float(footage.time_base),
                ),
                self.new_spool(),
            )
            for interval in self.intervals
        ]
        pictures = take_pictures(
            footage,
            parts,
            program=self.program,
            settings=settings,
            running=self.running,
            box=box,
        )
        return pictures, parts


def _decode_file(path: Path, run: _Run, claims: Claims, source_sha256: str) -> list[Decoded]:
    footage = Footage(f"file:{path}", {}, claims.time_base, hdr=claims.hdr)
    pictures, parts = run.take(footage)
    note = None
    if others := [size for size in pictures.new_sizes if size != claims.size]:
        # Whoever asked for one size gets it: ffmpeg would stretch what follows to the first picture's shape.
        pictures, parts = run.take(footage, box=pictures.size)
        note = _size_note(claims.size, others[0], pictures)
    reason = _joined(claims.doubt(pictures.num_decoded), pictures.problem)
    return [
        _decoded(
            part,
            pictures,
            reason=reason,
            note=note,
            fps=claims.fps,
            rotation=claims.rotation,
            origin=(source_sha256, run.program.version),
        )
        for part in parts
    ]


def _decode_folder(path: Path, run: _Run, source_sha256: str) -> list[Decoded]:
    series = read_series(path)
    feeder = series.feeder()
    pictures, parts = run.take(feeder.footage())
    reason = _joined(series.gaps(), feeder.problem, pictures.problem)
    other = feeder.other_size
    note = None if other is None else _size_note(feeder.size, other, pictures)
    return [
        _decoded(
            part, pictures, reason=reason, note=note, origin=(source_sha256, run.program.version)
        )
        for part in parts
    ]


def _joined(*doubts: str | None) -> str | None:
    return "; ".join(doubt for doubt in doubts if doubt) or None


def _size_note(first: Size, other: Size, pictures: Pictures) -> str:
    return (
        f"its picture changes from {first[0]}x{first[1]} to {other[0]}x{other[1]} px; all are stored with "
        f"{pictures.size[0]}x{pictures.size[1]} px, in black bars where the shape differs"
    )


def _decoded(
    part: Part,
    pictures: Pictures,
    *,
    reason: str | None,
    note: str | None,
    origin: tuple[str, str],
    fps: float | None = None,
    rotation: int = 0,
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
        fps=fps,
        rotation=rotation,
        source_sha256=origin[0],
        ffmpeg_version=origin[1],
    )
    status: Status = "partial" if reason else "ok"
    return Decoded(status, reason, video, part.num_decoded, note, pictures.passing)
