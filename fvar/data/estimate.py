"""How large a frame store will become and how long it takes, told from a sample of the videos."""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from fvar.data.annotations import SourceRow
from fvar.data.container import Glance, UnreadableError
from fvar.data.folder import glance_at_series, read_series
from fvar.data.jpeg_pipe import DecodeSettings, Footage, take_pictures
from fvar.data.parts import Part
from fvar.data.probes import Probes
from fvar.data.program import Ffmpeg, Running
from fvar.data.shards import Job

_LOOKED_AT = 64  # headers read: opening one takes milliseconds, a hundred thousand take minutes
_LOOK_SECONDS = 30.0  # for one header; 24 hours of MP4 take 4
_TRIED = 4, 16  # videos decoded: at least, and at most where more are decoded at once
_TRIAL_SECONDS = 10.0  # of a video: enough to make starting ffmpeg a small part of it
_TRIAL_LIMIT_SECONDS = 5.0  # of our time; what has come by then counts
_CLOCK = Fraction(1, 90_000)  # of the trial's pictures, whose times nobody reads


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
    running: Running,
) -> Estimate | None:
    """Return about what `jobs` will take; None: of none that was looked at a picture came.

    The headers of some videos, evenly spaced, tell how many frames there are; the first seconds of a few are
    decoded as all will be, which tells bytes and time of a frame.

    Args:
        jobs: All videos to extract.
        program: From `find_ffmpeg`.
        settings: As in the extraction.
        workers: Videos decoded at once.
        running: Where the processes are entered while they run.
    """
    sample = jobs[:: math.ceil(len(jobs) / _LOOKED_AT) or 1]
    with Probes(running) as probes:
        looked = [(job, found) for job in sample if (found := _look(job.path, probes)) is not None]
    num_tried = min(max(_TRIED[0], workers), _TRIED[1])
    tried = looked[:: math.ceil(len(looked) / num_tried) or 1]
    with ThreadPoolExecutor(workers) as pool:
        try:
            trials = list(
                pool.map(lambda one: _try(one[0].path, program, settings, running), tried)
            )
        except BaseException:
            running.stop()
            raise
    pixels = sum(trial.frames * trial.pixels for trial in trials)
    frames = sum(trial.frames for trial in trials)
    if not frames:
        return None
    scale = len(jobs) / len(sample)  # what cannot be opened costs next to nothing
    kept = [_kept(job, found, settings) * scale for job, found in looked]
    shapes = [_shape(found, settings.short_side) for _, found in looked]
    decoded = sum(found.frames for _, found in looked) * scale
    return Estimate(
        frames=round(sum(kept)),
        num_bytes=round(
            sum(map(math.prod, zip(kept, shapes, strict=True)))
            * sum(trial.num_bytes for trial in trials)
            / pixels
        ),
        seconds=decoded * sum(trial.seconds for trial in trials) / frames / min(workers, len(jobs)),
    )


def _look(path: Path, probes: Probes) -> Glance | None:
    try:
        if path.is_dir():
            return glance_at_series(path)
        return probes.glance(path, time_limit_seconds=_LOOK_SECONDS)
    except (UnreadableError, OSError):
        return None  # extraction itself will say what is wrong with it


@dataclass(frozen=True)
class _Trial:
    frames: int
    num_bytes: int
    pixels: int  # of one frame
    seconds: float


def _try(path: Path, program: Ffmpeg, settings: DecodeSettings, running: Running) -> _Trial:
    """Decode the beginning of a video; what is wrong with it is the extraction's to say."""
    began = time.monotonic()
    part = Part((None, None), lambda *_: True)
    limit = min(_TRIAL_LIMIT_SECONDS, settings.time_limit_seconds)
    try:
        footage = (
            read_series(path).feeder().footage()
            if path.is_dir()
            else Footage(f"file:{path}", {"t": str(_TRIAL_SECONDS)}, _CLOCK)
        )
        pictures = take_pictures(
            footage,
            [part],
            program=program,
            settings=replace(settings, time_limit_seconds=limit),
            running=running,
        )
    except (UnreadableError, OSError):
        return _Trial(0, 0, 0, 0.0)
    seconds = time.monotonic() - began
    return _Trial(pictures.num_decoded, len(part.jpeg), math.prod(pictures.size), seconds)


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
