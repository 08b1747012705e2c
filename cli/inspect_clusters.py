"""``fvar inspect-clusters``: flags -> settings -> inspection -> summary."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import print_summary, reporter_of_this_process
from cli.options import (
    AllowPartial,
    Checkpoint,
    Device,
    Frames,
    Out,
    Overwrite,
    SplitOption,
    Workers,
    beside,
    given,
)
from fvar.config import InspectConfig, parse


def inspect_clusters(
    train: Annotated[Path, typer.Argument(help="Folder that `fvar train` wrote.")],
    split: SplitOption = "test",
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="Videos, evenly over the split; 0: all.")
    ] = 50,
    out: Out = None,
    checkpoint: Checkpoint = None,
    frames: Frames = None,
    device: Device = None,
    workers: Workers = None,
    allow_partial: AllowPartial = None,
    overwrite: Overwrite = False,
) -> None:
    """Show which frames a training averages: a page with a filmstrip of each video, and tables.

    Example: fvar inspect-clusters runs/ucf/train --split test --limit 50 --out runs/ucf/clusters
    """
    flags = given(
        split=split,
        checkpoint=checkpoint,
        device=device,
        workers=workers,
        allow_partial=allow_partial,
    )
    settings = parse(InspectConfig, flags | {"limit": limit or None}, source="command line")
    out_dir = out or beside(train, "clusters")

    from fvar.stages import inspect_clusters as stage

    manifest = stage.inspect_clusters(
        train, out_dir, settings, reporter_of_this_process(), frames=frames, overwrite=overwrite
    )
    summary = manifest.summary
    figures: dict[str, object] = {
        "videos": f"{summary.num_videos} of {summary.available} in split {summary.split}",
        "frames": f"{summary.frames}, each in one of {summary.num_clusters} clusters",
        "right": f"{summary.right} / {summary.num_videos}",
        "how": f"{summary.clustering} to {summary.clusters}, checkpoint {summary.checkpoint}",
    }
    print_summary(
        "inspect-clusters",
        figures,
        wrote=out_dir,
        then=f"open {out_dir / 'index.html'} in a browser",
    )
