"""How large a frame store will become and how long it takes, told from a sample of the videos."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from fvar.extraction.ffmpeg import DecodeSettings, Ffmpeg, FfmpegInput
from fvar.extraction.ffmpeg_run import run_ffmpeg
from fvar.extraction.image_folder import Feeder, glance_at_series, read_series
from fvar.extraction.probe.claims import Glance, UnreadableError
from fvar.extraction.probe.pool import ProbePool
from fvar.extraction.shards import Job
from fvar.processes import ChildProcesses
from fvar.sources.source_csv import SourceRow
from fvar.store.jpeg import picture_size
from fvar.system import usable_processors

_LOOKED_AT = 64  # headers read: opening one takes milliseconds, a hundred thousand take minutes
_LOOK_SECONDS = 30.0  # for one header; 24 hours of MP4 take 4
_TRIED = 4, 16  # videos decoded: at least, and at most where more are decoded at once
# Of a video: at most enough to make starting ffmpeg a small part of it, and no more of all than a hundredth.
_TRIAL_SECONDS, _TRIAL_SHARE, _TRIAL_LEAST_SECONDS = 10.0, 0.01, 1.0
_TRIAL_LIMIT_SECONDS = 5.0  # of our time; what has come by then counts
_WAIT_SECONDS = 0.5  # before we look up
_CLOCK = Fraction(1, 90_000)  # of the trial's pictures, whose times nobody reads

_Video = TypeVar("_Video")
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Estimate:
    """What an extraction will take, about.

    Attributes:
        frames: That are kept.
        num_bytes: Of their JPEG pictures.
        seconds: Of decoding on this machine.
    """

    frames: int
    num_bytes: int
    seconds: float

    @property
    def duration(self) -> str:
        """The time in a unit that suits it."""
        if self.seconds < 100:
            return f"{max(1, round(self.seconds))} s"
        minutes = self.seconds / 60
        return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def estimate_work(
    jobs: Sequence[Job],
    *,
    program: Ffmpeg,
    settings: DecodeSettings,
    workers: int,
    probes: ProbePool,
) -> Estimate | None:
    """Return about what `jobs` will take; None: there are none, or of none looked at a picture came.

    The headers of some videos, evenly spaced, tell how many frames there are; the first seconds of a few are
    decoded as all will be, which tells bytes and time of a frame.

    Args:
        jobs: All videos to extract.
        program: From `find_ffmpeg`.
        settings: As in the extraction.
        workers: Videos decoded at once.
        probes: Read what videos claim; the trials are entered in the same `running`.
    """
    sample = jobs[:: math.ceil(len(jobs) / _LOOKED_AT) or 1]
    running = probes.running
    headers = _each(sample, lambda job: _look(job.path, probes), workers, running)
    looked = [(job, found) for job, found in zip(sample, headers, strict=True) if found is not None]
    num_tried = min(max(_TRIED[0], workers), _TRIED[1])
    tried = looked[:: math.ceil(len(looked) / num_tried) or 1]
    if not tried:
        return None
    scale = len(jobs) / len(sample)  # what cannot be opened costs next to nothing
    share = _TRIAL_SHARE * scale * sum(found.seconds for _, found in looked)
    seconds = min(max(share / num_tried, _TRIAL_LEAST_SECONDS), _TRIAL_SECONDS)
    tries = _each(
        tried, lambda one: _try(*one, seconds, program, settings, running), workers, running
    )
    if not (trials := [trial for trial in tries if trial.frames]):
        return None
    kept = [_kept(job, found, settings) * scale for job, found in looked]
    shapes = [_shape(found, settings.short_side) for _, found in looked]
    decoded = sum(found.frames for _, found in looked) * scale
    return Estimate(
        frames=round(sum(kept)),
        num_bytes=round(
            sum(map(math.prod, zip(kept, shapes, strict=True))) * _bytes_of_a_pixel(trials)
        ),
        # Beyond the processors there are, more at once take longer each, as the trials did.
        seconds=decoded
        * _seconds_of_a_frame(trials)
        / min(workers, len(jobs), max(len(tried), usable_processors())),
    )


def _each(
    videos: Sequence[_Video],
    what: Callable[[_Video], _Found],
    workers: int,
    running: ChildProcesses,
) -> list[_Found]:
    """Do something with each video, `workers` at once."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            found = [pool.submit(what, video) for video in videos]
            # Now and then awake: a signal that comes just before Python waits is heard only afterwards.
            while wait(found, timeout=_WAIT_SECONDS).not_done:
                pass
            return [each.result() for each in found]
        except BaseException:
            running.stop()
            raise


