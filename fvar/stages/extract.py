"""From a source CSV to a frame store: every frame of every video as JPEG in HDF5 shards."""

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fvar.config import ExtractConfig
from fvar.data.annotations import SourceRow, class_names, read_source, video_path
from fvar.data.estimate import estimate_store
from fvar.data.frame_store import EncodedVideo, write_shard
from fvar.data.jpeg_pipe import DecodeSettings
from fvar.data.program import Ffmpeg, Running, find_ffmpeg
from fvar.data.shards import (
    FOLDER,
    Job,
    Shard,
    ShardRecord,
    finished,
    hash_source,
    plan_shards,
    remove_strangers,
    write_record,
)
from fvar.data.video import Decoded, decode_video
from fvar.errors import ConfigError, StoppedError
from fvar.files import remove_outputs
from fvar.manifest import (
    FramesManifest,
    FramesSummary,
    VideoEntry,
    check_out,
    input_file,
    tool_versions,
    write_manifest,
)
from fvar.reporting import Progress, Reporter

_GB = 1e9
_PACKAGES = ("av", "h5py", "imageio-ffmpeg", "numpy")
_AHEAD = (
    2  # videos decoded beyond those being decoded, so that a long one does not hold up the others
)


def extract(
    source_csv: Path,
    out_dir: Path,
    config: ExtractConfig,
    reporter: Reporter,
    *,
    overwrite: bool = False,
) -> FramesManifest:
    """Decode every video of `source_csv` into `out_dir`.

    An interrupted extraction goes on where it stopped: a shard that is whole and was made from the same rows,
    settings and video files is kept.

    Args:
        source_csv: The source CSV.
        out_dir: Output folder.
        config: Settings.
        reporter: Told how it goes.
        overwrite: Replace a complete run.

    Raises:
        InputError: The CSV, the videos' folder, ffmpeg or `out_dir` is not fit; nothing was written.
        StoppedError: The disk is full or the store would outgrow ``max_gb``; finished shards are kept.
    """
    check_out(out_dir, FramesManifest, overwrite=overwrite)
    rows = read_source(source_csv)
    program = find_ffmpeg(config.ffmpeg)
    paths = _paths(Path(config.videos), rows)
    shards = plan_shards(rows, paths, config=config, ffmpeg_version=program.version)
    source = input_file(out_dir, source_csv)
    _clear(out_dir, shards, overwrite=overwrite)
    _announce(paths, config, reporter)
    with reporter.progress("extract", total=len(rows), unit="videos") as progress:
        records = _Extraction(out_dir, config, program, progress).run(shards)
    entries = {video.id: video for record in records for video in record.videos}
    manifest = FramesManifest(
        versions=tool_versions(_PACKAGES) | {"ffmpeg": program.version},
        classes=class_names(rows),
        inputs=[source],
        outputs=[record.shard for record in records],
        config=config,
        summary=_summary(records),
        videos=[entries[row.id] for row in rows],
    )
    write_manifest(out_dir, manifest)
    return manifest


def _paths(root: Path, rows: list[SourceRow]) -> list[Path]:
    if not root.is_dir():
        raise ConfigError(
            f"--videos {root}", "is not a folder", fix="give the folder that holds the videos"
        )
    paths = [video_path(root, row) for row in rows]
    if not any(_exists(path) for path in paths):
        raise ConfigError(
            f"--videos {root}",
            f"holds none of the {len(rows)} videos, not even {rows[0].video!r}",
            fix="give the folder that the column `video` is relative to",
        )
    return paths


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than the system takes
        return False


def _clear(out_dir: Path, shards: list[Shard], *, overwrite: bool) -> None:
    try:
        if overwrite:
            remove_outputs(out_dir, [FOLDER])
        remove_strangers(out_dir, shards)
    except OSError as error:
        raise StoppedError(
            out_dir, f"cannot be cleared ({error})", fix="make it writable or choose another --out"
        ) from error


def _announce(paths: list[Path], config: ExtractConfig, reporter: Reporter) -> None:
    if config.thinning:
        reporter.info(f"frames kept: {config.thinning}")
    guess = estimate_store(
        paths,
        short_side=config.short_side,
        quality=config.quality,
        fps=config.fps,
        stride=config.stride,
    )
    if guess is None:
        return
    frames, num_bytes = guess
    reporter.info(
        f"{len(paths)} videos, about {frames} frames, {num_bytes / _GB:.2g} GB "
        f"at short side {config.short_side}, quality {config.quality}"
    )
    if config.max_gb is not None and num_bytes / _GB > config.max_gb:
        reporter.warning(f"that is probably more than --max-gb {config.max_gb:g}")


