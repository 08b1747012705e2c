"""``fvar eval``: flags -> settings -> evaluation -> summary."""

from pathlib import Path
from typing import Annotated, Any

from cli.console import print_summary, reporter_of_this_process
from cli.options import Frames, Overwrite, Training, flags_of, free_out, out_option
from fvar.config import EvalConfig
from fvar.settings import parse
from fvar.store.files import inside


@flags_of(
    EvalConfig,
    {
        "Data": ["split", "allow_partial", "skip_incomplete"],
        "Model": ["checkpoint"],
        "Machine": ["device", "workers", "cache", "cache_gb"],
    },
)
def evaluate(
    train: Training,
    out: Annotated[Path | None, out_option("eval-SPLIT in the training")] = None,
    frames: Frames = None,
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Evaluate a training on all frames of every video of a split, clustered as in training.

    [bold]Examples[/bold]

    fvar eval runs/ucf/train

    fvar eval runs/ucf/train --split val --checkpoint last
    """
    settings = parse(EvalConfig, flags, source="command line")
    out_dir = out or inside(train, f"eval-{settings.split}")

    from fvar.stages import evaluate as stage

    manifest = stage.evaluate(
        train, out_dir, settings, reporter_of_this_process(), frames=frames, overwrite=overwrite
    )
    summary = manifest.summary
    figures: dict[str, object] = {
        "evaluated": f"{summary.evaluated} / {summary.expected} {summary.split} videos",
        **({"without a label": summary.unlabelled} if summary.unlabelled else {}),
        "frames seen": summary.frames,
        "top-1": f"{summary.top1:.1%}",
        **({} if summary.top5 is None else {"top-5": f"{summary.top5:.1%}"}),
        "mean class accuracy": f"{summary.mean_class_accuracy:.1%}",
        "how": f"{summary.clustering} to {summary.clusters}, checkpoint {summary.checkpoint}, 1 central crop",
    }
    has_clusters = summary.clustering not in ("uniform", "none")
    clusters = inside(train, f"clusters-{settings.split}")
    inspect = ["fvar", "inspect-clusters", train, *_same(settings, frames), *free_out(clusters)]
    print_summary(
        "eval",
        figures,
        wrote=out_dir,
        then=inspect if has_clusters else ["fvar", "verify", out_dir],
    )


def _same(settings: EvalConfig, frames: Path | None) -> list[object]:
    """Return the flags with which another command reads the same videos and checkpoint."""
    flags: list[object] = ["--split", settings.split]
    if frames is not None:
        flags += ["--frames", frames]
    if settings.checkpoint is not None:
        flags += ["--checkpoint", settings.checkpoint]
    if settings.allow_partial:
        flags.append("--allow-partial")
    if settings.skip_incomplete:
        flags.append("--skip-incomplete")
    return flags
