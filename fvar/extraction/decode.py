"""From a video to its frames as JPEG, with proof that none is missing.

There are three witnesses: ffmpeg decodes, PyAV counts the packets in the file, and the container's header
says how many frames there must be. ffmpeg alone cannot be trusted: if a file was cut short, it decodes what
is left and ends with code 0.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from fvar.extraction.collect import Interval, Segment, Size
from fvar.extraction.ffmpeg import DecodeSettings, Ffmpeg, FfmpegInput
from fvar.extraction.ffmpeg_run import Outcome, run_ffmpeg
from fvar.extraction.image_folder import Feeder, gaps, read_series
from fvar.extraction.probe.claims import Claims, UnreadableError
from fvar.extraction.probe.container import concealed_times, read_claims
from fvar.extraction.probe.pool import ProbePool
from fvar.extraction.thinning import keep_frames
from fvar.store.encoded_video import EncodedVideo
from fvar.store.manifest import Status

_WHOLE: Interval = (None, None)
_CONCEALED_LIMIT = 10  # times the time limit: the whole video is decoded
_FASTEST, _MUCH = 1000.0, 2.0  # frames a second that are looked into; times the rate that was found
_LISTED = 5  # places in a note


@dataclass(frozen=True)
class Decoded:
    """The verdict on a video or on a segment of one, with its frames.

    Attributes:
        status: Whether all its frames are there.
        reason: Why it is not ok; None if it is.
        video: The kept frames; None when failed.
        num_decoded: Frames that there were before some were left out on purpose.
        note: What the user should know although nothing is missing.
        source_sha256: Of the video that the verdict is about; None: another try may give another verdict.
    """

    status: Status
    reason: str | None
    video: EncodedVideo | None = None
    num_decoded: int = 0
    note: str | None = None
    source_sha256: str | None = None


@dataclass(frozen=True)
class Decoder:
    """Decodes videos to JPEG frames: upright, square pixels, short side exact, long side even.

    Attributes:
        program: From `find_ffmpeg`.
        settings: Size, quality, limits and which frames to leave out.
        probes: Read what files claim; ffmpeg is registered in the same `running`.
        folder: On whose disk the frames of a long video wait; None: the system's temporary folder.
        check_room: Called before many bytes are written there, as by `Segment`.
        count_frame: Called at each decoded frame.
    """

    program: Ffmpeg
    settings: DecodeSettings
    probes: ProbePool
    folder: Path | None = None
    check_room: Callable[[int], None] = lambda _: None
    count_frame: Callable[[], None] = lambda: None

    def decode(
        self, path: Path, intervals: Sequence[Interval] = (_WHOLE,), *, sha256: str = ""
    ) -> list[Decoded]:
        """Decode a video once.

        Args:
            path: Absolute, of a video file or of a folder of numbered pictures.
            intervals: Start and end of each segment, in seconds from the container's start: a frame
                belongs to it if ``start <= time < end``.
            sha256: Of the video, stored with the frames.

        Returns:
            One result for each interval. ``ok`` only if ffmpeg ended well, every packet was read and the
            header claims nothing more; otherwise a reason, and the frames there are. Each segment gets
            the verdict of the whole file: where a damaged file lacks frames is not known.
        """
        try:
            decode = self._decode_folder if path.is_dir() else self._decode_file
            return decode(path, intervals, sha256)
        except UnreadableError as error:
            known = None if error.may_pass else sha256
            return [Decoded("failed", str(error), source_sha256=known)] * len(intervals)

    def decode_fed(self, video: FfmpegInput) -> Decoded:
        """Decode pictures that `video.feed` writes to ffmpeg; see `decode` for the result."""
        outcome, (segment,) = self._run(video, (_WHOLE,), self.settings)
        return self._verdict(outcome, "", segment, reason=outcome.problem, note=None)

    def _decode_file(self, path: Path, intervals: Sequence[Interval], sha256: str) -> list[Decoded]:
        claims = self.probes.ask(
            partial(read_claims, number=self.settings.video_stream),
            path,
            self.settings.time_limit_seconds,
        )
        video = FfmpegInput(
            f"file:{path}",
            claims.format,
            claims.time_base,
            hdr=claims.hdr,
            # Of one stream there is no doubt; numbers may differ between versions of libavformat.
            stream=str(claims.stream) if claims.num_streams > 1 else "V:0",
            frame_seconds=1 / claims.fps if claims.fps else None,
        )
        strict = replace(self.settings, keep_going=False)
        outcome, segments = self._run(video, intervals, strict)
        notes, damage = [], None
        if self.settings.keep_going and outcome.problem and not outcome.may_pass:
            damage = outcome.problem
            outcome, segments = self._run(video, intervals, self.settings)
            notes.append(self._damage_note(path, outcome))
        if others := [size for size in outcome.new_sizes if size != claims.size]:
            # All frames get one size: ffmpeg would stretch the later ones to the shape of the first.
            settings = self.settings if damage else strict
            outcome, segments = self._run(replace(video, box=outcome.size), intervals, settings)
            notes.append(_size_note(claims.size, others[0], outcome))
        if claims.num_streams > 1:
            notes.append(
                f"of its {claims.num_streams} video streams, number {claims.stream} is stored"
            )
        if claims.fps != _plausible_rate(claims.fps, outcome):
            notes.append(f"it claims {claims.fps:g} frames a second; the rate of its times is kept")
        if outcome.num_without_time:
            notes.append(_time_note(outcome))
        note = _joined(*notes)
        reason = _joined(claims.doubt(outcome.num_frames), damage or outcome.problem)
        claims = replace(claims, fps=_plausible_rate(claims.fps, outcome))
        verdict = partial(self._verdict, outcome, sha256, reason=reason, note=note, claims=claims)
        return list(map(verdict, segments))

    def _decode_folder(
        self, path: Path, intervals: Sequence[Interval], sha256: str
    ) -> list[Decoded]:
        series = read_series(path)
        feeder = Feeder(series, stretch=self.settings.stretch)
        outcome, segments = self._run(feeder.input(), intervals, self.settings)
        reason = _joined(gaps(series), feeder.problem, outcome.problem)
        other = feeder.other_size
        note = _joined(
            None if other is None else _size_note(feeder.size, other, outcome), feeder.note
        )
        verdict = partial(self._verdict, outcome, sha256, reason=reason, note=note)
        return list(map(verdict, segments))

    def _damage_note(self, path: Path, outcome: Outcome) -> str:
        """Return where frames of a damaged file are patched up; where some are missing, the times tell."""
        try:
            limit = _CONCEALED_LIMIT * self.settings.time_limit_seconds
            times = self.probes.ask(
                partial(concealed_times, number=self.settings.video_stream), path, limit
            )
        except UnreadableError as error:
            return f"decoded past its damage; where it is, is not known ({error})"
        patched = f"{len(times)} frames are patched up" + (
            f", at {_list(times)} s" if times else ""
        )
        gaps = [f"{before:.2f} and {after:.2f}" for before, after in outcome.gaps]
        missing = f"; there is none between {_list(gaps)} s" if gaps else ""
        return f"decoded past its damage: {patched}{missing}"

    def _run(
        self, video: FfmpegInput, intervals: Sequence[Interval], settings: DecodeSettings
    ) -> tuple[Outcome, list[Segment]]:
        def on_frame(jpeg: bytes, seconds: float) -> None:
            self.count_frame()
            for segment in segments:
                segment.add(jpeg, seconds)

        fps, stride, clock_seconds = self.settings.fps, self.settings.stride, float(video.time_base)
        segments: list[Segment] = []
        with ExitStack() as files:
            for interval in intervals:
                keeps_frame = keep_frames(fps=fps, stride=stride, clock_seconds=clock_seconds)
                segment = Segment(interval, keeps_frame, self.folder, self.check_room)
                segments.append(files.enter_context(closing(segment)))
            outcome = run_ffmpeg(
                video,
                on_frame,
                program=self.program,
                settings=settings,
                running=self.probes.running,
            )
            for segment in segments:
                segment.finish()
        return outcome, segments

    def _verdict(
        self,
        outcome: Outcome,
        sha256: str,
        segment: Segment,
        *,
        reason: str | None,
        note: str | None,
        claims: Claims | None = None,
    ) -> Decoded:
        known = None if outcome.may_pass else sha256
        if not segment.pts_seconds:
            if outcome.num_frames:
                reason = _joined(
                    reason, segment.why_empty(outcome.num_frames, outcome.last_seconds)
                )
            return Decoded("failed", reason or "ffmpeg found no frame", source_sha256=known)
        width, height = outcome.size
        video = EncodedVideo(
            jpeg=segment.jpeg,
            offsets=np.array(segment.offsets, dtype=np.int64),
            pts_seconds=np.array(segment.pts_seconds, dtype=np.float64),
            width=width,
            height=height,
            fps=claims.fps if claims else None,
            rotation=claims.rotation if claims else 0,
            source_sha256=sha256,
            ffmpeg_version=self.program.version,
        )
        status: Status = "partial" if reason else "ok"
        return Decoded(status, reason, video, segment.num_decoded, note, known)


def _joined(*doubts: str | None) -> str | None:
    return "; ".join(doubt for doubt in doubts if doubt) or None


def _plausible_rate(claimed: float | None, outcome: Outcome) -> float | None:
    """Return the claimed rate, or that of the times where it is beyond any camera and the times deny it."""
    if claimed is None or claimed < _FASTEST or outcome.num_frames < 2 or not outcome.last_seconds:
        return claimed
    found = (outcome.num_frames - 1) / outcome.last_seconds
    return claimed if claimed < _MUCH * found else found


def _time_note(outcome: Outcome) -> str:
    return (
        f"{outcome.num_without_time} of its {outcome.num_frames} frames have no time of their own, or none "
        "after that of the frame before; they are stored with that one's time"
    )


def _list(places: Sequence[float | str]) -> str:
    shown = [p if isinstance(p, str) else f"{p:.2f}" for p in places[:_LISTED]]
    more = len(places) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _size_note(first: Size, other: Size, outcome: Outcome) -> str:
    return (
        f"its frame size changes from {first[0]}x{first[1]} to {other[0]}x{other[1]} px; all are stored with "
        f"{outcome.size[0]}x{outcome.size[1]} px, in black bars where the shape differs"
    )
