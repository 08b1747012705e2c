"""What a command prints: its progress and its summary on standard output, errors on standard error."""

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from fvar.errors import StoppedError, one_line
from fvar.report.colors import cluster_colors
from fvar.reporting import Progress as ProgressProtocol
from fvar.reporting import Reporter, SilentReporter

_PLAIN_LINE_EVERY_SECONDS = 10.0
_ROUNDING = 1e-6  # parts of a unit may be counted
_BLOCKS = 48  # of a timeline
_NAME_WIDTH = 24  # letters of a video's name beside it, at most
_WARNINGS = 5  # printed of each kind; manifest.json or the CSV holds them all


class OutputConsole(Console):
    """A console that raises an error of ours when its output cannot be written."""

    def on_broken_pipe(self) -> None:
        """Raise the error again, so that `cli.exit_codes` chooses the exit code: rich would end with 1."""
        raise  # noqa: PLE0704  # called while the error is handled

    def print(self, *objects: Any, **style: Any) -> None:
        """Print as rich does.

        Raises:
            StoppedError: The output cannot be written, for example to a log on a full disk.
            BrokenPipeError: The program that read the output has ended.
        """
        try:
            super().print(*objects, **style)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StoppedError(
                "standard output",
                f"cannot be written ({error.strerror or error})",
                fix="redirect it to another place and run the same command again",
            ) from error


class _Task:
    """A task of a progress bar; without a terminal it prints a line every ten seconds instead."""

    def __init__(self, progress: Progress, task: Task) -> None:
        self._progress, self._task = progress, task
        self._printed_at_seconds = 0.0

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        task, elapsed = self._task, self._task.elapsed or 0.0
        per_second = (task.completed + amount) / elapsed if elapsed else 0.0
        rate = f"{per_second:{'.1f' if per_second >= 1 else '.2g'}}/s" if elapsed else "-/s"
        note = task.fields["note"] if note is None else one_line(note)
        self._progress.update(task.id, advance=amount, rate=rate, note=note)
        is_due = elapsed - self._printed_at_seconds >= _PLAIN_LINE_EVERY_SECONDS
        if self._progress.disable and (is_due or _is_done(task)):
            self._printed_at_seconds = elapsed
            _print_line(self._progress.console, _plain_line(task, elapsed))


def _is_done(task: Task) -> bool:
    return task.total is not None and task.completed > task.total - _ROUNDING


def _plain_line(task: Task, elapsed: float) -> str:
    of_total = f"/{task.total:g}" if task.total is not None else ""
    text = f"{task.description}: {round(task.completed, 1):g}{of_total} {task.fields['unit']}"
    text = f"{text}, {task.fields['rate']} {task.fields['note']}".rstrip()
    if task.total is not None and task.completed > 0 and not _is_done(task):
        text += f", {elapsed * (task.total - task.completed) / task.completed:.0f} s left"
    return text


class ConsoleReporter:
    """Rich progress bars on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or OutputConsole()

    def info(self, message: str) -> None:
        """Print a line."""
        _print_line(self._console, one_line(message))

    def warning(self, message: str) -> None:
        """Print a line that begins with a yellow "warning:"."""
        _print_line(self._console, Text.assemble(("warning: ", "yellow"), one_line(message)))

    @contextmanager
    def progress(
        self, description: str, *, total: float | None, unit: str
    ) -> Iterator[ProgressProtocol]:
        """Show a bar with rate and time left; without a terminal, print a line now and then."""
        on_terminal = self._console.is_terminal
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[rate]}", style="dim"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=self._console,
            transient=True,
            disable=not on_terminal,
        )
        bar.add_task(description, total=total, unit=unit, rate="", note="")
        with bar if on_terminal else nullcontext():
            yield _Task(bar, bar.tasks[0])


def reporter_of_this_process() -> Reporter:
    """Return a reporter that prints in the main process alone, because torchrun starts several."""
    return ConsoleReporter() if _is_main_process() else SilentReporter()


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def warn_of_first(reporter: Reporter, lines: Sequence[str], *, rest: str) -> None:
    """Warn with the first lines; `rest` is said of the number of the others."""
    for line in lines[:_WARNINGS]:
        reporter.warning(line)
    if len(lines) > _WARNINGS:
        reporter.warning(f"... and {len(lines) - _WARNINGS} {rest}")


def print_summary(
    title: str,
    figures: Mapping[str, object],
    *,
    wrote: Path | None = None,
    then: Sequence[object] | None = None,
    hint: str | None = None,
) -> None:
    """Print what a command ends with: figures, its output, and the next command or a hint.

    `then` is that command's words; it runs as it is printed. `hint` is for anything that is not one command.
    """
    if not _is_main_process():
        return
    console = OutputConsole()
    table = Table(
        title=title, title_justify="left", title_style="bold", show_header=False, box=None
    )
    for name, value in figures.items():
        table.add_row(escape(name), Text(one_line(value)))
    console.print(table)
    if wrote is not None:
        _print_line(console, f"wrote {one_line(wrote)}")
    if then is not None:
        _print_line(console, f"next: {one_line(shlex.join(map(str, then)))}")
    if hint is not None:
        _print_line(console, one_line(hint))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells below their titles; long cells are wrapped on a terminal."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(one_line(cell), overflow="fold") for cell in row))
    OutputConsole().print(table)


def print_timelines(videos: Iterable[tuple[str, str, Sequence[float]]]) -> None:
    """Print a line for each video: its name, the fractions of its parts as colored blocks, and a remark."""
    if not _is_main_process():
        return
    rows, console = list(videos), OutputConsole()
    names, remarks = ([one_line(row[at]) for row in rows] for at in (0, 1))
    name_width = min(max(map(len, names), default=0), _NAME_WIDTH)
    room = console.width - name_width - max(map(len, remarks), default=0) - 4  # between columns
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(width=name_width, no_wrap=True, overflow="ellipsis")
    for name, remark, (_, _, parts) in zip(names, remarks, rows, strict=True):
        blocks = _blocks(parts, width=max(min(room, _BLOCKS), 8))
        table.add_row(Text(name, overflow="ellipsis"), blocks, remark)
    console.print(table)


def _blocks(parts: Sequence[float], *, width: int) -> Text:
    """Return the parts side by side: dark and light blocks in turn, so that they show without color too."""
    edges = [round(width * sum(parts[:at])) for at in range(len(parts) + 1)]
    text = Text()
    for at, color in enumerate(cluster_colors(len(parts))):
        text.append("█▓"[at % 2] * (edges[at + 1] - edges[at]), style=color)
    return text


def _print_line(console: Console, text: str | Text) -> None:
    """Print one line as it is, however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_error(message: str) -> None:
    """Print one line on standard error."""
    print(f"fvar: {message}", file=sys.stderr)  # noqa: T201  # not wrapped, not styled: scripts read it
