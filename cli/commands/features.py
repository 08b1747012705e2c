"""``fvar features``: flags -> settings -> an HDF5 file -> summary."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import ConsoleReporter, print_summary
from cli.exit_codes import NOT_ALL_OK
from cli.options import Training, Videos, flags_of
from fvar.config import FeaturesConfig
from fvar.settings import parse


@flags_of(
    FeaturesConfig,
    {"Model": ["checkpoint", "allow_partial"], "Machine": ["device", "workers"]},
)
def features(
    train: Training,
    videos: Videos,
    *,
    out: Annotated[Path, typer.Option(help="HDF5 file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    **flags: Any,
) -> None:
    """Write what the network computes of videos before its classifier, for programs of your own.

    A vector for each cluster and one for the whole video, with frames and times.
    Exit code 1: a video could not be read, or frames are missing.

    [bold]Examples[/bold]

    fvar features runs/ucf/train ~/videos --out features.h5
    """
    settings = parse(FeaturesConfig, flags, source="command line")

    from fvar.stages import features as stage

    counts = stage.features(train, videos, out, settings, ConsoleReporter(), overwrite=overwrite)
    figures = {status: counts[status] for status in ("ok", "partial", "failed")}
    print_summary("features", {"videos": counts.total(), **figures}, wrote=out)
    if counts["ok"] < counts.total():
        raise typer.Exit(NOT_ALL_OK)
