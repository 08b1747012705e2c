"""``fvar toy``: flags -> settings -> the toy set -> summary."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.console import ConsoleReporter, print_summary
from cli.options import Seed, given
from fvar.config import ToyConfig, parse

_DEFAULTS = ToyConfig.model_validate({})


def toy(
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder to write the set into.")],
    layout: Annotated[
        Literal["scattered", "burst"],
        typer.Option(
            help="scattered: frames with a digit anywhere among black and still ones; "
            "burst: one run of them in a nearly still clip."
        ),
    ] = _DEFAULTS.layout,
    clips_per_class: Annotated[
        int, typer.Option(help="Training clips of each of the 4 classes.")
    ] = _DEFAULTS.clips_per_class,
    frames: Annotated[int, typer.Option(help="Frames of a clip.")] = _DEFAULTS.frames,
    size: Annotated[int, typer.Option(help="Side of the square picture, px.")] = _DEFAULTS.size,
    informative: Annotated[
        int, typer.Option(help="Frames of a clip that show a digit.")
    ] = _DEFAULTS.informative,
    step_px: Annotated[
        float, typer.Option(help="How far the digit moves from one of them to the next, px.")
    ] = _DEFAULTS.step_px,
    seed: Seed = None,
    digits: Annotated[
        Path | None,
        typer.Option(help="Folder of MNIST idx files, plain or .gz. Default: bundled digits."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a toy set in --out.")
    ] = False,
) -> None:
    """Make Move4MNIST, short videos of moving digits, to try everything on.

    The classes are left, right, up and down. A single frame does not tell
    them apart, and most frames show no digit: a method has to see every one.

    Writes OUT/videos/*.mp4 and OUT/toy.csv, with a third as many test clips
    as training clips, of other digits.

    [bold]Examples[/bold]

    fvar toy --out runs/toy

    fvar toy --out runs/burst --layout burst --frames 64 --informative 12

    fvar toy --out runs/mnist --digits ~/mnist --informative 16 --seed 1
    """
    from fvar.sources.toy.move4mnist import VIDEOS_NAME, make_toy, num_clips_per_class

    flags = given(
        layout=layout,
        clips_per_class=clips_per_class,
        frames=frames,
        size=size,
        informative=informative,
        step_px=step_px,
        seed=seed,
        digits=None if digits is None else str(digits.expanduser()),
    )
    config = parse(ToyConfig, flags, source="command line")
    source = make_toy(out.expanduser(), config, ConsoleReporter(), overwrite=overwrite)
    videos = source.parent / VIDEOS_NAME
    print_summary(
        "toy set",
        {
            "layout": f"{config.informative} of {config.frames} frames show a digit, {config.layout}",
            "train": f"{4 * num_clips_per_class(config, 'train')} clips",
            "test": f"{4 * num_clips_per_class(config, 'test')} clips",
            "digits": config.digits or "bundled",
        },
        wrote=source,
        then=shlex.join(["fvar", "extract", str(source), "--videos", str(videos)]),
    )
