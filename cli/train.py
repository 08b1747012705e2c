"""``fvar train``: flags -> settings -> training -> summary."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import print_summary, reporter_of_this_process
from cli.options import Overwrite, beside, flags_of, out_option
from fvar.config import TrainConfig
from fvar.names import recipe_names
from fvar.recipes.resolve import train_config


@flags_of(
    TrainConfig,
    {
        "Data": ["size", "allow_partial"],
        "Model": ["backbone", "weights", "freeze_stem"],
        "Clustering": ["clustering", "clusters", "stage"],
        "Optimization": ["epochs", "batch_size", "frames_per_batch", "lr", "seed"],
        "Machine": ["engine", "device", "workers", "cache", "cache_gb"],
    },
)
def train(
    frames: Annotated[Path, typer.Argument(help="Folder that `fvar extract` wrote.")],
    out: Annotated[Path | None, out_option("train, beside the frames")] = None,
    recipe: Annotated[
        str | None, typer.Option(help=f"Published settings: {', '.join(recipe_names())}.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings: those below and others.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last complete epoch in --out.")
    ] = False,
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Train on every frame of the videos that `fvar extract` stored.

    A flag overrides the file of --config, the file overrides --recipe, the
    recipe overrides the defaults shown below.

    [bold]Examples[/bold]

    fvar train runs/ucf/frames --recipe ucf101

    fvar train runs/ucf/frames --clusters 16 --out runs/ucf/train-16
    """
    settings = train_config(flags, recipe=recipe, config_file=config)
    out_dir = out or beside(frames, "train")

    from fvar.stages import train as stage

    manifest = stage.train(
        frames, out_dir, settings, reporter_of_this_process(), resume=resume, overwrite=overwrite
    )
    summary = manifest.summary
    figures: dict[str, object] = {
        "videos": summary.num_videos,
        "frames": summary.frames,
        "epochs": summary.epochs,
        "train loss": f"{summary.train_loss:.4f}",
        "train top-1": f"{summary.train_top1:.1%}",
        "seconds": f"{summary.seconds:.0f}",
    }
    if summary.best_val_top1 is not None:
        figures["best val top-1"] = f"{summary.best_val_top1:.1%} (epoch {summary.best_epoch})"
    print_summary(
        "train", figures, wrote=out_dir, then=["fvar", "eval", out_dir, "--split", "test"]
    )
