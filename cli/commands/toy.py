"""``fvar toy``: flags -> settings -> the toy set -> summary."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import ConsoleReporter, print_summary
from cli.options import Overwrite, flags_of, free_out
from fvar.config import ToyConfig
from fvar.settings import parse
from fvar.store.files import frames_folder


@flags_of(
    ToyConfig,
    {
        "Clips": ["clips_per_class", "frames", "size", "layout", "noise"],
        "Digits": ["informative", "step_px", "digits", "seed"],
    },
)
def toy(
    *,
    out: Annotated[Path, typer.Option(help="Folder of the toy set.")],
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Make Move4MNIST, short videos of moving digits, to try everything on.

    The classes are left, right, up and down. A single frame does not show the
    class, and most frames show no digit: a method has to see every frame.

    Writes OUT/videos/*.mp4 and OUT/toy.csv.

    [bold]Examples[/bold]

    fvar toy --out runs/toy

    fvar toy --out runs/burst --layout burst --frames 64 --informative 12

    fvar toy --out runs/mnist --digits ~/mnist --informative 16 --seed 1
    """
    from fvar.sources.toy.move4mnist import VIDEOS_NAME, make_toy, toy_clips

    config = parse(ToyConfig, flags, source="command line")
    source = make_toy(out.expanduser(), config, ConsoleReporter(), overwrite=overwrite)
    videos = source.parent / VIDEOS_NAME
    counts = Counter(clip.split for clip in toy_clips(config))
    figures = {
        "layout": f"{config.informative} of {config.frames} frames show a digit, {config.layout}",
        "train": f"{counts['train']} clips",
        "test": f"{counts['test']} clips",
        "digits": config.digits or "bundled",
    }
    print_summary(
        "toy set",
        figures,
        wrote=source,
        then=["fvar", "extract", source, "--videos", videos, *free_out(frames_folder(source))],
    )
