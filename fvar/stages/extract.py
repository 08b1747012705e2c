"""The stage that turns a source CSV into a frame store: every frame of every video as JPEG in HDF5 shards."""

from pathlib import Path

from fvar.config import ExtractConfig
from fvar.extraction.estimate import Preview
from fvar.extraction.run import open_extraction
from fvar.reporting import Reporter
from fvar.store.manifest import FramesManifest

__all__ = ["Preview", "extract", "preview"]


def extract(
    source_csv: Path,
    out_dir: Path,
    config: ExtractConfig,
    reporter: Reporter,
    *,
    overwrite: bool = False,
    update: bool = False,
) -> FramesManifest:
    """Decode every video of `source_csv` into `out_dir` and return the manifest of the store.

    An interrupted extraction continues where it stopped: a shard that is whole and was made from the same
    rows, settings and video files is kept. `update` continues a complete run in the same way: it keeps what
    is unchanged, adds and redoes the rest.

    Raises:
        InputError: The CSV, the folder of the videos, ffmpeg, `out_dir`, the free space of the disk or the
            Dask scheduler is not usable, or another process extracts into `out_dir`; nothing was written.
        StoppedError: The disk is full, the store would outgrow ``max_gb``, or Dask failed; finished shards
            are kept.
    """
    with open_extraction(
        source_csv, out_dir, config, reporter, label="extract", overwrite=overwrite, update=update
    ) as extraction:
        return extraction.run()


def preview(
    source_csv: Path,
    out_dir: Path,
    config: ExtractConfig,
    reporter: Reporter,
    *,
    overwrite: bool = False,
    update: bool = False,
) -> Preview:
    """Make all checks that `extract` makes before it begins, and return what it would do; writes nothing.

    Raises:
        InputError: As `extract` does.
    """
    with open_extraction(
        source_csv, out_dir, config, reporter, label="check", overwrite=overwrite, update=update
    ) as extraction:
        return extraction.preview()
