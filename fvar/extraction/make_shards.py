"""Shards are made here: several videos are decoded at once, and written in order."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path

from fvar.config import ExtractConfig
from fvar.errors import ManifestError, StoppedError
from fvar.extraction.budget import RERUN, Budget
from fvar.extraction.collect import FrameInterval, Interval
from fvar.extraction.decode import Decoded, Decoder
from fvar.extraction.ffmpeg import DecodeSettings, Ffmpeg
from fvar.extraction.probe.pool import ProbePool
from fvar.extraction.shards import FOLDER, Job, Shard, ShardRecord, hash_source, write_record
from fvar.processes import taken_ahead
from fvar.sources.source_csv import SourceRow
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import write_shard
from fvar.store.manifest import VideoEntry
from fvar.system import usable_processors

OnProgress = Callable[[int, int], None]
"""Takes the number of finished rows since the last call, and the number of frames decoded so far."""

# Videos decoded ahead of the one that is written: neither a long video nor the end of a shard (hashing it,
# bringing it to the disk) must hold up the others. Each takes at most 16 MB of memory.
_AHEAD = 8
_PROGRESS_SECONDS = 1.0  # between two reports while a video is decoded


@dataclass(frozen=True)
class Work:
    """What all shards of an extraction have in common.

    Attributes:
        out_dir: The store's folder.
        config: Settings.
        program: From `find_ffmpeg`.
    """

    out_dir: Path
    config: ExtractConfig
    program: Ffmpeg

    @property
    def settings(self) -> DecodeSettings:
        """How each video is decoded."""
        config = self.config
        # We do not know how many processors a Dask worker was given.
        cores = 1 if config.dask else usable_processors()
        return DecodeSettings(
            config.short_side,
            config.quality,
            threads=max(1, cores // config.workers),
            time_limit_seconds=config.time_limit_seconds,
            fps=config.fps,
            stride=config.stride,
            stretch=config.stretch,
            keep_going=config.keep_going,
            video_stream=config.video_stream,
        )

    def make(
        self,
        shards: Sequence[Shard],
        *,
        probes: ProbePool,
        budget: Budget,
        on_progress: OnProgress,
    ) -> Iterator[ShardRecord]:
        """Make `shards` one after the other, and yield the record of each once it is whole.

        `budget` is asked before a video is written. `on_progress` is called with 1 after each row of the
        source, and with 0 every second in between. If we end early, the processes of `probes` are stopped.

        Raises:
            StoppedError: The budget is spent, a file cannot be written, ffmpeg cannot be run or was ended
                by a signal, the videos' folder is gone; finished shards are kept.
        """
        frames = _Counter()
        decoder = Decoder(
            self.program,
            self.settings,
            probes,
            folder=self.out_dir / FOLDER,
            check_room=budget.check_video,
            count_frame=frames.add,
        )
        pool = ThreadPoolExecutor(self.config.workers, thread_name_prefix="extract")
        submitted = (pool.submit(self._decode, job, decoder) for s in shards for job in s.jobs)
        futures = taken_ahead(submitted, self.config.workers + _AHEAD)

        def next_verdicts() -> list[Decoded]:
            future = next(futures)
            while not wait([future], timeout=_PROGRESS_SECONDS).done:
                on_progress(0, frames.total)
            return future.result()

        try:
            for shard in shards:
                yield self._make(shard, next_verdicts, budget, lambda: on_progress(1, frames.total))
        except BaseException:
            probes.running.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _make(
        self,
        shard: Shard,
        next_verdicts: Callable[[], list[Decoded]],
        budget: Budget,
        on_row: Callable[[], None],
    ) -> ShardRecord:
        entries: list[VideoEntry] = []
        sources: list[str | None] = []

        def videos() -> Iterator[tuple[str, EncodedVideo]]:
            for job in shard.jobs:
                verdicts = next_verdicts()
                # Without a hash the record matches no file, so that a later run tries the video again.
                sources.append(verdicts[0].source_sha256)
                for row, decoded in zip(job.rows, verdicts, strict=True):
                    entries.append(_entry(row, decoded, shard.name))
                    if video := decoded.video:
                        budget.check_video(video.num_bytes)
                        budget.count(video.num_frames, video.num_bytes)
                        yield row.id, video
                    on_row()

        try:
            # The record of an earlier shard must not be taken for that of the new one.
            (self.out_dir / shard.record_name).unlink(missing_ok=True)
            write_shard(self.out_dir / shard.name, videos())
            return write_record(self.out_dir, shard, videos=entries, sources=sources)
        except (OSError, ManifestError) as error:
            problem = f"cannot be written and read again ({error})"
            raise StoppedError(self.out_dir / shard.name, problem, fix=RERUN) from error

    def _decode(self, job: Job, decoder: Decoder) -> list[Decoded]:
        """Return one verdict for each row of `job`."""

        def check_not_stopped() -> None:
            if decoder.probes.running.stopped:  # a program that was killed gives no verdict
                raise StoppedError(job.path, "its decoding was stopped", fix=RERUN)

        before = _identity(job.path)
        sha256, problem = hash_source(job.path, beat=check_not_stopped)
        if sha256 is None:
            return self._missing(job, problem)
        intervals = [_interval(row) for row in job.rows]
        try:
            decoded = decoder.decode(job.path, intervals, sha256=sha256)
        except OSError as error:
            problem = f"cannot be decoded with {self.program.path} ({error})"
            raise StoppedError(job.path, problem, fix=RERUN) from error
        check_not_stopped()
        if any(part.status != "ok" for part in decoded) and not job.path.exists():
            return self._missing(job, f"{job.path} vanished while it was read")
        if _identity(job.path) not in (before, None):  # hash and frames may be those of two files
            return _failed(job, f"{job.path} changed while it was read")
        return decoded

    def _missing(self, job: Job, problem: str | None) -> list[Decoded]:
        """Return the verdict on a video that is not there; if the whole disk is gone, there is no verdict."""
        root = Path(self.config.videos)
        if not root.is_dir() or not any(root.iterdir()):
            fix = f"bring the videos back and {RERUN}"
            raise StoppedError(f"--videos {root}", "is gone or empty", fix=fix)
        return _failed(job, problem)


class _Counter:
    """A number that several threads count up."""

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        with self._lock:
            self.total += 1


def _interval(row: SourceRow) -> Interval:
    if row.start_frame is None and row.end_frame is None:
        return row.start_seconds, row.end_seconds
    return FrameInterval(row.start_frame, row.end_frame)


def _failed(job: Job, problem: str | None) -> list[Decoded]:
    return [Decoded("failed", problem)] * len(job.rows)


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what distinguishes a file from others and from its earlier versions; None: it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _entry(row: SourceRow, decoded: Decoded, shard: str) -> VideoEntry:
    video = decoded.video
    return VideoEntry(
        **asdict(row),
        status=decoded.status,
        reason=decoded.reason,
        note=decoded.note,
        num_frames=video.num_frames if video else 0,
        decoded_frames=decoded.num_decoded,
        shard=shard if video else None,
        width=video.width if video else None,
        height=video.height if video else None,
        fps=video.fps if video else None,
        num_bytes=video.num_bytes if video else 0,
    )
