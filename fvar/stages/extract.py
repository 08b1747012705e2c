"""From a source CSV to a frame store: every frame of every video as JPEG in HDF5 shards."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fvar.config import ExtractConfig
from fvar.data.annotations import SourceRow, class_names, read_source, video_path
from fvar.data.budget import GB, Budget, check_room
from fvar.data.cluster import Cluster, connect
from fvar.data.estimate import Estimate, estimate_work
from fvar.data.making import Work
from fvar.data.probes import Probes
from fvar.data.program import Running, find_ffmpeg
from fvar.data.shards import (
    FOLDER,
    Shard,
    ShardRecord,
    check_nothing_lost,
    finished,
    plan_shards,
    remove_strangers,
)
from fvar.errors import ConfigError, StoppedError
from fvar.files import check_out_dir, remove_outputs
from fvar.manifest import (
    FramesManifest,
    FramesSummary,
    InputFile,
    VideoEntry,
    check_out,
    input_file,
    tool_versions,
    write_manifest,
)
from fvar.reporting import Progress, Reporter

_PACKAGES = ("av", "h5py", "imageio-ffmpeg", "numpy")


def extract(
    source_csv: Path,
    out_dir: Path,
    config: ExtractConfig,
    reporter: Reporter,
    *,
    overwrite: bool = False,
    update: bool = False,
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
        update: Go on in a complete run: keep what is as it was, add and redo the rest.

    Raises:
        InputError: The CSV, the videos' folder, ffmpeg, `out_dir`, the disk's room or the cluster is not fit;
            nothing was written.
        StoppedError: The disk is full, the store would outgrow ``max_gb``, or a cluster failed; finished
            shards are kept.
    """
    run = _prepare(source_csv, out_dir, config, overwrite=overwrite, update=update)
    with (
        _cluster(config, reporter) as cluster,
        reporter.progress("extract", total=len(run.rows), unit="videos") as progress,
        Probes(Running()) as probes,
    ):
        budget = Budget(out_dir, max_gb=config.max_gb, reserve_gb=config.reserve_gb)
        kept = run.kept(progress, budget, reporter, overwrite=overwrite)
        missing = run.missing(kept, overwrite=overwrite)
        run.foretell(missing, cluster, probes, reporter, freed=run.freed(kept))
        run.clear(overwrite=overwrite)
        records = kept | {
            record.shard.path: record
            for record in run.make(missing, cluster, probes, budget, progress)
        }
    return run.finish([records[shard.name] for shard in run.shards])


@dataclass(frozen=True)
class Preview:
    """What an extraction would do.

    Attributes:
        num_videos: Rows of the source.
        absent: Those whose video is not there, nor its frames in the store.
        num_kept: Rows that are in the store already.
        num_shards: To be made.
        redone: Names of those of them that are there, but of other rows, settings or videos, or damaged.
        estimate: Of what is to be made; None: no header tells.
    """

    num_videos: int
    absent: Sequence[SourceRow]
    num_kept: int
    num_shards: int
    redone: Sequence[str]
    estimate: Estimate | None


def preview(
    source_csv: Path,
    out_dir: Path,
    config: ExtractConfig,
    reporter: Reporter,
    *,
    overwrite: bool = False,
    update: bool = False,
) -> Preview:
    """Check all that `extract` checks with the same arguments before it begins, and write nothing.

    Raises:
        InputError: As `extract` does.
    """
    run = _prepare(source_csv, out_dir, config, overwrite=overwrite, update=update)
    with (
        _cluster(config, reporter) as cluster,
        reporter.progress("check", total=len(run.rows), unit="videos") as progress,
        Probes(Running()) as probes,
    ):
        budget = Budget(out_dir, max_gb=config.max_gb, reserve_gb=config.reserve_gb)
        kept = run.kept(progress, budget, reporter, overwrite=overwrite)
        missing = run.missing(kept, overwrite=overwrite)
        estimate = run.foretell(missing, cluster, probes, reporter, freed=run.freed(kept))
    return Preview(
        num_videos=len(run.rows),
        absent=run.absent(video.id for video in _with_frames(kept)),
        num_kept=len(run.rows) - sum(shard.num_rows for shard in missing),
        num_shards=len(missing),
        redone=[shard.name for shard in missing if (out_dir / shard.name).exists()],
        estimate=estimate,
    )


def _prepare(
    source_csv: Path, out_dir: Path, config: ExtractConfig, *, overwrite: bool, update: bool
) -> "_Run":
    check_out(
        out_dir,
        FramesManifest,
        overwrite=overwrite or update,
        fix="choose another --out, pass --update to add and redo what changed, or --overwrite",
    )
    check_out_dir(out_dir / FOLDER, overwrite=True)
    rows = read_source(source_csv)
    program = find_ffmpeg(config.ffmpeg)
    paths = _paths(Path(config.videos), rows)
    shards = plan_shards(
        rows,
        paths,
        config=config,
        ffmpeg_version=program.version,
        folder=None if overwrite else out_dir,
    )
    source = input_file(out_dir, source_csv)
    return _Run(Work(out_dir, config, program), rows, paths, shards, source)


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