def _seconds_of_a_frame(trials: Sequence["_Trial"]) -> float:
    """Return the mean over the frames of all videos tried: a long one counts as often as it has frames."""
    seconds = sum(trial.of_frames * trial.seconds / trial.frames for trial in trials)
    return seconds / sum(trial.of_frames for trial in trials)


def _bytes_of_a_pixel(trials: Sequence["_Trial"]) -> float:
    """Return the mean over the pixels of all videos tried, as `_seconds_of_a_frame` over the frames."""
    num_bytes = sum(trial.of_frames * trial.num_bytes / trial.frames for trial in trials)
    return num_bytes / sum(trial.of_frames * trial.pixels for trial in trials)


def _look(path: Path, probes: ProbePool) -> Glance | None:
    try:
        if path.is_dir():
            return glance_at_series(path)
        return probes.glance(path, time_limit_seconds=_LOOK_SECONDS)
    except (UnreadableError, OSError):
        return None  # extraction itself will say what is wrong with it


@dataclass
class _Trial:
    """Counts the pictures of the beginning of a video, for some seconds."""

    of_frames: int  # that the video has
    frames: int = 0
    num_bytes: int = 0
    pixels: int = 0  # of one frame
    seconds: float = 0.0  # of ours, to the last frame
    _began: float = field(default_factory=time.monotonic)

    def offer(self, data: bytes, _seconds: float) -> None:
        self.seconds = time.monotonic() - self._began
        if not self.frames:
            self.pixels = math.prod(picture_size(data) or (0, 0))
        self.frames += 1
        self.num_bytes += len(data)
        if self.seconds > _TRIAL_LIMIT_SECONDS:
            raise _EnoughError


class _EnoughError(Exception):
    """Ends a trial."""


def _try(
    job: Job,
    found: Glance,
    seconds: float,
    program: Ffmpeg,
    settings: DecodeSettings,
    running: ChildProcesses,
) -> _Trial:
    """Decode the first `seconds` of a video; what is wrong with it is the extraction's to say."""
    path, trial = job.path, _Trial(found.frames)
    limit = min(_TRIAL_LIMIT_SECONDS, settings.time_limit_seconds)
    try:
        video = (
            Feeder(read_series(path)).input()
            if path.is_dir()
            else FfmpegInput(f"file:{path}", found.format, _CLOCK, {"t": str(seconds)})
        )
        run_ffmpeg(
            video,
            trial.offer,
            program=program,
            settings=replace(settings, time_limit_seconds=limit),
            running=running,
        )
    except (UnreadableError, OSError, _EnoughError):
        return trial
    return trial


def _kept(job: Job, found: Glance, settings: DecodeSettings) -> float:
    """Return the frames that the rows of `job` keep."""
    frames = float(found.frames)
    if settings.stride is not None:
        frames = math.ceil(frames / settings.stride)
    elif settings.fps is not None and found.seconds:
        frames = min(frames, math.ceil(found.seconds * settings.fps))
    return frames * sum(_share(row, found.seconds) for row in job.rows)


def _share(row: SourceRow, seconds: float) -> float:
    if not seconds:
        return 1.0
    end = seconds if row.end_seconds is None else min(row.end_seconds, seconds)
    return max(0.0, end - (row.start_seconds or 0.0)) / seconds


def _shape(found: Glance, short_side: int) -> float:
    """Return the pixels of a stored picture."""
    return short_side**2 * max(found.size) / min(found.size)
