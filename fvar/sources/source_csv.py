"""The source CSV: which videos there are, what they show and which split they belong to.

It is edited by hand and in spreadsheets, so every error names file, line, column, value and rule.
``data_manifests/README.md`` specifies it.
"""

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from fvar.config import Split
from fvar.errors import UNPRINTABLE, SourceError
from fvar.store.files import atomic_open

REQUIRED_COLUMNS = ("id", "video", "label", "split")
OPTIONAL_COLUMNS = ("start_seconds", "end_seconds", "group")
COLUMNS = REQUIRED_COLUMNS + OPTIONAL_COLUMNS

_MAX_FILE_BYTES = 1 << 30  # a list of five million videos takes about half
_MAX_CHARACTERS = {"id": 200, "label": 200, "group": 200, "video": 4096, "split": 200}
_MAX_NUMBER_CHARACTERS = 40
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One video, or the part of one with ``start_seconds <= time < end_seconds``.

    Attributes:
        id: Unique in the file.
        video: Path of the file relative to ``--videos``, with forward slashes.
        label: Class name.
        split: What the video serves for.
        start_seconds: First time kept; None: from the beginning.
        end_seconds: First time no longer kept; None: to the end.
        group: What must not be torn between splits (a scene, a person); None: nothing.
    """

    id: str
    video: str
    label: str
    split: Split
    start_seconds: float | None = None
    end_seconds: float | None = None
    group: str | None = None


class _BadCellError(ValueError):
    """A cell breaks a rule; its place is added by whoever knows the line."""

    def __init__(self, rule: str, *, fix: str) -> None:
        super().__init__(rule)
        self.fix = fix


def read_source(path: Path) -> list[SourceRow]:
    """Read and check a source CSV (UTF-8, with or without a byte order mark).

    Raises:
        SourceError: On the first thing that is wrong, by line and column.
    """
    return _parse(_read_text(path), path)


def write_source(path: Path, rows: Iterable[SourceRow]) -> None:
    """Write a source CSV, atomically; columns that no row uses are left out.

    Raises:
        SourceError: `read_source` would refuse the rows.
    """
    rows = list(rows)
    used = [
        column
        for column in COLUMNS
        if column in REQUIRED_COLUMNS or any(getattr(row, column) is not None for row in rows)
    ]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(used)
    writer.writerows([getattr(row, column) for column in used] for row in rows)
    _parse(buffer.getvalue(), path)
    with atomic_open(path, newline="") as file:
        file.write(buffer.getvalue())


def class_names(rows: Iterable[SourceRow]) -> list[str]:
    """Return the labels that occur, in natural order: ``2`` before ``10``."""
    return sorted({row.label for row in rows}, key=_natural)


def video_path(root: Path, row: SourceRow) -> Path:
    """Return the absolute path of a row's video, whether it exists or not.

    Raises:
        SourceError: A symbolic link on the way leads out of `root`, or in a circle.
    """
    folder = root.resolve()
    try:
        path = (folder / row.video).resolve()
    except RuntimeError as error:  # until Python 3.13; then the file is one that is not there
        raise SourceError(
            f"id {row.id!r}",
            f"video {row.video!r} is a link that leads back to itself",
            fix="put the file itself there",
        ) from error
    if not path.is_relative_to(folder):
        raise SourceError(
            f"id {row.id!r}",
            f"video {row.video!r} is a link to {path}, outside {folder}",
            fix="pass a --videos folder that holds both, or put the file itself there",
        )
    return path


def _natural(text: str) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"(\d+)", text)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p], text


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device may never end
            raise SourceError(path, "is not a file", fix="give a source CSV")
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise SourceError(
                path,
                f"has {path.stat().st_size} bytes, at most {_MAX_FILE_BYTES} are read",
                fix="give a source CSV",
            )
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(
            path, f"cannot be read ({error.strerror or error})", fix="give a source CSV"
        ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceError(
            f"{path}: line {line}",
            f"byte 0x{data[error.start]:02x} is not UTF-8",
            fix="save the file as CSV UTF-8",
        ) from None


def _parse(text: str, path: Path) -> list[SourceRow]:
    records = _records(text, path)
    line, header = next(records, (1, []))
    _check_header(header, f"{path}: line {line}")
    lines: list[int] = []
    rows: list[SourceRow] = []
    for line, cells in records:
        rows.append(_row(header, cells, path, line))
        lines.append(line)
    if not rows:
        raise SourceError(path, "lists no video", fix=f"add rows below {','.join(header)}")
    _check_together(rows, lines, path)
    return rows


def _records(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line at which each record begins and its cells; records without content are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise SourceError(
            f"{path}: line {line}",
            f"is not CSV ({error})",
            fix="put a cell with commas or quotes in double quotes, and double the quotes inside",
        ) from None


def _check_header(header: list[str], thing: str) -> None:
    if len(header) == 1 and any(separator in header[0] for separator in ";\t"):
        raise SourceError(
            thing, f"{header[0]!r:.80} is one column", fix="separate columns by commas"
        )
    for column in header:
        if column not in COLUMNS:
            raise SourceError(
                thing,
                f"column {column!r:.80} is not known",
                fix=f"remove it or name it one of: {', '.join(COLUMNS)}",
            )
        if header.count(column) > 1:
            raise SourceError(thing, f"column {column!r} comes twice", fix="keep one of them")
    if missing := [column for column in REQUIRED_COLUMNS if column not in header]:
        raise SourceError(
            thing,
            f"column {missing[0]!r} is missing",
            fix=f"the first line names the columns: {','.join(REQUIRED_COLUMNS)}",
        )


def _row(header: list[str], cells: list[str], path: Path, line: int) -> SourceRow:
    if len(cells) != len(header):
        raise SourceError(
            f"{path}: line {line}",
            f"has {len(cells)} cells beginning with {cells[0]!r:.80}, the header has {len(header)}",
            fix="give one cell a column; a cell with a comma needs double quotes",
        )
    values: dict[str, Any] = {}
    for column, cell in zip(header, cells, strict=True):
        try:
            values[column] = _CELLS[column](cell)
        except _BadCellError as error:
            raise _at(path, line, column, cell, rule=str(error), fix=error.fix) from None
    row = SourceRow(**values)
    if row.end_seconds is not None and row.end_seconds <= (row.start_seconds or 0.0):
        rule = f"must be later than start_seconds, {row.start_seconds or 0.0:g}"
        raise _at(
            path, line, "end_seconds", row.end_seconds, rule=rule, fix="an interval is [start, end)"
        )
    return row


def _at(path: Path, line: int, column: str, value: object, *, rule: str, fix: str) -> SourceError:
    return SourceError(f"{path}: line {line}, column {column}", f"{value!r:.80} {rule}", fix=fix)


def _text(cell: str, *, column: str) -> str:
    limit = _MAX_CHARACTERS[column]
    if not cell:
        raise _BadCellError("is empty", fix="fill it in")
    if len(cell) > limit:
        raise _BadCellError(
            f"has {len(cell)} characters, at most {limit} are allowed", fix="shorten it"
        )
    if UNPRINTABLE.search(cell):
        raise _BadCellError("holds a control or invisible character", fix="remove it")
    if cell != cell.strip() and column != "video":
        raise _BadCellError("begins or ends with a blank", fix="remove the blank")
    return cell


def _video(cell: str) -> str:
    _text(cell, column="video")
    if cell.startswith("/") or _DRIVE.match(cell):
        raise _BadCellError("is absolute", fix="give the path relative to --videos")
    if "\\" in cell:
        raise _BadCellError("holds a backslash", fix="write forward slashes")
    if ".." in cell.split("/"):
        raise _BadCellError("leaves the folder by '..'", fix="give a path inside --videos")
    return cell


def _split(cell: str) -> str:
    if cell not in get_args(Split):
        raise _BadCellError("is not a split", fix=f"write one of: {', '.join(get_args(Split))}")
    return cell


def _group(cell: str) -> str | None:
    return _text(cell, column="group") if cell else None


def _seconds(cell: str) -> float | None:
    if not cell:
        return None
    try:
        # Python also reads 1_0; and a number of a thousand digits is an accident.
        value = float(cell) if "_" not in cell and len(cell) <= _MAX_NUMBER_CHARACTERS else math.nan
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise _BadCellError("is not a time", fix="write seconds from 0 up, like 12.5, or nothing")
    return value


_CELLS: dict[str, Callable[[str], object]] = {
    "id": lambda cell: _text(cell, column="id"),
    "video": _video,
    "label": lambda cell: _text(cell, column="label"),
    "split": _split,
    "start_seconds": _seconds,
    "end_seconds": _seconds,
    "group": _group,
}


def _check_together(rows: list[SourceRow], lines: list[int], path: Path) -> None:
    """Check what only shows over several rows: unique ids, whole groups, labels that can be learnt."""
    first: dict[str, int] = {}
    groups: dict[str, tuple[str, int]] = {}
    learnt = {row.label for row in rows if row.split == "train"}
    for row, line in zip(rows, lines, strict=True):
        if (earlier := first.setdefault(row.id, line)) != line:
            rule = f"is also the id of line {earlier}"
            raise _at(path, line, "id", row.id, rule=rule, fix="give every row an id of its own")
        if row.group is not None:
            split, earlier = groups.setdefault(row.group, (row.split, line))
            if split != row.split:
                rule = (
                    f"is in {row.split} here and in {split} on line {earlier}: results would leak"
                )
                raise _at(
                    path, line, "group", row.group, rule=rule, fix="keep a group in one split"
                )
        if learnt and row.label not in learnt:
            rule = f"is in {row.split} but no train row has it"
            raise _at(path, line, "label", row.label, rule=rule, fix="correct it or add train rows")
