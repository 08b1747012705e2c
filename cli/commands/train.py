"""``fvar train``: flags -> settings -> training -> summary."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import print_summary, reporter_of_this_process
from cli.options import Overwrite, flags_of, free_out, out_option
from fvar.config import TrainConfig
from fvar.errors import ConfigError
from fvar.names import recipe_names
from fvar.recipes.resolve import train_config
from fvar.store.files import beside, inside

if TYPE_CHECKING:
    from fvar.store.manifest import CheckpointManifest


@flags_of(
    TrainConfig,
    {
        "Data": ["size", "allow_partial", "skip_incomplete"],
        "Model": ["backbone", "weights", "freeze_stem"],
        "Clustering": ["clustering", "clusters", "stage"],
        "Optimization": ["epochs", "batch_size", "frames_per_batch", "lr", "seed"],
        "Machine": ["engine", "device", "workers", "cache", "cache_gb"],
    },
)
def train(
    frames: Annotated[
        Path | None, typer.Argument(help="Folder that `fvar extract` wrote.", show_default=False)
    ] = None,
    out: Annotated[Path | None, out_option("train, beside the frames")] = None,
    recipe: Annotated[
        str | None, typer.Option(help=f"Published settings: {', '.join(recipe_names())}.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings: those below and others.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on after the last complete epoch of this training; no other flag is needed."
        ),
    ] = None,
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Train on every frame of the videos that `fvar extract` stored.

    A flag overrides the file of --config, the file overrides --recipe, the
    recipe overrides the defaults shown below.

    [bold]Examples[/bold]

    fvar train runs/ucf/frames --recipe ucf101

    fvar train runs/ucf/frames --clusters 16 --out runs/ucf/train-16

    fvar train --resume runs/ucf/train-16
    """
    reporter = reporter_of_this_process()
    if resume is not None:
        _refuse_with_resume(out=out, recipe=recipe, config=config, overwrite=overwrite or None)

        from fvar.stages import train as stage

        out_dir, manifest = resume, stage.resume_training(resume, flags, reporter, frames=frames)
    else:
        if frames is None:
            raise ConfigError(
                "FRAMES", "is missing", fix="give the folder that `fvar extract` wrote"
            )
        settings = train_config(flags, recipe=recipe, config_file=config)
        out_dir = out or beside(frames, "train")

        from fvar.stages import train as stage

        manifest = stage.train(frames, out_dir, settings, reporter, overwrite=overwrite)
    _end(manifest, out_dir)


def _refuse_with_resume(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise ConfigError(
                f"--{name}",
                "excludes --resume, which has a folder and settings",
                fix="leave it out",
            )


def _end(manifest: "CheckpointManifest", out_dir: Path) -> None:
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
    print_summary("train", figures, wrote=out_dir, then=_next(manifest, out_dir))


def _next(manifest: "CheckpointManifest", out_dir: Path) -> list[object]:
    """Return the evaluation of the first split that can be evaluated, of test, val and train."""
    from fvar.store.manifest import FramesManifest
    from fvar.store.manifest_file import read_manifest

    videos = read_manifest(out_dir / manifest.inputs[0].path, FramesManifest).videos
    usable = {"ok", "partial"} if manifest.config.allow_partial else {"ok"}
    there = {v.split for v in videos if v.status in usable}
    if not manifest.config.skip_incomplete:
        there -= {v.split for v in videos if v.status not in usable}
    split = next(split for split in ("test", "val", "train") if split in there)
    partial = ["--allow-partial"] if manifest.config.allow_partial else []
    partial += ["--skip-incomplete"] if manifest.config.skip_incomplete else []
    return [
        *("fvar", "eval", out_dir, "--split", split, *partial),
        *free_out(inside(out_dir, f"eval-{split}")),
    ]
