"""How the library tells what it does without printing: it calls a reporter."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """One running task."""

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        """Count `amount` more units as done; `note` replaces the short text shown beside the bar."""


class Reporter(Protocol):
    """Receives what a stage has to say, in order."""

    def info(self, message: str) -> None:
        """Take a line that tells the user what happened."""

    def warning(self, message: str) -> None:
        """Take a line that the user should act on."""

    def progress(
        self, description: str, *, total: float | None, unit: str
    ) -> AbstractContextManager[Progress]:
        """Open a task of `total` units (None: unknown) named in the plural by `unit`."""


class _SilentProgress:
    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        pass


class SilentReporter:
    """Says nothing: for tests, libraries and the processes of rank above 0."""

    def info(self, message: str) -> None:
        """Drop the line."""

    def warning(self, message: str) -> None:
        """Drop the line."""

    @contextmanager
    def progress(self, description: str, *, total: float | None, unit: str) -> Iterator[Progress]:
        """Count nothing."""
        yield _SilentProgress()
