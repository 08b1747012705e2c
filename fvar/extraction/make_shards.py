"""Making shards: videos are decoded several at once, and written in order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fvar.config import ExtractConfig
from fvar.errors import ManifestError, StoppedError
from fvar.extraction.budget import Budget
from fvar.extraction.decode import Decoded, Decoder, Source
from fvar.extraction.ffmpeg import DecodeSettings
from fvar.extraction.probe.pool import Probes
from fvar.extraction.program import Ffmpeg
from fvar.extraction.shards import FOLDER, Job, Shard, ShardRecord, hash_source, write_record
from fvar.extraction.spool import Spool
from fvar.sources.source_csv import SourceRow
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import write_shard
from fvar.store.manifest import VideoEntry
from fvar.system import usable_processors

# Videos decoded beyond those being decoded, so that neither a long one nor the end of a shard (hashing it,
# bringing it to the disk) holds up the others; each takes 16 MB of memory at most.
_AHEAD = 8
_TELL_SECONDS = 1.0  # between two signs of life
_RERUN = "run the same command again: finished shards are kept"


@dataclass(frozen=True)
class Work:
    """What all shards of an extraction are made with.

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
        # A Dask worker has the processors that it was given, of which we know nothing.
        cores = 1 if config.dask else usable_processors()
        return DecodeSettings(
            config.short_side,
            config.quality,
            threads=max(1, cores // config.workers),
            time_limit_seconds=config.time_limit_seconds,
            fps=config.fps,
            stride=config.stride,
        )

    def make(
        self,
        shards: Sequence[Shard],
        *,
        probes: Probes,
        budget: Budget,
        tell: Callable[[int], None],
    ) -> Iterator[ShardRecord]:
        """Make `shards` one after the other, and yield the record of each once it is whole.

        Args:
            shards: What to make.
            probes: Read what videos claim; all that runs beside them is stopped, too, when we end early.
            budget: Asked before a video is written.
            tell: Called with 1 after each row of the source, and with 0 every second that one takes.

        Raises:
            StoppedError: The budget is spent, a file cannot be written, ffmpeg cannot be run or was ended
                by a signal, the videos' folder is gone; finished shards are kept.
        """
        decoder = Decoder(
            self.program,
            self.settings,
            probes,
            new_spool=partial(Spool, self.out_dir / FOLDER, allow=budget.check_video),
        )
        jobs = [job for shard in shards for job in shard.jobs]
        with self._decoding(jobs, decoder) as futures:
            results = (_result(future, tell) for future in futures)
            for shard in shards:
                yield self._make(shard, results, budget, tell)

    def _make(
        self,
        shard: Shard,
        results: Iterator["_Result"],
        budget: Budget,
        tell: Callable[[int], None],
    ) -> ShardRecord:
        entries: list[VideoEntry] = []
        sources: list[str | None] = []

        def videos() -> Iterator[tuple[str, EncodedVideo]]:
            for _ in shard.jobs:
                result = next(results)
                # Without a hash the record matches no file: a later run tries again what may pass.
                passing = any(decoded.passing for decoded in result.decoded)
                sources.append(None if passing else result.sha256)
                for row, decoded in zip(result.job.rows, result.decoded, strict=True):
                    entries.append(_entry(row, decoded, shard.name))
                    if video := decoded.video:
                        budget.check_video(len(video.jpeg))
                        budget.count(video.num_frames, len(video.jpeg))
                        yield row.id, video
                    tell(1)

        try:
            # A record of an earlier shard must not outlive it, nor speak for the one to come.
            (self.out_dir / shard.record_name).unlink(missing_ok=True)
            write_shard(self.out_dir / shard.name, videos())
            return write_record(self.out_dir, shard, videos=entries, sources=sources)
        except (OSError, ManifestError) as error:
            raise StoppedError(
                self.out_dir / shard.name,
                f"cannot be written and read again ({error})",
                fix=_RERUN,
            ) from error

    @contextmanager
    def _decoding(
        self, jobs: Sequence[Job], decoder: Decoder
    ) -> Iterator[Iterator["Future[_Result]"]]:
        """Yield the results of `jobs` in their order; when the block ends early, nothing is left running."""
        pool = ThreadPoolExecutor(self.config.workers, thread_name_prefix="extract")
        try:
            yield self._in_order(pool, jobs, decoder)
        except BaseException:
            decoder.probes.running.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _in_order(
        self, pool: ThreadPoolExecutor, jobs: Sequence[Job], decoder: Decoder
    ) -> Iterator["Future[_Result]"]:
        waiting: deque[Future[_Result]] = deque()
        for job in jobs:
            waiting.append(pool.submit(self._decode, job, decoder))
            if len(waiting) > self.config.workers + _AHEAD:
                yield waiting.popleft()
        yield from waiting

    def _decode(self, job: Job, decoder: Decoder) -> "_Result":
        def go_on() -> None:
            if decoder.probes.running.stopped:  # what was killed is no verdict on a video
                raise StoppedError(job.path, "its decoding was stopped", fix=_RERUN)

        before = _identity(job.path)
        sha256, problem = hash_source(job.path, beat=go_on)
        if sha256 is None:
            return self._without(job, problem)
        source = Source(
            job.path, sha256, [(row.start_seconds, row.end_seconds) for row in job.rows]
        )
        try:
            decoded = decoder.decode(source)
        except OSError as error:
            raise StoppedError(
                job.path, f"cannot be decoded with {self.program.path} ({error})", fix=_RERUN
            ) from error
        go_on()
        return self._checked(job, source, decoded, before)

    def _checked(
        self, job: Job, source: Source, decoded: list[Decoded], before: tuple[int, ...] | None
    ) -> "_Result":
        """Return the verdict, if it is one on the file that was there before."""
        if any(part.status != "ok" for part in decoded) and not job.path.exists():
            return self._without(job, f"{job.path} vanished while it was read")
        # Hash and frames may then be those of different files.
        if _identity(job.path) not in (before, None):
            changed = f"{job.path} changed while it was read"
            decoded = [Decoded("failed", changed, None, passing=True)] * len(job.rows)
        return _Result(job, source.sha256, decoded)

    def _without(self, job: Job, problem: str | None) -> "_Result":
        """Return the verdict on a video that is not there, unless none is: a disk that was taken away."""
        root = Path(self.config.videos)
        if not root.is_dir() or not any(root.iterdir()):
            raise StoppedError(
                f"--videos {root}",
                "is gone or empty",
                fix=f"bring the videos back and {_RERUN}",
            )
        return _Result(job, None, [Decoded("failed", problem, None)] * len(job.rows))


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what tells a file from another and from what it was before; None: it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _result(future: "Future[_Result]", tell: Callable[[int], None]) -> "_Result":
    while not wait([future], timeout=_TELL_SECONDS).done:
        tell(0)
    return future.result()


@dataclass(frozen=True)
class _Result:
    job: Job
    sha256: str | None
    decoded: list[Decoded]  # one a row


def _entry(row: SourceRow, decoded: Decoded, shard: str) -> VideoEntry:
    video = decoded.video
    return VideoEntry(
        id=row.id,
        video=row.video,
        label=row.label,
        split=row.split,
        start_seconds=row.start_seconds,
        end_seconds=row.end_seconds,
        group=row.group,
        status=decoded.status,
        reason=decoded.reason,
        note=decoded.note,
        num_frames=video.num_frames if video else 0,
        decoded_frames=decoded.num_decoded,
        shard=shard if video else None,
        width=video.width if video else None,
        height=video.height if video else None,
        fps=video.fps if video else None,
        num_bytes=len(video.jpeg) if video else 0,
    )
