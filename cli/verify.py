"""``fvar verify``: a run's folder -> verification -> faults and summary."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import ConsoleReporter, OutputConsole, print_error, print_summary
from fvar.config import VerifyConfig, parse
from fvar.system import usable_processors

if TYPE_CHECKING:
    from fvar.stages.verify import Verdict

EXIT_NOT_ALL_OK = 1
EXIT_FAULTS = 2

_SHOWN = 5  # videos that are not ok; manifest.json lists them all


def verify(
    run: Annotated[Path, typer.Argument(help="Folder that any stage wrote.")],
    *,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that read and decode. Default: one a processor.", show_default=False
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the verdict with all faults as JSON; the rest goes to stderr."
        ),
    ] = False,
) -> None:
    """Check a run and all it stands on: every hash, every count, every picture of every video.

    Files are read anew, whatever is remembered of them. All faults are found, each with
    how to mend it; the first 20 are printed. Nothing is written into any run.

    Ends with code 0 when all is whole, 1 when nothing is wrong but extraction called
    videos partial or failed, 2 when something is wrong.

    [bold]Examples[/bold]

    fvar verify runs/ucf/eval

    fvar verify runs/ucf/frames --workers 8 --json > verdict.json
    """
    from fvar.stages.verify import verify as stage

    settings = {"workers": usable_processors() if workers is None else workers}
    config = parse(VerifyConfig, settings, source="command line")
    console = OutputConsole(stderr=as_json)
    reporter = ConsoleReporter(console)
    verdict = stage(run, config, reporter)
    for video in verdict.not_ok[:_SHOWN]:
        reporter.warning(f"{video.id} is {video.status}: {video.reason}")
    if len(verdict.not_ok) > _SHOWN:
        reporter.warning(
            f"... and {len(verdict.not_ok) - _SHOWN} more; manifest.json lists them all"
        )
    if as_json:
        typer.echo(json.dumps(_as_json(verdict), indent=2))
    else:
        print_summary("verify", _figures(verdict), then=_next(verdict, run))
    _end(verdict, run)


def _figures(verdict: "Verdict") -> dict[str, object]:
    bad = [f"{video.id} ({video.status})" for video in verdict.not_ok[:_SHOWN]]
    more = ", ..." if len(verdict.not_ok) > _SHOWN else ""
    return {
        "runs": ", ".join(str(link.folder) for link in verdict.chain),
        "files": f"{verdict.num_files} read and hashed",
        "videos": f"{verdict.num_videos} checked, {verdict.num_frames} frames",
        "not ok": f"{len(verdict.not_ok)}: {', '.join(bad)}{more}" if bad else 0,
        "notes": len(verdict.notes),
        "faults": len(verdict.faults),
    }


def _next(verdict: "Verdict", run: Path) -> str:
    folder = shlex.quote(str(run))
    if verdict.faults:
        return f"mend what is named above, upstream first, then fvar verify {folder}"
    link = verdict.chain[-1]
    return {
        "fvar extract": f"fvar train {folder}",
        "fvar train": f"fvar eval {folder}",
        "fvar eval": "all that these results stand on is whole",
        "fvar inspect-clusters": f"open {link.folder / 'index.html'} in a browser",
    }[link.manifest.COMMAND]


def _as_json(verdict: "Verdict") -> dict[str, object]:
    return {
        "runs": [str(link.folder) for link in verdict.chain],
        "num_files": verdict.num_files,
        "num_videos": verdict.num_videos,
        "num_frames": verdict.num_frames,
        "faults": [
            {"thing": fault.thing, "problem": fault.problem, "fix": fault.fix}
            for fault in verdict.faults
        ],
        "notes": verdict.notes,
        "not_ok": [
            {"id": video.id, "status": video.status, "reason": video.reason}
            for video in verdict.not_ok
        ],
    }


def _end(verdict: "Verdict", run: Path) -> None:
    if verdict.faults:
        count = len(verdict.faults)
        print_error(f"{run}: {count} fault{'s' if count > 1 else ''} found; mend as said of each")
        raise typer.Exit(EXIT_FAULTS)
    if verdict.not_ok:
        raise typer.Exit(EXIT_NOT_ALL_OK)
