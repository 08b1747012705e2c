"""What a user sees while a command runs and when it ends: on standard output, errors on standard error."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
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


class _RateColumn(ProgressColumn):
    """Units a second so far."""

    def render(self, task: Task) -> Text:
        return Text(f"{_rate(task.completed, task.elapsed)} {task.fields['unit']}/s", style="dim")


class OutputConsole(Console):
    """A console that says so when what it prints cannot be written."""

    def on_broken_pipe(self) -> None:
        """Leave the exit code to the boundary: rich would end with 1."""
        raise  # noqa: PLE0704  # called while the error is handled

    def print(self, *objects: Any, **style: Any) -> None:
        """Print as rich does.

        Raises:
            StoppedError: The disk of a log is full, or another error but that of a reader that has gone.
        """
        try:
            super().print(*objects, **style)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StoppedError(
                "what is printed",
                f"cannot be written ({error.strerror or error})",
                fix="send it elsewhere and run the same command again",
            ) from error


class _BarTask:
    def __init__(self, progress: Progress, task: Task) -> None:
        self._progress, self._id = progress, task.id

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        if note is not None:
            self._progress.update(self._id, note=escape(one_line(note)))
        self._progress.advance(self._id, amount)


class _PlainTask:
    """A line every ten seconds: for logs and pipes."""

    def __init__(
        self, console: Console, description: str, *, total: float | None, unit: str
    ) -> None:
        self._console, self._description, self._total, self._unit = (
            console,
            description,
            total,
            unit,
        )
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
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _rate(done: float, elapsed: float | None) -> str:
    return f"{done / elapsed:.1f}" if elapsed else "-"


class ConsoleReporter:
    """Rich progress bars on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or OutputConsole()

    def info(self, message: str) -> None:
        """Print a line."""
        self._console.print(one_line(message), markup=False, highlight=False, soft_wrap=True)

    def warning(self, message: str) -> None:
        """Print a line that stands out."""
        text = Text.assemble(("warning: ", "yellow"), one_line(message))
        self._console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(
        self, description: str, *, total: float | None, unit: str
    ) -> Iterator[ProgressProtocol]:
        """Show a bar with rate and time left, or a line now and then."""
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
    """Return a reporter that speaks in the main process alone: torchrun starts several."""
    return ConsoleReporter() if _is_main_process() else SilentReporter()


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def print_summary(
    title: str, figures: Mapping[str, object], *, wrote: Path | None = None, then: str
) -> None:
    """Print what a command ends with: its figures, what it wrote if anything, the next command to type."""
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
        console.print(f"wrote {one_line(wrote)}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"next: {one_line(then)}", markup=False, highlight=False, soft_wrap=True)


def print_error(message: str) -> None:
    """Print one line on standard error."""
    print(f"fvar: {message}", file=sys.stderr)  # noqa: T201  # not wrapped, not styled: scripts read it
