"""``fvar extract``: flags -> settings -> the frame store -> summary."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import ConsoleReporter, print_summary
from cli.options import Out, Overwrite, given
from fvar.config import ExtractConfig, parse
from fvar.errors import ConfigError
from fvar.system import usable_processors

if TYPE_CHECKING:
    from fvar.stages.extract import Preview
    from fvar.store.manifest import FramesManifest

EXIT_NOT_ALL_OK = 1

_SHOWN = 5  # videos that are not ok; the manifest lists them all


def extract(
    source: Annotated[
        Path, typer.Argument(help="Source CSV with the columns id,video,label,split.")
    ],
    *,
    videos: Annotated[
        Path, typer.Option("--videos", help="Folder that the column `video` is relative to.")
    ],
    out: Out = None,
    short_side: Annotated[
        int | None,
        typer.Option(
            help="Shorter side of the stored pictures, px. Default: 256.", show_default=False
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            help="JPEG scale of ffmpeg: 1 best, 31 smallest. Default: 2.", show_default=False
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Keep only the frames shown at this many ticks a second.", show_default=False
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(help="Keep only every STRIDE-th frame.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Videos decoded at once. Default: one a processor that we may "
            "use; with --dask, one a task.",
            show_default=False,
        ),
    ] = None,
    max_gb: Annotated[
        float | None,
        typer.Option(help="Stop before the frames take more than this.", show_default=False),
    ] = None,
    reserve_gb: Annotated[
        float | None,
        typer.Option(
            help="Stop before less than this is free on the disk. Default: 1.", show_default=False
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Give a video up when no picture of it comes for so long. Default: 300.",
            show_default=False,
        ),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Make the shards on the workers of this Dask scheduler, tcp://HOST:8786.",
            show_default=False,
        ),
    ] = None,
    ffmpeg: Annotated[
        str | None,
        typer.Option(
            help="Another ffmpeg (5.1 or later) than the bundled one.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check and estimate; write nothing."),
    ] = False,
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Add to a complete run in --out what is new, redo what changed, retry what timed out.",
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Decode every frame of every video or folder of numbered pictures, and prove that none is missing.

    Frames become JPEG in HDF5 shards in OUT. A video is ok, partial or failed;
    OUT/manifest.json says which, and why. An interrupted extraction goes on
    when the same command is run again.

    Ends with code 1 when a video is partial or failed.

    [bold]Examples[/bold]

    fvar extract data_manifests/ucf101_split1.csv --videos ~/UCF-101

    fvar extract clips.csv --videos clips --out runs/clips/frames --short-side 128 --max-gb 20

    fvar extract clips.csv --videos clips --stride 4 --dry-run

    fvar extract clips.csv --videos /shared/clips --out /shared/frames --dask tcp://head:8786
    """
    if update and overwrite:
        raise ConfigError("--update", "excludes --overwrite", fix="pass one of the two")
    folder = out or Path("runs") / source.stem / "frames"
    flags = given(
        videos=str(videos),
        short_side=short_side,
        quality=quality,
        fps=fps,
        stride=stride,
        workers=_default_workers(dask) if workers is None else workers,
        max_gb=max_gb,
        reserve_gb=reserve_gb,
        time_limit_seconds=time_limit,
        dask=dask,
        ffmpeg=ffmpeg,
    )
    config = parse(ExtractConfig, flags, source="command line")
    reporter = ConsoleReporter()
    from fvar.stages import extract as stage

    what = stage.preview if dry_run else stage.extract
    found = what(source, folder, config, reporter, overwrite=overwrite, update=update)
    if isinstance(found, stage.Preview):
        _show_preview(found, reporter)
        return
    manifest = found
    _list_bad(manifest, reporter)
    _show(manifest, folder)
    if manifest.summary.ok < manifest.summary.num_videos:
        raise typer.Exit(EXIT_NOT_ALL_OK)


def _default_workers(dask: str | None) -> int:
    return usable_processors() if dask is None else 1


def _show_preview(preview: "Preview", reporter: ConsoleReporter) -> None:
    absent = [f"{row.id} is not there: {row.video}" for row in preview.absent]
    _list_some(absent, reporter, rest="more of its videos are not there")
    _list_some([f"{name} is made again" for name in preview.redone], reporter, rest="more")
    done, total = preview.num_kept, preview.num_videos
    reporter.info(f"{total - done} of {total} videos to extract, into {preview.num_shards} shards")
    reporter.info("nothing was written; leave out --dry-run to extract")
    if absent:
        raise typer.Exit(EXIT_NOT_ALL_OK)


def _list_some(lines: list[str], reporter: ConsoleReporter, *, rest: str) -> None:
    for line in lines[:_SHOWN]:
        reporter.warning(line)
    if len(lines) > _SHOWN:
        reporter.warning(f"... and {len(lines) - _SHOWN} {rest}")


def _list_bad(manifest: "FramesManifest", reporter: ConsoleReporter) -> None:
    bad = [video for video in manifest.videos if video.status != "ok"]
    said = [f"{video.id} is {video.status}: {video.reason}" for video in bad]
    noted = [f"{video.id}: {video.note}" for video in manifest.videos if video.note]
    for lines in (said, noted):
        _list_some(lines, reporter, rest="more; manifest.json lists them all")


def _show(manifest: "FramesManifest", folder: Path) -> None:
    summary = manifest.summary
    thinning = manifest.config.thinning
    decoded = sum(video.decoded_frames or 0 for video in manifest.videos)
    print_summary(
        "extract",
        {
            "videos": summary.num_videos,
            "ok": summary.ok,
            "partial": summary.partial,
            "failed": summary.failed,
            "frames": f"{summary.frames} of {decoded}: {thinning}" if thinning else summary.frames,
            "size": f"{summary.num_bytes / 1e9:.3g} GB",
            "classes": len(manifest.classes),
        },
        wrote=folder,
        then=f"fvar train {shlex.quote(str(folder))}",
    )
