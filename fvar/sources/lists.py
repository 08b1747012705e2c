"""The lists of a public data set: what its authors publish, and how to read it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fvar.errors import SourceError
from fvar.fields import Split
from fvar.sources.source_csv import SourceRow


@dataclass(frozen=True)
class Dataset:
    """A public data set with official splits.

    Attributes:
        title: What to call it beside a result; may hold ``{split_number}``.
        counts: Train and test videos of each official split, as its authors count them; None if not known.
        read: Takes the folder of the lists and the split's number, from 1; returns the rows.
        other_paths: Takes a row; returns other paths that its video may have.
    """

    title: str
    counts: tuple[tuple[int, int] | None, ...]
    read: Callable[[Path, int], list[SourceRow]]
    other_paths: Callable[[SourceRow], Sequence[str]] = lambda _: ()


@dataclass(frozen=True)
class Line:
    """A line of a list, cut into cells at blanks."""

    path: Path
    number: int
    cells: list[str]

    def error(self, value: str, rule: str) -> SourceError:
        """Return the error for a value of this line that breaks a rule."""
        return SourceError(
            f"{self.path}: line {self.number}",
            f"{value!r:.80} {rule}",
            fix="correct the line or download the list again",
        )


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines that are not blank.

    Raises:
        SourceError: The list cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            path,
            f"cannot be read ({reason})",
            fix="give --annotations the folder of the official lists",
        ) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if cells := line.split():
            yield Line(path, number, cells)


def read_splits(
    lists: Mapping[Split, Path], row: Callable[[Line, Split], SourceRow | None]
) -> list[SourceRow]:
    """Return the rows that `row` makes of each line of each split's list; it may make none.

    Raises:
        SourceError: A list cannot be read.
    """
    made = (row(line, split) for split, path in lists.items() for line in read_lines(path))
    return [found for found in made if found is not None]


def numbered_classes(path: Path) -> dict[str, str]:
    """Return the class of each number, from lines of a number and a class name.

    Raises:
        SourceError: The list cannot be read, or a line is something else or repeats a number.
    """
    classes: dict[str, str] = {}
    for line in read_lines(path):
        if len(line.cells) != 2 or not line.cells[0].isdecimal() or line.cells[0] in classes:
            raise line.error(" ".join(line.cells), "is not a new number and a class name")
        classes[line.cells[0]] = line.cells[1]
    return classes


def train_first(rows: list[SourceRow]) -> list[SourceRow]:
    """Return the rows with those to train with first, otherwise in their order."""
    return sorted(rows, key=lambda row: row.split != "train")
