"""``fvar inspect-clusters``: flags -> settings -> inspection -> summary."""

from pathlib import Path
from typing import Annotated, Any

from cli.console import print_summary, reporter_of_this_process
from cli.options import Frames, Overwrite, Training, flags_of, out_option
from fvar.config import InspectConfig
from fvar.settings import parse
from fvar.store.files import inside


@flags_of(
    InspectConfig,
    {
        "Data": ["split", "limit", "nearest", "allow_partial", "skip_incomplete"],
        "Model": ["checkpoint"],
        "Machine": ["device", "workers", "cache", "cache_gb"],
    },
)
def inspect_clusters(
    train: Training,
    out: Annotated[Path | None, out_option("clusters-SPLIT in the training")] = None,
    frames: Frames = None,
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Show which frames a training averages: a page with a filmstrip of each video, and tables.

    [bold]Examples[/bold]

    fvar inspect-clusters runs/ucf/train

    fvar inspect-clusters runs/ucf/train --limit 0 --nearest --out runs/ucf/all-clusters
    """
    settings = parse(InspectConfig, flags, source="command line")
    out_dir = out or inside(train, f"clusters-{settings.split}")

    from fvar.stages import inspect_clusters as stage

    manifest = stage.inspect_clusters(
        train, out_dir, settings, reporter_of_this_process(), frames=frames, overwrite=overwrite
    )
    summary = manifest.summary
    figures: dict[str, object] = {
        "videos": f"{summary.num_videos} of {summary.available} in split {summary.split}",
        "frames": f"{summary.frames}, each in one of {summary.num_clusters} clusters",
        "right": f"{summary.right} / {summary.num_videos - summary.unlabelled}",
        "how": f"{summary.clustering} to {summary.clusters}, checkpoint {summary.checkpoint}",
    }
    print_summary(
        "inspect-clusters",
        figures,
        wrote=out_dir,
        then=["fvar", "verify", out_dir],
        hint=f"open {out_dir / 'index.html'} in a browser",
    )
