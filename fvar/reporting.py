"""Reporters: the library prints nothing, it passes messages and progress to one of them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """The progress of one task."""

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        """Count `amount` more units as done; `note` replaces the short text beside the bar."""


class Reporter(Protocol):
    """Receives the messages of a stage, in order."""

    def info(self, message: str) -> None:
        """Take a line about what happened."""

    def warning(self, message: str) -> None:
        """Take a line that asks the user to act."""

    def progress(
        self, description: str, *, total: float | None, unit: str
    ) -> AbstractContextManager[Progress]:
        """Open a task of `total` units; None is unknown. `unit` is their name in the plural."""


def in_words(seconds: float) -> str:
    """Return a duration in a suitable unit."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


class _SilentProgress:
    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        pass


class SilentReporter:
    """Drops everything: for tests, notebooks and processes other than the main one."""

    def info(self, message: str) -> None:
        """Drop the line."""

    def warning(self, message: str) -> None:
        """Drop the line."""

    @contextmanager
    def progress(self, description: str, *, total: float | None, unit: str) -> Iterator[Progress]:
        """Count nothing."""
        yield _SilentProgress()
