"""One extraction: plan its shards, keep those that are whole, estimate and make the others, and finish."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fvar.config import ExtractConfig
from fvar.errors import SourceError, StoppedError
from fvar.extraction.budget import GB, Budget
from fvar.extraction.estimate import Estimate, Preview, estimate_work
from fvar.extraction.ffmpeg import find_ffmpeg
from fvar.extraction.make_shards import Work
from fvar.extraction.on_dask.client import DaskClient, connect
from fvar.extraction.plan import plan_shards
from fvar.extraction.probe.pool import ProbePool
from fvar.extraction.shards import (
    FOLDER,
    Shard,
    ShardRecord,
    check_nothing_lost,
    finished,
    remove_unplanned,
)
from fvar.reporting import Progress, Reporter
from fvar.sources.source_csv import SourceRow, class_names, read_source
from fvar.sources.suspicions import check_label_forms, odd_labels, paths_of, repeated_videos
from fvar.store.files import check_out_dir, remove_outputs, sole_writer
from fvar.store.manifest import FramesManifest, FramesSummary, InputFile
from fvar.store.manifest_file import check_out, write_manifest
from fvar.store.provenance import input_file, tool_versions

_PACKAGES = ("av", "h5py", "imageio-ffmpeg", "numpy")


@contextmanager
def open_extraction(
    source_csv: Path,
    out_dir: Path,
    config: ExtractConfig,
    reporter: Reporter,
    *,
    label: str,
    overwrite: bool,
    update: bool,
) -> Iterator["Extraction"]:
    """Read the source CSV, plan the shards and yield the extraction; writes nothing.

    The arguments are those of `fvar.stages.extract.extract`; `label` names the progress bar.

    Raises:
        InputError: The CSV, the folder of the videos, ffmpeg, `out_dir` or the Dask scheduler is not usable.
    """
    check_out(
        out_dir,
        FramesManifest,
        overwrite=overwrite or update,
        fix="choose another --out, pass --update to add and redo what changed, or --overwrite",
    )
    check_out_dir(out_dir / FOLDER, overwrite=True)
    rows = read_source(source_csv)
    check_label_forms(rows)
    suspicions = [*odd_labels(rows), *repeated_videos(rows, paths_of(rows))]
    _warn(reporter, suspicions, config, source_csv)
    work = Work(out_dir, config, find_ffmpeg(config.ffmpeg))
    store = None if overwrite else out_dir
    shards = plan_shards(rows, config, ffmpeg_version=work.program.version, store=store)
    source = input_file(out_dir, source_csv)
    budget = Budget(out_dir, max_gb=config.max_gb, reserve_gb=config.reserve_gb)
    with (
        ProbePool() as probes,
        connect(config.dask, reporter) as dask,
        reporter.progress(label, total=len(rows), unit="videos") as progress,
    ):
        yield Extraction(
            work, source, rows, shards, budget, reporter, progress, probes, dask, overwrite
        )


def _warn(
    reporter: Reporter, lines: Sequence[str], config: ExtractConfig, source_csv: object
) -> None:
    """Warn of what is suspicious in the source CSV; with `strict`, refuse it.

    Raises:
        SourceError: It is suspicious.
    """
    if lines and config.strict:
        raise SourceError(source_csv, lines[0], fix="correct the rows, or leave out --strict")
    for line in lines:
        reporter.warning(line)


@dataclass(frozen=True)
class Extraction:
    """A planned extraction, the means to carry it out, and the shards that are whole so far.

    Attributes:
        work: What all shards are made with.
        source: The source CSV.
        rows: Its rows.
        shards: All shards that the store will have.
        budget: Counts what the store holds.
        reporter: Receives the estimate and warnings.
        progress: Counts rows.
        probes: Read the headers of videos on this machine.
        dask: Makes the shards on Dask workers; None makes them on this machine.
        overwrite: Whether existing shards are replaced rather than kept.
        records: Records of the whole shards, by name.
    """

    work: Work
    source: InputFile
    rows: list[SourceRow]
    shards: list[Shard]
    budget: Budget
    reporter: Reporter
    progress: Progress
    probes: ProbePool
    dask: DaskClient | None
    overwrite: bool
    records: dict[str, ShardRecord] = field(default_factory=dict)

    def run(self) -> FramesManifest:
        """Complete the store and return its manifest.

        Raises:
            InputError: Frames would be lost, or the store does not fit on the disk; nothing was written.
            StoppedError: As `Work.make` and `DaskClient.make` do, or the folder cannot be written.
        """
        self._keep_whole()
        estimate = self._estimate()
        with sole_writer(self.work.out_dir):
            self._make(estimate)
            return self._finish()

    def preview(self) -> Preview:
        """Return what `run` would do, after the checks that it makes first; writes nothing."""
        self._keep_whole()
        estimate, missing = self._estimate(), self.missing
        return Preview(
            num_videos=len(self.rows),
            absent=self._rows_without_video(kept=False),
            num_kept=len(self.rows) - sum(shard.num_rows for shard in missing),
            num_shards=len(missing),
            redone=[s.name for s in missing if (self.work.out_dir / s.name).exists()],
            estimate=estimate,
        )

    @property
    def missing(self) -> list[Shard]:
        """The shards that must be made."""
        return [shard for shard in self.shards if shard.name not in self.records]

    def _keep_whole(self) -> None:
        """Find and count the shards that need not be made."""
        if self.overwrite:
            return
        for shard in self.shards:
            if (record := finished(self.work.out_dir, shard)) is not None:
                self.records[shard.name] = record
                self.budget.count(record.num_frames, record.num_bytes)
                self.progress.advance(shard.num_rows, note=f"{shard.name} is there already")
        if kept := self._rows_without_video(kept=True):
            self.reporter.warning(
                f"{len(kept)} videos are no longer there, first {kept[0].video}: their frames are kept"
            )
        check_nothing_lost(self.work.out_dir, self.missing, self.records)

    def _rows_without_video(self, *, kept: bool) -> list[SourceRow]:
        """Return the rows whose video does not exist and whose frames are, or are not, in the store."""
        videos = [video for record in self.records.values() for video in record.videos]
        stored = {video.id for video in videos if video.num_frames}
        jobs = [job for shard in self.shards for job in shard.jobs if not job.exists()]
        return [row for job in jobs for row in job.rows if (row.id in stored) == kept]

    def _estimate(self) -> Estimate | None:
        """Report and return what the missing shards take; None if no header tells."""
        config, missing = self.work.config, self.missing
        if config.thinning:
            self.reporter.info(f"frames kept: {config.thinning}")
        if self.dask is not None:
            self.reporter.info(self.dask.describe())
        estimate = estimate_work(
            [job for shard in missing for job in shard.jobs],
            program=self.work.program,
            settings=self.work.settings,
            workers=config.workers,
            probes=self.probes,
        )
        if estimate is not None:
            self._report(estimate, missing)
            most = estimate.num_bytes if config.max_gb is None else round(config.max_gb * GB)
            self.budget.check_estimate(min(estimate.num_bytes, most) - self._replaced_bytes())
        return estimate

    def _report(self, estimate: Estimate, missing: list[Shard]) -> None:
        config = self.work.config
        if self.dask is None:
            duration = f"{estimate.duration} with {config.workers} workers"
        else:
            duration = self.dask.duration(estimate, len(missing))
        self.reporter.info(
            f"{sum(shard.num_rows for shard in missing)} videos, about {estimate.frames} frames, "
            f"{estimate.num_bytes / GB:.2g} GB, {duration}, "
            f"at short side {config.short_side}, quality {config.quality}"
        )
        if config.max_gb is not None and estimate.num_bytes / GB > config.max_gb:
            self.reporter.warning(f"that is probably more than --max-gb {config.max_gb:g}")

    def _replaced_bytes(self) -> int:
        """Return the bytes of existing shards that will be replaced or deleted."""
        existing = (self.work.out_dir / FOLDER).glob("shard-*.h5")
        return sum(p.stat().st_size for p in existing if f"{FOLDER}/{p.name}" not in self.records)

    def _make(self, estimate: Estimate | None) -> None:
        """Make the missing shards, on this machine or on Dask workers."""
        self._clear([FOLDER] if self.overwrite else [])
        total = sum(shard.num_rows for shard in self.missing)
        frames_per_row = estimate.frames / total if estimate is not None and total else 0
        done = shown = 0.0  # rows

        def on_progress(num_rows: int, num_frames: int) -> None:
            nonlocal done, shown
            done += num_rows
            # Of long videos a part counts as soon as its frames come, but never as a whole video.
            begun = num_frames / frames_per_row if frames_per_row else 0.0
            before, shown = shown, max(shown, done, min(begun, done + 0.99, total))
            note = f"{self.budget.num_frames} frames, {self.budget.num_bytes / GB:.2f} GB"
            if not num_rows:  # a long video must not look like one that hangs
                note += f", {num_frames} decoded in this run"
            self.progress.advance(shown - before, note=note)

        if self.dask is None:
            records = self.work.make(
                self.missing, probes=self.probes, budget=self.budget, on_progress=on_progress
            )
        else:
            records = self.dask.make(
                self.work, self.missing, budget=self.budget, on_progress=on_progress
            )
        self.records.update((record.shard.path, record) for record in records)

    def _clear(self, names: list[str]) -> None:
        """Delete the manifest, the named files and folders, and shards that are not in the plan."""
        out_dir = self.work.out_dir
        try:
            remove_outputs(out_dir, names)
            remove_unplanned(out_dir, self.shards)
            (out_dir / FOLDER).mkdir(parents=True, exist_ok=True)  # Dask workers look for it
        except OSError as error:
            raise StoppedError(
                out_dir,
                f"cannot be cleared ({error})",
                fix="make it writable or choose another --out",
            ) from error

    def _warn_of_copies(self, records: Sequence[ShardRecord]) -> None:
        """Warn of files with the same content under several names; with `strict`, refuse them."""
        names = dict[str, object]()
        for shard, record in zip(self.shards, records, strict=True):
            for job, sha256 in zip(shard.jobs, record.sources, strict=True):
                if sha256 is not None:
                    names |= dict.fromkeys((row.id for row in job.rows), sha256)
        told = set(repeated_videos(self.rows, paths_of(self.rows)))
        lines = [line for line in repeated_videos(self.rows, names) if line not in told]
        _warn(self.reporter, lines, self.work.config, self.source.path)

    def _finish(self) -> FramesManifest:
        """Write the manifest and return it."""
        self._clear([])  # a worker that was killed leaves a temporary file
        records = [self.records[shard.name] for shard in self.shards]
        self._warn_of_copies(records)
        entries = {video.id: video for record in records for video in record.videos}
        status = Counter(video.status for video in entries.values())
        manifest = FramesManifest(
            versions=tool_versions(_PACKAGES) | {"ffmpeg": self.work.program.version},
            classes=class_names(self.rows),
            inputs=[self.source],
            outputs=[record.shard for record in records],
            config=self.work.config,
            summary=FramesSummary(
                num_videos=len(entries),
                ok=status["ok"],
                partial=status["partial"],
                failed=status["failed"],
                frames=sum(record.num_frames for record in records),
                num_bytes=sum(record.num_bytes for record in records),
            ),
            videos=[entries[row.id] for row in self.rows],
        )
        write_manifest(self.work.out_dir, manifest)
        return manifest