@contextmanager
def _cluster(config: ExtractConfig, reporter: Reporter) -> Iterator[Cluster | None]:
    if config.dask is None:
        yield None
        return
    with connect(config.dask, reporter) as cluster:
        yield cluster


@dataclass(frozen=True)
class _Run:
    """One extraction, planned."""

    work: Work
    rows: list[SourceRow]
    paths: list[Path]
    shards: list[Shard]
    source: InputFile

    def absent(self, held: Iterable[str] = ()) -> list[SourceRow]:
        """Return the rows whose video is not there, but those of ids `held`."""
        ids = set(held)
        pairs = zip(self.rows, self.paths, strict=True)
        return [row for row, path in pairs if row.id not in ids and not _exists(path)]

    def missing(self, kept: Mapping[str, ShardRecord], *, overwrite: bool) -> list[Shard]:
        """Return the shards to be made."""
        missing = [shard for shard in self.shards if shard.name not in kept]
        if not overwrite:
            check_nothing_lost(self.work.out_dir, missing, kept)
        return missing

    def kept(
        self, progress: Progress, budget: Budget, reporter: Reporter, *, overwrite: bool
    ) -> dict[str, ShardRecord]:
        """Find the shards that need not be made, and count them."""
        kept = {}
        for shard in [] if overwrite else self.shards:
            if (record := finished(self.work.out_dir, shard)) is not None:
                kept[shard.name] = record
                budget.keep(
                    sum(video.num_frames for video in record.videos),
                    sum(video.num_bytes for video in record.videos),
                )
                progress.advance(shard.num_rows, note=f"{shard.name} is there already")
        held = {video.id for video in _with_frames(kept)}
        if gone := [row for row in self.absent() if row.id in held]:
            reporter.warning(
                f"{len(gone)} videos are no longer there, first {gone[0].video}: their frames are kept"
            )
        return kept

    def freed(self, kept: dict[str, ShardRecord]) -> int:
        """Return the bytes of shards that are there and will be replaced or deleted."""
        there = (self.work.out_dir / FOLDER).glob("shard-*.h5")
        return sum(p.stat().st_size for p in there if f"{FOLDER}/{p.name}" not in kept)

    def foretell(
        self,
        missing: list[Shard],
        cluster: Cluster | None,
        probes: Probes,
        reporter: Reporter,
        *,
        freed: int,
    ) -> Estimate | None:
        """Say what making `missing` will take, and refuse what will not fit on the disk."""
        config = self.work.config
        if config.thinning:
            reporter.info(f"frames kept: {config.thinning}")
        if cluster is not None:
            reporter.info(cluster.describe())
        guess = estimate_work(
            [job for shard in missing for job in shard.jobs],
            program=self.work.program,
            settings=self.work.settings,
            workers=config.workers,
            probes=probes,
        )
        if guess is None:
            return None
        duration = (
            cluster.duration(guess, len(missing))
            if cluster
            else f"{guess.duration} with {config.workers} workers"
        )
        reporter.info(
            f"{sum(shard.num_rows for shard in missing)} videos, about {guess.frames} frames, "
            f"{guess.num_bytes / GB:.2g} GB, {duration}, "
            f"at short side {config.short_side}, quality {config.quality}"
        )
        if config.max_gb is not None and guess.num_bytes / GB > config.max_gb:
            reporter.warning(f"that is probably more than --max-gb {config.max_gb:g}")
        room = (
            guess.num_bytes if config.max_gb is None else min(guess.num_bytes, config.max_gb * GB)
        )
        check_room(self.work.out_dir, round(room) - freed, reserve_gb=config.reserve_gb)
        return guess

    def clear(self, *, overwrite: bool) -> None:
        out_dir = self.work.out_dir
        try:
            remove_outputs(out_dir, [FOLDER] if overwrite else [])
            remove_strangers(out_dir, self.shards)
            (out_dir / FOLDER).mkdir(parents=True, exist_ok=True)  # workers elsewhere look for it
        except OSError as error:
            raise StoppedError(
                out_dir,
                f"cannot be cleared ({error})",
                fix="make it writable or choose another --out",
            ) from error

    def make(
        self,
        missing: list[Shard],
        cluster: Cluster | None,
        probes: Probes,
        budget: Budget,
        progress: Progress,
    ) -> Iterator[ShardRecord]:
        def done() -> None:
            progress.advance(note=budget.note())

        if cluster is None:
            return self.work.make(missing, probes=probes, budget=budget, done=done)
        return cluster.make(self.work, missing, budget=budget, done=done)

    def finish(self, records: list[ShardRecord]) -> FramesManifest:
        """Write the manifest."""
        self.clear(overwrite=False)  # a worker that was killed left a file whose shard another made
        entries = {video.id: video for record in records for video in record.videos}
        manifest = FramesManifest(
            versions=tool_versions(_PACKAGES) | {"ffmpeg": self.work.program.version},
            classes=class_names(self.rows),
            inputs=[self.source],
            outputs=[record.shard for record in records],
            config=self.work.config,
            summary=_summary(records),
            videos=[entries[row.id] for row in self.rows],
        )
        write_manifest(self.work.out_dir, manifest)
        return manifest


def _with_frames(kept: Mapping[str, ShardRecord]) -> list[VideoEntry]:
    return [video for record in kept.values() for video in record.videos if video.num_frames]


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
