"""``fvar manifest``: folders of videos, or a data set's official lists -> source CSV -> summary."""

import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cli.console import ConsoleReporter, print_summary, warn_of_first
from cli.exit_codes import NOT_ALL_OK
from cli.options import Overwrite, free_out, with_default
from fvar.errors import ConfigError
from fvar.fields import Split
from fvar.sources.class_folders import rows_of_folders
from fvar.sources.official import datasets, find_videos, read_official
from fvar.sources.source_csv import SourceRow, write_source
from fvar.sources.suspicions import similar_path
from fvar.store.files import REPLACE, frames_folder

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Write a source CSV, the list of videos that `fvar extract` reads.",
    epilog="[bold]Examples[/bold]\n\nfvar manifest folder ~/clips --out clips.csv\n\n"
    "fvar manifest ucf101 --annotations ucfTrainTestlist --out ucf101_split1.csv",
)
Out = Annotated[Path, typer.Option(help="Source CSV to write, .csv or .csv.gz.")]


@app.command()
def folder(
    videos: Annotated[Path, typer.Argument(help="Folder that holds a folder for each class.")],
    *,
    out: Out,
    labels: Annotated[
        Path | None,
        typer.Option(
            help=with_default(
                "CSV with the columns video and label.", "the folders are the classes"
            )
        ),
    ] = None,
    val: Annotated[
        float, typer.Option(help=with_default("Share of the videos in split val.", 0.15))
    ] = 0.15,
    test: Annotated[
        float, typer.Option(help=with_default("Share of the videos in split test.", 0.15))
    ] = 0.15,
    group_by: Annotated[
        str | None,
        typer.Option(
            help=with_default(
                "Regular expression: videos with the same match in their path stay in one split.",
                "each video for itself",
            )
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help=with_default("Of the choice of splits.", 0))] = 0,
    overwrite: Overwrite = False,
) -> None:
    r"""List videos that lie in folders named after their classes, and choose splits.

    VIDEOS/CLASS/clip.mp4, or VIDEOS/train/CLASS/clip.mp4 with val and test beside
    train: then the folders are the splits. A folder of numbered pictures is a
    video too.

    Where all videos lie together, --labels names a CSV with the columns video
    (path below VIDEOS) and label.

    Clips of one recording should not be on both sides. --group-by "person(\d+)"
    keeps all paths with the same number in one split.

    [bold]Examples[/bold]

    fvar manifest folder ~/clips --out clips.csv

    fvar manifest folder ~/clips --out clips.csv --test 0.3 --val 0 --group-by "day\d+"
    """
    _check_free(out, overwrite=overwrite)
    for name, share in (("val", val), ("test", test)):
        if not 0 <= share < 1:
            raise ConfigError(f"--{name} {share:g}", "must be in 0..1", fix="give a share, as 0.2")
    rows = rows_of_folders(
        videos.expanduser(), val=val, test=test, group_by=group_by, seed=seed, labels=labels
    )
    write_source(out.expanduser(), rows)
    counts = Counter(row.split for row in rows)
    figures = {"videos": _counts(counts), "classes": len({row.label for row in rows})}
    _end(figures, out, videos)


def official(
    ctx: typer.Context,
    *,
    annotations: Annotated[Path, typer.Option(help="Folder of the official lists.")],
    out: Out,
    split_number: Annotated[
        int, typer.Option(help="Which official split; 1 to 4 for s1 to s4 of breakfast.")
    ] = 1,
    videos: Annotated[
        Path | None,
        typer.Option(
            help=with_default("Folder of the videos; those missing are listed.", "no check")
        ),
    ] = None,
    only_present: Annotated[
        bool,
        typer.Option("--only-present", help="Leave out videos that are missing; needs --videos."),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the source CSV of a public data set from its official lists.

    breakfast follows the set's own splits by person, s1 to s4;
    breakfast_persons trains on the first 44 persons, tests on the last 8.

    The validation list of Something-Something and Kinetics is split test:
    results are reported on it, and val would choose the checkpoint by it.

    With --videos, missing files are listed and the exit code is 1; the CSV is
    written all the same. --only-present leaves them out: for a set that is
    downloaded in part.

    [bold]Examples[/bold]

    fvar manifest ucf101 --annotations ucfTrainTestlist --out ucf101_split1.csv

    fvar manifest breakfast --annotations lists --split-number 4 --out s4.csv
    """
    dataset = str(ctx.info_name)
    _check_free(out, overwrite=overwrite)
    reporter = ConsoleReporter()
    split = read_official(dataset, annotations.expanduser(), split_number=split_number)
    rows, counts = split.rows, Counter(row.split for row in split.rows)
    if split.official is not None and counts != split.official:
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
    if only_present:
        absent = {row.id for row in missing}
        rows = [row for row in rows if row.id not in absent]
        if videos is None or not rows:
            raise ConfigError(
                "--only-present", "leaves no video", fix="give --videos the folder that holds them"
            )
        figures["left out"] = f"{len(missing):,}"
    write_source(out.expanduser(), rows)
    lines = [_missing_line(videos, row) for row in missing]
    warn_of_first(reporter, lines, rest="more are missing")
    _end(figures, out, videos)
    if missing and not only_present:
        raise typer.Exit(NOT_ALL_OK)


for _name in datasets():
    app.command(_name, short_help=f"Read the official lists of {_name}.")(official)


def _check_free(out: Path, *, overwrite: bool) -> None:
    if out.expanduser().exists() and not overwrite:
        raise ConfigError(out, "exists already", fix=REPLACE)


def _end(figures: Mapping[str, object], out: Path, videos: Path | None) -> None:
    """Print the summary and how to extract."""
    extract: list[object] = ["fvar", "extract", out, "--videos"]
    then = None if videos is None else [*extract, videos, *free_out(frames_folder(out))]
    hint = f"extract the frames with: {shlex.join(map(str, extract))} FOLDER_OF_THE_VIDEOS"
    print_summary("source CSV", figures, wrote=out, then=then, hint=None if then else hint)


def _missing_line(videos: Path | None, row: SourceRow) -> str:
    path = (videos or Path()).expanduser() / row.video
    other = similar_path(path)
    hint = "" if other is None else f"; {other.name!r} is there, in another case or Unicode form"
    return f"{videos}/{row.video} is missing{hint}"


def _counts(counts: Mapping[Split, int]) -> str:
    return ", ".join(f"{number:,} {split}" for split, number in counts.items())
