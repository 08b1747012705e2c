"""What a command prints: its progress and its summary on standard output, errors on standard error."""

import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from fvar.errors import StoppedError, one_line
from fvar.reporting import Progress as ProgressProtocol
from fvar.reporting import Reporter, SilentReporter

_PLAIN_LINE_EVERY_SECONDS = 10.0
_WARNINGS = 5  # printed of a kind; manifest.json or the CSV holds them all


class _RateColumn(ProgressColumn):
    """The mean rate so far, in units per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{_rate(task.completed, task.elapsed)} {task.fields['unit']}/s", style="dim")


class OutputConsole(Console):
    """A console that raises an error of ours when its output cannot be written."""

    def on_broken_pipe(self) -> None:
        """Raise the error again, so that `cli.boundary` chooses the exit code: rich would end with 1."""
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


class _BarTask:
    def __init__(self, progress: Progress, task: Task) -> None:
        self._progress, self._id = progress, task.id

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        if note is not None:
            self._progress.update(self._id, note=escape(one_line(note)))
        self._progress.advance(self._id, amount)


class _PlainTask:
    """Prints one line every ten seconds, for logs and pipes."""

    def __init__(
        self, console: Console, description: str, *, total: float | None, unit: str
    ) -> None:
        self._console, self._description = console, description
        self._total, self._unit = total, unit
        self._done, self._note = 0.0, ""
        self._started = self._printed = time.monotonic()

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        self._done += amount
        self._note = one_line(note) if note is not None else self._note
        now = time.monotonic()
        if now - self._printed >= _PLAIN_LINE_EVERY_SECONDS or self._done == self._total:
            self._printed = now
            self._line(now - self._started)

    def _line(self, elapsed: float) -> None:
        of_total = f"/{self._total:g}" if self._total is not None else ""
        rate = _rate(self._done, elapsed)
        text = f"{self._description}: {self._done:g}{of_total} {self._unit}, {rate}/s {self._note}".rstrip()
        if self._total is not None and 0 < self._done < self._total:
            text += f", {elapsed * (self._total - self._done) / self._done:.0f} s left"
        _print_line(self._console, text)


def _rate(done: float, elapsed: float | None) -> str:
    return f"{done / elapsed:.1f}" if elapsed else "-"


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
        if not self._console.is_terminal:
            yield _PlainTask(self._console, description, total=total, unit=unit)
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn(
                "{task.completed:g}/{task.total:g}" if total is not None else "{task.completed:g}"
            ),
            _RateColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(escape(description), total=total, unit=unit, note="")
            yield _BarTask(progress, progress.tasks[progress.task_ids.index(task)])


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


def _print_line(console: Console, text: str | Text) -> None:
    """Print one line as it is, however long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_error(message: str) -> None:
    """Print one line on standard error."""
    print(f"fvar: {message}", file=sys.stderr)  # noqa: T201  # not wrapped, not styled: scripts read it
