"""``fvar train``: flags -> settings -> training -> summary."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cli.console import print_summary, reporter_of_this_process
from cli.options import AllowPartial, Device, Out, Overwrite, Seed, Workers, beside, given
from fvar.config import (
    EngineName,
    backbone_names,
    clustering_names,
    recipe_names,
    train_config,
)


def train(
    frames: Annotated[Path, typer.Argument(help="Folder that `fvar extract` wrote.")],
    out: Out = None,
    recipe: Annotated[
        str | None, typer.Option(help=f"Published settings: {', '.join(recipe_names())}.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings, over the recipe's.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help=f"Network: {', '.join(backbone_names())}.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Starting weights: imagenet, none, or a state dict's file.")
    ] = None,
    clustering: Annotated[
        str | None,
        typer.Option(
            help=f"How frames are grouped: {', '.join(clustering_names())}; uniform samples frames "
            "instead, none takes each one alone."
        ),
    ] = None,
    clusters: Annotated[
        int | None, typer.Option(help="Clusters a video is averaged down to.")
    ] = None,
    stage: Annotated[int | None, typer.Option(help="Cluster after residual stage 1..4.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of the square the network sees, px.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training videos.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Videos in one step, over all processes.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Rate at this batch size; never rescaled.")
    ] = None,
    freeze_stem: Annotated[
        bool | None,
        typer.Option(
            "--freeze-stem/--train-stem",
            help="Whether the layers before the clustering learn too. Default: not where pretrained.",
            show_default=False,
        ),
    ] = None,
    frames_per_batch: Annotated[
        int | None, typer.Option(help="Frames in one step at most; a longer video steps alone.")
    ] = None,
    engine: Annotated[
        EngineName | None, typer.Option(help="chunked: memory does not grow with the video.")
    ] = None,
    device: Device = None,
    workers: Workers = None,
    seed: Seed = None,
    allow_partial: AllowPartial = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last whole epoch in --out.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Train on every frame of the videos that `fvar extract` stored.

    Settings come from the defaults, then --recipe, then --config, then the flags.

    Example: fvar train runs/ucf/frames --recipe ucf101 --out runs/ucf/train
    """
    flags = given(
        backbone=backbone,
        weights=weights,
        clustering=clustering,
        clusters=clusters,
        stage=stage,
        size=size,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        freeze_stem=freeze_stem,
        frames_per_batch=frames_per_batch,
        engine=engine,
        device=device,
        workers=workers,
        seed=seed,
        allow_partial=allow_partial,
    )
    settings = train_config(flags, recipe=recipe, config_file=config)
    out_dir = out or beside(frames, "train")

    from fvar.stages import train as stage_

    manifest = stage_.train(
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
        "train", figures, wrote=out_dir, then=f"fvar eval {shlex.quote(str(out_dir))} --split test"
    )
