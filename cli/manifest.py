"""``fvar manifest``: flags -> a data set's official lists -> source CSV -> summary."""

import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cli.console import ConsoleReporter, print_summary, warn_of_first
from cli.exit_codes import NOT_ALL_OK
from cli.options import Overwrite, with_default
from fvar.config import Split
from fvar.errors import ConfigError
from fvar.sources.official import datasets, find_videos, read_official
from fvar.sources.source_csv import SourceRow, write_source
from fvar.store.files import REPLACE

_NAMES = list(datasets())


def manifest(
    dataset: Annotated[
        str,
        typer.Argument(help=f"One of: {', '.join(_NAMES)}.", autocompletion=lambda: _NAMES),
    ],
    *,
    annotations: Annotated[Path, typer.Option(help="Folder of the official lists.")],
    out: Annotated[Path, typer.Option(help="Source CSV to write, .csv or .csv.gz.")],
    split_number: Annotated[
        int, typer.Option(help="Which official split; 1 to 4 for s1 to s4 of breakfast.")
    ] = 1,
    videos: Annotated[
        Path | None,
        typer.Option(
            help=with_default("Folder of the videos; those missing are listed.", "no check")
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the source CSV of a public data set from its official lists.

    breakfast follows the set's own splits by person, s1 to s4;
    breakfast_persons trains on the first 44 persons, tests on the last 8.

    Something-Something's validation list becomes the split test, because
    results are reported on it, and val would choose the checkpoint by it.

    With --videos, missing files are listed and the exit code is 1; the CSV is
    written all the same.

    [bold]Examples[/bold]

    fvar manifest ucf101 --annotations ucfTrainTestlist --out ucf101_split1.csv

    fvar manifest breakfast --annotations lists --split-number 4 --out s4.csv
    """
    if out.expanduser().exists() and not overwrite:
        raise ConfigError(out, "exists already", fix=REPLACE)
    reporter = ConsoleReporter()
    split = read_official(dataset, annotations.expanduser(), split_number=split_number)
    rows, counts = split.rows, Counter(row.split for row in split.rows)
    if counts != split.official:
        reporter.warning(
            f"the lists hold {_counts(counts)}, the official ones {_counts(split.official)}"
        )
    figures: dict[str, object] = {
        "protocol": split.protocol,
        "videos": _counts(counts),
        "classes": len({row.label for row in rows}),
    }
    missing: list[SourceRow] = []
    if videos is not None:
        rows, missing = find_videos(split, videos.expanduser())
        figures["missing"] = f"{len(missing):,} of {len(rows):,}"
    write_source(out.expanduser(), rows)
    lines = [f"{videos}/{row.video} is missing" for row in missing]
    warn_of_first(reporter, lines, rest="more are missing")
    extract = ["fvar", "extract", str(out), "--videos"]
    then = None if videos is None else [*extract, videos]
    hint = f"extract the frames with: {shlex.join(extract)} FOLDER_OF_THE_VIDEOS"
    print_summary("source CSV", figures, wrote=out, then=then, hint=None if then else hint)
    if missing:
        raise typer.Exit(NOT_ALL_OK)


def _counts(counts: Mapping[Split, int]) -> str:
    return ", ".join(f"{number:,} {split}" for split, number in counts.items())
