"""``fvar verify``: a run's folder -> verification -> faults and summary."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import ConsoleReporter, OutputConsole, print_error, print_summary, warn_of_first
from cli.exit_codes import NOT_ALL_OK, WRONG_INPUT
from cli.options import flags_of
from fvar.config import VerifyConfig
from fvar.settings import parse

if TYPE_CHECKING:
    from fvar.stages.verify import Verdict

_NEXT = {"fvar extract": "train", "fvar train": "eval"}


@flags_of(VerifyConfig, {"Options": ["workers"]})
def verify(
    run: Annotated[Path, typer.Argument(help="Folder that any stage wrote.")],
    *,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the verdict with all faults as JSON; the rest goes to stderr."
        ),
    ] = False,
    **flags: Any,
) -> None:
    """Check a run and all that it was made from: every hash and every frame of every video.

    Every file is read again. All faults are found and the first 20 are printed,
    each with its fix. Nothing is written into any run.

    Ends with code 0 when nothing is wrong, 1 when nothing is wrong but extraction
    found videos partial or failed, 2 when something is wrong.

    [bold]Examples[/bold]

    fvar verify runs/ucf/eval

    fvar verify runs/ucf/frames --workers 8 --json > verdict.json
    """
    from fvar.stages.verify import verify as stage

    config = parse(VerifyConfig, flags, source="command line")
    reporter = ConsoleReporter(OutputConsole(stderr=as_json))
    verdict = stage(run, config, reporter)
    bad = [f"{video.id} is {video.status}: {video.reason}" for video in verdict.not_ok]
    warn_of_first(reporter, bad, rest="more; manifest.json lists them all")
    if as_json:
        typer.echo(json.dumps(_as_json(verdict), indent=2))
    else:
        print_summary("verify", _figures(verdict), then=_next(verdict, run))
    if count := len(verdict.faults):
        faults = "1 fault" if count == 1 else f"{count} faults"
        print_error(f"{run}: {faults} found; apply the fix printed for each, from the first on")
        raise typer.Exit(WRONG_INPUT)
    if bad:
        raise typer.Exit(NOT_ALL_OK)


def _figures(verdict: "Verdict") -> dict[str, object]:
    return {
        "runs": ", ".join(str(link.folder) for link in verdict.chain),
        "files": f"{verdict.num_files} read and hashed",
        "videos": f"{verdict.num_videos} checked, {verdict.num_frames} frames",
        "not ok": len(verdict.not_ok),
        "notes": len(verdict.notes),
        "faults": len(verdict.faults),
    }


def _next(verdict: "Verdict", run: Path) -> list[object] | None:
    if verdict.faults:
        return ["fvar", "verify", run]
    command = None if verdict.not_ok else _NEXT.get(verdict.chain[-1].manifest.COMMAND)
    return None if command is None else ["fvar", command, run]


def _as_json(verdict: "Verdict") -> dict[str, object]:
    return {
        "runs": [str(link.folder) for link in verdict.chain],
        "num_files": verdict.num_files,
        "num_videos": verdict.num_videos,
        "num_frames": verdict.num_frames,
        "faults": [{"thing": f.thing, "problem": f.problem, "fix": f.fix} for f in verdict.faults],
        "notes": verdict.notes,
        "not_ok": [{"id": v.id, "status": v.status, "reason": v.reason} for v in verdict.not_ok],
    }
