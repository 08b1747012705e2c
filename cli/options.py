"""Flags that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fvar.config import DeviceName, Split

Out = Annotated[
    Path | None,
    typer.Option("--out", help="Output folder. Default: beside the input.", show_default=False),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a complete run in --out.")]
Device = Annotated[
    DeviceName | None, typer.Option("--device", help="auto takes a GPU when there is one.")
]
Workers = Annotated[int | None, typer.Option("--workers", help="Threads that read ahead.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Same seed, same numbers.")]
SplitOption = Annotated[Split, typer.Option("--split", help="Which videos of the source CSV.")]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        "--checkpoint", help="best, last or a file. Default: best where val chose one, else last."
    ),
]
Frames = Annotated[
    Path | None,
    typer.Option(
        "--frames", help="Another extraction than the one trained on.", show_default=False
    ),
]
AllowPartial = Annotated[
    bool | None,
    typer.Option("--allow-partial", help="Use videos that extraction found incomplete."),
]


def given(**flags: Any) -> dict[str, Any]:
    """Return the flags that were typed: a flag left out is None and takes the config's default."""
    return {name: value for name, value in flags.items() if value is not None}


def beside(path: Path, name: str) -> Path:
    """Return the sibling folder `name` of a stage's folder, given that folder or its manifest."""
    folder = path.parent if path.name == "manifest.json" else path
    return folder.resolve().parent / name if folder.name in ("", "..") else folder.parent / name
