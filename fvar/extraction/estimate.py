"""How large a frame store will become and how long that takes, estimated from a sample of the videos."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import TypeVar

from fvar.extraction.ffmpeg import DecodeSettings, Ffmpeg, FfmpegInput
from fvar.extraction.ffmpeg_run import run_ffmpeg
from fvar.extraction.image_folder import Feeder, read_series
from fvar.extraction.probe.claims import Glance, UnreadableError
from fvar.extraction.probe.container import glance
from fvar.extraction.probe.pool import ProbePool
from fvar.extraction.shards import Job
from fvar.processes import ChildProcesses
from fvar.reporting import in_words
from fvar.sources.source_csv import SourceRow
from fvar.system import usable_processors

_NUM_HEADERS = 64  # read; one takes milliseconds, those of a hundred thousand videos minutes
_HEADER_SECONDS = 30.0  # time limit for one header; that of 24 hours of MP4 takes 4
_NUM_TRIALS = 4, 16  # videos decoded: at least; and at most where `workers` are more
_TRIAL_SECONDS = 4.0  # of each of these videos
_TRIAL_LIMIT_SECONDS = 5.0  # of our time; what is decoded by then counts
_CLOCK = Fraction(1, 90_000)  # of the trial's pictures; their times are not used

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Estimate:
    """What an extraction takes, approximately.

    Attributes:
        frames: Number of frames that are kept.
        num_bytes: Size of their JPEG pictures.
        seconds: Time of decoding on this machine.
    """

    frames: int
    num_bytes: int
    seconds: float

    @property
    def duration(self) -> str:
        """The time in a suitable unit."""
        return in_words(self.seconds)


@dataclass
class _Trial:
    """Receives the pictures of the first seconds of a video and measures them."""

    video_frames: int  # that the whole video has
    frames: int = 0
    num_bytes: int = 0
    start_seconds: float = 0.0  # from the start of ffmpeg to the first frame
    seconds: float = 0.0  # to the last frame
    _began: float = field(default_factory=time.monotonic)

    def offer(self, data: bytes, _seconds: float) -> None:
        """Count a picture."""
        self.seconds = time.monotonic() - self._began
        if not self.frames:
            self.start_seconds = self.seconds
        self.frames += 1
        self.num_bytes += len(data)
        if self.seconds > _TRIAL_LIMIT_SECONDS:
            raise TimeoutError


@dataclass(frozen=True)
class Preview:
    """What an extraction would do.

    Attributes:
        num_videos: Rows of the source CSV.
        absent: Rows whose video does not exist and whose frames are not in the store.
        num_kept: Rows that are in the store already.
        num_shards: Number of shards to make.
        redone: Names of existing shards that are made again: rows, settings or videos changed, or damaged.
        estimate: What the missing shards take; None if no header tells.
    """

    num_videos: int
    absent: list[SourceRow]
    num_kept: int
    num_shards: int
    redone: list[str]
    estimate: Estimate | None


def estimate_work(
    jobs: Sequence[Job],
    *,
    program: Ffmpeg,
    settings: DecodeSettings,
    workers: int,
    probes: ProbePool,
) -> Estimate | None:
    """Return approximately what `jobs` take with `workers` videos decoded at once; None if no header tells.

    The headers of some videos, evenly spaced, give the number of frames. The first seconds of a few of these
    are decoded with the settings of the extraction, which gives bytes and time per frame.
    """
    sample = _spaced(jobs, _NUM_HEADERS)
    with ThreadPoolExecutor(workers) as pool:
        try:
            headers = pool.map(partial(_header, probes), sample)
            pairs = zip(sample, headers, strict=True)
            known = [(job, header) for job, header in pairs if header is not None]
            tried = _spaced(known, min(max(_NUM_TRIALS[0], workers), _NUM_TRIALS[1]))
            try_one = partial(_trial, program, settings, probes.running)
            trials = list(pool.map(try_one, tried))
        except BaseException:
            probes.running.stop()
            raise
    decoded = [trial for trial in trials if trial.frames]
    if not decoded:
        return None
    scale = len(jobs) / len(sample)  # a video that cannot be opened costs almost nothing
    frames = scale * sum(_kept_frames(job, header, settings) for job, header in known)
    seconds = _per_frame(decoded, lambda trial: trial.seconds - trial.start_seconds)
    seconds *= sum(header.frames for _, header in known)
    seconds += len(known) * sum(trial.start_seconds for trial in decoded) / len(decoded)
    # More videos at once than processors take longer each, as they did in the trials.
    at_once = min(workers, len(jobs), max(len(trials), usable_processors()))
    return Estimate(
        frames=round(frames),
        num_bytes=round(frames * _per_frame(decoded, lambda trial: trial.num_bytes)),
        seconds=scale * seconds / at_once,
    )


def _spaced(items: Sequence[_Item], most: int) -> Sequence[_Item]:
    """Return at most `most` of the items, evenly spaced."""
    return items[:: math.ceil(len(items) / most) or 1]


def _header(probes: ProbePool, job: Job) -> Glance | None:
    try:
        if job.path.is_dir():
            num_pictures = len(read_series(job.path))
            return Glance("", num_pictures, float(num_pictures))
        return probes.ask(glance, job.path, _HEADER_SECONDS)
    except (UnreadableError, OSError):
        return None  # the extraction itself reports what is wrong with the video


def _trial(
    program: Ffmpeg, settings: DecodeSettings, running: ChildProcesses, known: tuple[Job, Glance]
) -> _Trial:
    """Decode the first seconds of a video; the extraction itself reports what is wrong with it."""
    path, header = known[0].path, known[1]
    trial = _Trial(header.frames)
    limit = min(_TRIAL_LIMIT_SECONDS, settings.time_limit_seconds)
    settings = replace(settings, time_limit_seconds=limit)
    with suppress(UnreadableError, OSError):
        if path.is_dir():
            video = Feeder(read_series(path)).input()
        else:
            video = FfmpegInput(f"file:{path}", header.format, _CLOCK, {"t": str(_TRIAL_SECONDS)})
        run_ffmpeg(video, trial.offer, program=program, settings=settings, running=running)
    return trial


def _per_frame(trials: Sequence[_Trial], measure: Callable[[_Trial], float]) -> float:
    """Return the mean of `measure` per frame; a video counts as often as it has frames."""
    total = sum(trial.video_frames * measure(trial) / trial.frames for trial in trials)
    return total / sum(trial.video_frames for trial in trials)


def _kept_frames(job: Job, header: Glance, settings: DecodeSettings) -> float:
    """Return the number of frames that the rows of `job` keep."""
    frames = float(header.frames)
    if settings.stride is not None:
        frames = math.ceil(frames / settings.stride)
    elif settings.fps is not None and header.seconds:
        frames = min(frames, math.ceil(header.seconds * settings.fps))
    return frames * sum(_fraction(row, header) for row in job.rows)


def _fraction(row: SourceRow, header: Glance) -> float:
    """Return the fraction of a video that a row asks for."""
    if row.start_frame is not None or row.end_frame is not None:
        stop = header.frames if row.end_frame is None else min(row.end_frame, header.frames)
        return max(0, stop - (row.start_frame or 0)) / header.frames
    seconds = header.seconds
    if not seconds:
        return 1.0
    end = seconds if row.end_seconds is None else min(row.end_seconds, seconds)
    return max(0.0, end - (row.start_seconds or 0.0)) / seconds
