"""``fvar predict``: flags -> settings -> answers -> a table, files or JSON."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import ConsoleReporter, print_summary, print_table
from cli.exit_codes import NOT_ALL_OK
from cli.options import Overwrite, Training, Videos, flags_of
from fvar.config import PredictConfig
from fvar.reporting import SilentReporter
from fvar.settings import parse

if TYPE_CHECKING:
    from fvar.inference.answers import Answer, Answers
    from fvar.inference.prediction import Segment

_SHOWN = 20  # videos in the table of the terminal


@flags_of(
    PredictConfig,
    {
        "When": ["windows", "hop", "threshold"],
        "Model": ["checkpoint", "allow_partial"],
        "Machine": ["device", "workers"],
    },
)
def predict(
    train: Training,
    videos: Videos,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the tables; without it they are only shown.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON array instead of a table.")
    ] = False,
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Recognize what videos show that were neither extracted nor labelled, and when.

    Every frame counts, as in training. Writes OUT/predictions.csv (a row per
    video) and OUT/timeline.csv (a row per cluster, with its own scores). With
    --windows it writes windows.csv, segments.csv and a picture per video instead
    of the timeline. Exit code 1: a video could not be read, or frames are missing.

    [bold]Examples[/bold]

    fvar predict runs/ucf/train holiday.mp4

    fvar predict runs/ucf/train ~/videos --out runs/ucf/mine

    fvar predict runs/ucf/train match.mp4 --windows 4 --out runs/ucf/match
    """
    settings = parse(PredictConfig, flags, source="command line")

    from fvar.stages import predict as stage

    reporter = SilentReporter() if as_json else ConsoleReporter()
    answers = stage.predict(train, videos, out, settings, reporter, overwrite=overwrite)
    if as_json:
        rows = [_row(answer, answers) for answer in answers.videos]
        typer.echo(json.dumps(rows, indent=2))
    else:
        _print(answers, out)
    if answers.counts["ok"] < len(answers.videos):
        raise typer.Exit(NOT_ALL_OK)


def _print(answers: "Answers", out: Path | None) -> None:
    slides = any(answer.segments for answer in answers.videos)
    columns = ("video", "label", "probability", "frames", "segments" if slides else "status")
    rows = [_cells(answer, slides=slides) for answer in answers.videos[:_SHOWN]]
    print_table(columns, rows)
    hidden = len(answers.videos) - len(rows)
    counts = answers.counts
    figures: dict[str, object] = {
        "videos": len(answers.videos),
        **{status: counts[status] for status in ("ok", "partial", "failed")},
        "frames seen": sum(answer.num_frames for answer in answers.videos),
    }
    hint = (
        f"{hidden} more videos are not shown: pass --out or --json" if hidden and not out else None
    )
    then = None if out is None else ["fvar", "verify", out]
    print_summary("predict", figures, wrote=out, then=then, hint=hint)


def _cells(answer: "Answer", *, slides: bool) -> list[str]:
    what = answer.status if answer.reason is None else f"{answer.status}: {answer.reason}"
    if slides and answer.label is not None:
        what = ", ".join(
            f"{s.label} {s.start_seconds:.1f}-{s.stop_seconds:.1f} s" for s in answer.segments
        )
    probability = "" if answer.probability is None else f"{answer.probability:.3f}"
    return [str(answer.path), answer.label or "", probability, str(answer.num_frames), what]


def _row(answer: "Answer", answers: "Answers") -> dict[str, object]:
    return {
        "path": str(answer.path),
        "status": answer.status,
        "reason": answer.reason,
        "note": answer.note,
        "label": answer.label,
        "probability": answer.probability,
        "frames": answer.num_frames,
        "seconds": answer.seconds,
        "scores": dict(zip(answers.classes, answer.scores, strict=False)),
        "parts": [_part(part) for part in answer.parts],
        "segments": [_part(part) for part in answer.segments],
    }


def _part(part: "Segment") -> dict[str, object]:
    return {
        "start_seconds": part.start_seconds,
        "stop_seconds": part.stop_seconds,
        "label": part.label,
        "probability": part.probability,
    }