def _summary(records: list[ShardRecord]) -> FramesSummary:
    videos = [video for record in records for video in record.videos]
    status = Counter(video.status for video in videos)
    return FramesSummary(
        num_videos=len(videos),
        ok=status["ok"],
        partial=status["partial"],
        failed=status["failed"],
        frames=sum(video.num_frames for video in videos),
        num_bytes=sum(video.num_bytes for video in videos),
    )


@dataclass(frozen=True)
class _Result:
    job: Job
    sha256: str | None
    decoded: list[Decoded]  # one a row


class _Extraction:
    """One run over the shards: videos are decoded several at once, and written in order."""

    def __init__(
        self, out_dir: Path, config: ExtractConfig, program: Ffmpeg, progress: Progress
    ) -> None:
        self._out_dir, self._config, self._program = out_dir, config, program
        self._progress = progress
        self._running = Running()
        self._num_bytes = self._num_frames = 0
        threads = max(1, (os.cpu_count() or 1) // config.workers)
        self._settings = DecodeSettings(
            config.short_side,
            config.quality,
            threads=threads,
            time_limit_seconds=config.time_limit_seconds,
            fps=config.fps,
            stride=config.stride,
        )

    def run(self, shards: list[Shard]) -> list[ShardRecord]:
        kept = {shard.name: record for shard in shards if (record := self._kept(shard)) is not None}
        missing = [shard for shard in shards if shard.name not in kept]
        with self._decoding(job for shard in missing for job in shard.jobs) as results:
            made = {shard.name: self._make(shard, results) for shard in missing}
        return [(kept | made)[shard.name] for shard in shards]

    def _kept(self, shard: Shard) -> ShardRecord | None:
        record = finished(self._out_dir, shard)
        if record is not None:
            self._num_bytes += record.shard.num_bytes
            self._num_frames += sum(video.num_frames for video in record.videos)
            self._progress.advance(shard.num_rows, note=f"{shard.name} is there already")
        return record

    def _make(self, shard: Shard, results: Iterator[_Result]) -> ShardRecord:
        # A record of an earlier shard must not outlive it, nor speak for the one to come.
        (self._out_dir / shard.record_name).unlink(missing_ok=True)
        entries: list[VideoEntry] = []
        sources: list[str | None] = []

        def videos() -> Iterator[tuple[str, EncodedVideo]]:
            for _ in shard.jobs:
                result = next(results)
                sources.append(result.sha256)
                for row, decoded in zip(result.job.rows, result.decoded, strict=True):
                    entries.append(_entry(row, decoded, shard.name))
                    if video := decoded.video:
                        self._count(video)
                        yield row.id, video
                    self._progress.advance(note=self._note())

        write_shard(self._out_dir / shard.name, videos())
        return write_record(self._out_dir, shard, videos=entries, sources=sources)

    def _count(self, video: EncodedVideo) -> None:
        self._num_bytes += len(video.jpeg)
        self._num_frames += video.num_frames
        limit = self._config.max_gb
        if limit is not None and self._num_bytes > limit * _GB:
            raise StoppedError(
                self._out_dir,
                f"the frames would take {self._num_bytes / _GB:.4g} GB, more than --max-gb {limit:g}",
                fix="raise --max-gb and run the same command again: finished shards are kept",
            )

    def _note(self) -> str:
        return f"{self._num_frames} frames, {self._num_bytes / _GB:.2f} GB"

    @contextmanager
    def _decoding(self, jobs: Iterable[Job]) -> Iterator[Iterator[_Result]]:
        """Yield the results of `jobs` in their order; when the block ends early, nothing is left running."""
        pool = ThreadPoolExecutor(self._config.workers, thread_name_prefix="extract")
        try:
            yield self._in_order(pool, iter(jobs))
        except BaseException:
            self._running.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _in_order(self, pool: ThreadPoolExecutor, jobs: Iterator[Job]) -> Iterator[_Result]:
        waiting: deque[Future[_Result]] = deque()
        for job in jobs:
            waiting.append(pool.submit(self._decode, job))
            if len(waiting) >= self._config.workers + _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _decode(self, job: Job) -> _Result:
        sha256, problem = hash_source(job.path)
        if sha256 is None:
            return _Result(job, None, [Decoded("failed", problem, None)] * len(job.rows))
        decoded = decode_video(
            job.path,
            program=self._program,
            settings=self._settings,
            running=self._running,
            source_sha256=sha256,
            intervals=[(row.start_seconds, row.end_seconds) for row in job.rows],
        )
        return _Result(job, sha256, decoded)


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
