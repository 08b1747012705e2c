"""From a source CSV to a frame store: every frame of every video as JPEG in HDF5 shards."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fvar.config import ExtractConfig
from fvar.extraction.budget import Budget
from fvar.extraction.estimate import Estimate
from fvar.extraction.on_dask.client import Cluster, connect
from fvar.extraction.probe.pool import ProbePool
from fvar.extraction.run import Extraction, plan_extraction, with_frames
from fvar.extraction.shards import Shard, ShardRecord
from fvar.processes import ChildProcesses
from fvar.reporting import Progress, Reporter
from fvar.sources.source_csv import SourceRow
from fvar.store.files import sole_writer
from fvar.store.manifest import FramesManifest


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
        InputError: The CSV, the videos' folder, ffmpeg, `out_dir`, the disk's room or the cluster is not fit,
            or another process extracts into `out_dir`; nothing was written.
        StoppedError: The disk is full, the store would outgrow ``max_gb``, or a cluster failed; finished
            shards are kept.
    """
    with ProbePool(ChildProcesses()) as asked:
        run = plan_extraction(source_csv, out_dir, config, overwrite=overwrite, update=update)
        with (
            _begun(run, "extract", asked, reporter, overwrite=overwrite) as begun,
            sole_writer(out_dir),
        ):
            run.clear(overwrite=overwrite)
            made = run.make(begun.missing, begun.cluster, asked, begun.budget, begun.progress)
            records = begun.kept | {record.shard.path: record for record in made}
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
    with ProbePool(ChildProcesses()) as asked:
        run = plan_extraction(source_csv, out_dir, config, overwrite=overwrite, update=update)
        with _begun(run, "check", asked, reporter, overwrite=overwrite) as begun:
            return Preview(
                num_videos=len(run.rows),
                absent=run.absent(video.id for video in with_frames(begun.kept)),
                num_kept=len(run.rows) - sum(shard.num_rows for shard in begun.missing),
                num_shards=len(begun.missing),
                redone=[shard.name for shard in begun.missing if (out_dir / shard.name).exists()],
                estimate=begun.estimate,
            )


@dataclass(frozen=True)
class _Begun:
    """An extraction of which all is known that can be before anything is written."""

    cluster: Cluster | None
    progress: Progress
    budget: Budget
    kept: dict[str, ShardRecord]
    missing: list[Shard]
    estimate: Estimate | None


@contextmanager
def _begun(
    run: Extraction, what: str, probes: ProbePool, reporter: Reporter, *, overwrite: bool
) -> Iterator[_Begun]:
    config, out_dir = run.work.config, run.work.out_dir
    with (
        _cluster(config, reporter) as cluster,
        reporter.progress(what, total=len(run.rows), unit="videos") as progress,
    ):
        budget = Budget(out_dir, max_gb=config.max_gb, reserve_gb=config.reserve_gb)
        kept = run.kept(progress, budget, reporter, overwrite=overwrite)
        missing = run.missing(kept, overwrite=overwrite)
        estimate = run.foretell(missing, cluster, probes, reporter, freed=run.freed(kept))
        yield _Begun(cluster, progress, budget, kept, missing, estimate)


@contextmanager
def _cluster(config: ExtractConfig, reporter: Reporter) -> Iterator[Cluster | None]:
    if config.dask is None:
        yield None
        return
    with connect(config.dask, reporter) as cluster:
        yield cluster
