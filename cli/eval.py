"""``fvar eval``: flags -> settings -> evaluation -> summary."""

import shlex
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
from fvar.config import EvalConfig, parse


def evaluate(
    train: Annotated[Path, typer.Argument(help="Folder that `fvar train` wrote.")],
    split: SplitOption = "test",
    out: Out = None,
    checkpoint: Checkpoint = None,
    frames: Frames = None,
    device: Device = None,
    workers: Workers = None,
    allow_partial: AllowPartial = None,
    overwrite: Overwrite = False,
) -> None:
    """Evaluate a training on all frames of every video of a split, clustered as in training.

    Example: fvar eval runs/ucf/train --split test --out runs/ucf/eval
    """
    flags = given(
        split=split,
        checkpoint=checkpoint,
        device=device,
        workers=workers,
        allow_partial=allow_partial,
    )
    settings = parse(EvalConfig, flags, source="command line")
    out_dir = out or beside(train, "eval")

    from fvar.stages import evaluate as stage

    manifest = stage.evaluate(
        train, out_dir, settings, reporter_of_this_process(), frames=frames, overwrite=overwrite
    )
    summary = manifest.summary
    figures: dict[str, object] = {
        "evaluated": f"{summary.evaluated} / {summary.expected} {summary.split} videos",
        "frames seen": summary.frames,
        "top-1": f"{summary.top1:.1%}",
        "top-5": "n/a under 6 classes" if summary.top5 is None else f"{summary.top5:.1%}",
        "mean class accuracy": f"{summary.mean_class_accuracy:.1%}",
        "how": f"{summary.clustering} to {summary.clusters}, checkpoint {summary.checkpoint}, 1 central crop",
    }
    print_summary(
        "eval",
        figures,
        wrote=out_dir,
        then=f"fvar inspect-clusters {shlex.quote(str(train))} --split {summary.split}",
    )
