"""``fvar manifest``: flags -> a data set's official lists -> source CSV -> summary."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cli.console import ConsoleReporter, print_summary
from fvar.config import Split
from fvar.sources.official import DatasetName, find_videos, read_official, write_official
from fvar.sources.source_csv import SourceRow

_MISSING_SHOWN = 5


def manifest(
    dataset: Annotated[
        DatasetName,
        typer.Argument(help="Whose official lists.", show_default=False),
    ],
    *,
    annotations: Annotated[Path, typer.Option(help="Folder of the official lists.")],
    out: Annotated[Path, typer.Option("--out", help="Source CSV to write.")],
    split_number: Annotated[
        int, typer.Option(help="ucf101, hmdb51: 1 to 3. breakfast: 1 to 4 for s1 to s4. Others: 1.")
    ] = 1,
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the videos: those missing are listed.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out.")] = False,
) -> None:
    """Write the source CSV of a public data set from its official lists.

    breakfast follows the set's own splits by person, s1 to s4;
    breakfast_persons trains on the first 44 persons, tests on the last 8.

    Something-Something's validation list becomes the split test: results are
    reported on it, and val would let training choose its checkpoint by it.

    With --videos, missing files are listed and the exit code is 1; the CSV is
    written all the same.

    [bold]Examples[/bold]

    fvar manifest ucf101 --annotations ucfTrainTestlist --out ucf101_split1.csv

    fvar manifest breakfast --annotations lists --split-number 4 --out s4.csv
    """
    reporter = ConsoleReporter()
    split = read_official(dataset, annotations.expanduser(), split_number=split_number)
    if not split.is_official:
        reporter.warning(
            f"the lists hold {_counts(split.counts)}, the official ones {_counts(split.official)}"
        )
    rows = split.rows
    missing: list[SourceRow] = []
    if videos is not None:
        rows, missing = find_videos(rows, videos.expanduser())
    write_official(out.expanduser(), rows, overwrite=overwrite)
    for row in missing[:_MISSING_SHOWN]:
        reporter.warning(f"{videos}/{row.video} is missing")
    figures: dict[str, object] = {
        "protocol": split.protocol,
        "videos": _counts(split.counts),
        "classes": len({row.label for row in rows}),
    }
    if videos is not None:
        figures["missing"] = f"{len(missing):,} of {len(rows):,}"
    extract = ["fvar", "extract", str(out), "--videos", str(videos or "VIDEOS")]
    print_summary("source manifest", figures, wrote=out, then=shlex.join(extract))
    if missing:
        raise typer.Exit(1)


def _counts(counts: Mapping[Split, int]) -> str:
    return ", ".join(f"{number:,} {split}" for split, number in counts.items())
