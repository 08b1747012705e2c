"""``fvar inspect-clusters``: flags -> settings -> inspection -> summary."""

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import print_summary, print_timelines, reporter_of_this_process
from cli.options import Frames, Overwrite, Trainings, flags_of, out_option
from fvar.config import InspectConfig
from fvar.reporting import SilentReporter
from fvar.settings import parse
from fvar.store.files import inside

if TYPE_CHECKING:
    from fvar.store.clusters.video_clusters import VideoClusters

_SHOWN = 12  # timelines


@flags_of(
    InspectConfig,
    {
        "Data": ["split", "limit", "allow_partial", "skip_incomplete"],
        "Page": ["nearest", "segments", "tolerance", "frames_csv"],
        "Model": ["checkpoint"],
        "Machine": ["device", "workers", "cache", "cache_gb"],
    },
)
def inspect_clusters(
    trains: Trainings,
    out: Annotated[Path | None, out_option("clusters-SPLIT in the first training")] = None,
    frames: Frames = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON array instead of the timelines.")
    ] = False,
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Show which frames a training averages: a page with a filmstrip of each video, and tables.

    Several trainings are shown side by side. An inspection that was interrupted goes on when it is run again.

    [bold]Examples[/bold]

    fvar inspect-clusters runs/ucf/train

    fvar inspect-clusters runs/ucf/train --limit 0 --nearest --out runs/ucf/all-clusters

    fvar inspect-clusters runs/ucf/train runs/ucf-even/train --segments segments.csv
    """
    settings = parse(InspectConfig, flags, source="command line")
    out_dir = out or inside(trains[0], f"clusters-{settings.split}")

    from fvar.stages import inspect_clusters as stage
    from fvar.store.clusters.clusters_file import read_clusters

    reporter = SilentReporter() if as_json else reporter_of_this_process()
    manifest = stage.inspect_clusters(
        trains, out_dir, settings, reporter, frames=frames, overwrite=overwrite
    )
    if as_json:
        typer.echo(json.dumps([_row(video) for video in read_clusters(out_dir / stage.H5)]))
        return
    print_timelines(_timeline(video) for video in islice(read_clusters(out_dir / stage.H5), _SHOWN))
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


def _timeline(video: "VideoClusters") -> tuple[str, str, list[float]]:
    what = f"{video.predicted}, {video.verdict}"
    return video.id, what, (video.sizes / video.num_frames).tolist()


def _row(video: "VideoClusters") -> dict[str, object]:
    scores = video.scores
    return {
        "id": video.id,
        "label": video.label or None,
        "predicted": video.predicted,
        "confidence": None if scores is None else float(scores.max()),
        "frames": video.num_frames,
        "clusters": [
            {"start_frame": a, "stop_frame": b, "start_seconds": s, "stop_seconds": e}
            for a, b, s, e in zip(
                video.starts.tolist(),
                video.stops.tolist(),
                video.start_seconds.tolist(),
                video.stop_seconds.tolist(),
                strict=True,
            )
        ],
    }
