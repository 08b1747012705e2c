"""``fvar extract``: flags -> settings -> the frame store -> summary."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import ConsoleReporter, print_summary, warn_of_first
from cli.exit_codes import NOT_ALL_OK
from cli.options import Overwrite, flags_of, free_out, out_option
from fvar.config import ExtractConfig
from fvar.errors import ConfigError
from fvar.settings import parse
from fvar.store.files import beside, frames_folder

if TYPE_CHECKING:
    from fvar.stages.extract import Preview
    from fvar.store.manifest import FramesManifest


@flags_of(
    ExtractConfig,
    {
        "Videos": [
            "videos",
            "time_limit_seconds",
            "keep_going",
            "video_stream",
            "strict",
            "follow_links",
            "ffmpeg",
        ],
        "Frames": ["short_side", "quality", "fps", "stride", "stretch"],
        "Machine": ["workers", "dask", "max_gb", "reserve_gb"],
    },
)
def extract(
    source: Annotated[
        Path, typer.Argument(help="CSV with the columns id,video,label,split; .csv or .csv.gz.")
    ],
    *,
    out: Annotated[Path | None, out_option("runs/NAME_OF_THE_CSV/frames")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and estimate; write nothing.")
    ] = False,
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Change a complete run in --out: add new rows, redo changed ones, "
            "retry videos that timed out.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Store every frame of every video or folder of numbered pictures, and prove that none is missing.

    Frames become JPEG in HDF5 shards in OUT. A video is ok, partial or failed;
    OUT/manifest.json says which, and why. An interrupted extraction goes on
    when the same command is run again.

    Ends with code 1 when a video is partial or failed.

    [bold]Examples[/bold]

    fvar extract data_manifests/ucf101_split1.csv.gz --videos ~/UCF-101

    fvar extract clips.csv --videos clips --short-side 128 --max-gb 20

    fvar extract clips.csv --videos clips --stride 4 --dry-run

    fvar extract clips.csv --videos /data/clips --dask tcp://head:8786
    """
    if update and overwrite:
        raise ConfigError("--update", "excludes --overwrite", fix="pass one of the two")
    folder = out or frames_folder(source)
    config = parse(ExtractConfig, flags, source="command line")
    reporter = ConsoleReporter()

    from fvar.stages import extract as stage

    command = stage.preview if dry_run else stage.extract
    result = command(source, folder, config, reporter, overwrite=overwrite, update=update)
    if isinstance(result, stage.Preview):
        _end_preview(result, reporter)
    else:
        _end(result, folder, reporter)


def _end_preview(preview: "Preview", reporter: ConsoleReporter) -> None:
    absent = [f"{row.id} is not there: {row.video}" for row in preview.absent]
    warn_of_first(reporter, absent, rest="more videos are not there")
    again = [f"{name} is made again" for name in preview.redone]
    warn_of_first(reporter, again, rest="more shards are made again")
    left, total = preview.num_videos - preview.num_kept, preview.num_videos
    reporter.info(f"{left} of {total} videos to extract, into {preview.num_shards} shards")
    reporter.info("nothing was written; leave out --dry-run to extract")
    if absent:
        raise typer.Exit(NOT_ALL_OK)


def _end(manifest: "FramesManifest", folder: Path, reporter: ConsoleReporter) -> None:
    bad = [f"{v.id} is {v.status}: {v.reason}" for v in manifest.videos if v.status != "ok"]
    notes = [f"{video.id}: {video.note}" for video in manifest.videos if video.note]
    for lines in (bad, notes):
        warn_of_first(reporter, lines, rest="more; manifest.json lists them all")
    summary, thinning = manifest.summary, manifest.config.thinning
    decoded = sum(video.decoded_frames or 0 for video in manifest.videos)
    figures = {
        "videos": summary.num_videos,
        "ok": summary.ok,
        "partial": summary.partial,
        "failed": summary.failed,
        "frames": f"{summary.frames} of {decoded}: {thinning}" if thinning else summary.frames,
        "size": f"{summary.num_bytes / 1e9:.3g} GB",
        "classes": len(manifest.classes),
    }
    if not bad:
        train = ["fvar", "train", folder, *free_out(beside(folder, "train"))]
        can_train = len({v.label for v in manifest.videos if v.split == "train"}) > 1
        hint = (
            None
            if can_train
            else (
                "with fewer than two classes in split train, these frames serve to evaluate a training: "
                "fvar eval TRAINING --frames FRAMES"
            )
        )
        print_summary(
            "extract", figures, wrote=folder, then=train if can_train else None, hint=hint
        )
        return
    hint = (
        "fix the videos that are not ok, or remove their rows, and run the same command with --update; "
        "or use the partial ones with `fvar train --allow-partial`, or leave them out with --skip-incomplete"
    )
    print_summary("extract", figures, wrote=folder, hint=hint)
    raise typer.Exit(NOT_ALL_OK)
