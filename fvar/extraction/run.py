"""One extraction: planned, foretold, made and finished."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fvar.config import ExtractConfig
from fvar.errors import ConfigError, StoppedError
from fvar.extraction.budget import GB, Budget, check_room
from fvar.extraction.estimate import Estimate, estimate_work
from fvar.extraction.make_shards import Work
from fvar.extraction.on_dask.client import Cluster
from fvar.extraction.probe.pool import Probes
from fvar.extraction.program import find_ffmpeg
from fvar.extraction.shards import (
    FOLDER,
    Shard,
    ShardRecord,
    check_nothing_lost,
    finished,
    plan_shards,
    remove_strangers,
)
from fvar.reporting import Progress, Reporter
from fvar.sources.source_csv import SourceRow, class_names, read_source, video_path
from fvar.store.files import check_out_dir, remove_outputs
from fvar.store.manifest import (
    FramesManifest,
    FramesSummary,
    InputFile,
    VideoEntry,
    check_out,
    write_manifest,
)
from fvar.store.provenance import input_file, tool_versions

_PACKAGES = ("av", "h5py", "imageio-ffmpeg", "numpy")


def plan_extraction(
    source_csv: Path, out_dir: Path, config: ExtractConfig, *, overwrite: bool, update: bool
) -> "Extraction":
    """Read the source and plan the shards, keeping those that are there unless `overwrite`; writes nothing.

    Raises:
        InputError: The CSV, the videos' folder, ffmpeg or `out_dir` is not fit.
    """
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
    return Extraction(Work(out_dir, config, program), rows, paths, shards, source)


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


@dataclass(frozen=True)
class Extraction:
    """A plan, and what is done by it.

    Attributes:
        work: What all shards are made with.
        rows: Of the source CSV.
        paths: Of the video of each row.
        shards: That the store will have.
        source: The source CSV.
    """

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
        """Return the shards to be made.

        Raises:
            ConfigError: Frames would be lost whose video is no longer there.
        """
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
        held = {video.id for video in with_frames(kept)}
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
        """Delete what no shard of the plan is, all shards where `overwrite`.

        Raises:
            StoppedError: The folder cannot be written.
        """
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
        """Make `missing` here or on a cluster, and yield the record of each once it is whole.

        Raises:
            StoppedError: As `Work.make` and `Cluster.make` do.
        """
        before = probes.running.num_pictures

        def tell(num_rows: int) -> None:
            note = budget.note()
            if not num_rows:  # a long video should not look like one that hangs
                note += f", {probes.running.num_pictures - before} decoded in this run"
            progress.advance(num_rows, note=note)

        if cluster is None:
            return self.work.make(missing, probes=probes, budget=budget, tell=tell)
        return cluster.make(self.work, missing, budget=budget, tell=tell)

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


def with_frames(kept: Mapping[str, ShardRecord]) -> list[VideoEntry]:
    """Return the videos that are in the shards."""
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
