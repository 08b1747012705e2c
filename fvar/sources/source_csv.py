"""The source CSV: which videos there are, what they show and which split they belong to.

People edit it by hand and in spreadsheets, so every error names file, line, column, value and rule.
``data_manifests/README.md`` specifies the format.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from fvar.errors import UNPRINTABLE, SourceError
from fvar.fields import Split
from fvar.store.files import atomic_path

_MAX_FILE_BYTES = 1 << 30  # a list of five million videos takes about half
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
# Python would also read 1_0 and inf, and a number of a thousand digits, which is a mistake.
_SECONDS = re.compile(r"[0-9.eE+-]{1,40}")

_MAX_DIGITS = 12  # of the number of a frame


def _printable(cell: str) -> str:
    if UNPRINTABLE.search(cell):
        raise ValueError("holds a control or invisible character; remove it")
    return cell


def _name(cell: str) -> str:
    if cell != cell.strip():
        raise ValueError("begins or ends with a blank; remove the blank")
    return _printable(cell)


def _relative_path(cell: str) -> str:
    if cell.startswith("/") or _DRIVE.match(cell):
        raise ValueError("is absolute; give the path relative to --videos")
    if "\\" in cell:
        raise ValueError("holds a backslash; write forward slashes")
    if ".." in cell.split("/"):
        raise ValueError("leaves the folder by '..'; give a path inside --videos")
    return _printable(cell)


def _seconds(cell: str) -> str:
    if not _SECONDS.fullmatch(cell):
        raise ValueError("is not a time; write seconds from 0 up, like 12.5, or nothing")
    return cell


def _frame(cell: str) -> str:
    if not cell.isascii() or not cell.isdecimal() or len(cell) > _MAX_DIGITS:
        raise ValueError("is not the number of a frame; count from 0, or write nothing")
    return cell


_Label = Annotated[str, Field(max_length=200), AfterValidator(_name)]
_Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_name)]
_Video = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_relative_path)]
_Frame = Annotated[int, Field(ge=0), BeforeValidator(_frame)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_seconds)]


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One video, or its segment with ``start_seconds <= time < end_seconds``, or so by numbers of frames.

    Only `read_source` checks the fields against their types. The constructor does not.

    Attributes:
        id: Unique in the file.
        video: Path of the file relative to ``--videos``, with forward slashes.
        label: Class name; empty where it is not known, in split test alone.
        split: What the video is used for.
        start_seconds: First time of the segment; None means the beginning of the video.
        end_seconds: Time at which the segment ends; None means the end of the video.
        start_frame: Number of the first frame of the segment, from 0, instead of its time.
        end_frame: One past the number of the last.
        group: What must stay in one split (a scene, a person); None means nothing.
    """

    id: _Name
    video: _Video
    label: _Label
    split: Split
    start_seconds: _Seconds | None = None
    end_seconds: _Seconds | None = None
    group: _Name | None = None
    start_frame: _Frame | None = None
    end_frame: _Frame | None = None


_ROW = TypeAdapter(SourceRow)
COLUMNS = tuple(SourceRow.__dataclass_fields__)
REQUIRED_COLUMNS = COLUMNS[:4]


def read_source(path: Path) -> list[SourceRow]:
    """Read and check a source CSV (UTF-8, with or without a byte order mark; a name in .gz is unpacked).

    Raises:
        SourceError: On the first thing that is wrong, by line and column.
    """
    return _parse(_read_text(path), path)


def write_source(path: Path, rows: Iterable[SourceRow]) -> None:
    """Write a source CSV, atomically, without the columns that no row uses; a name in .gz is packed.

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
    data = buffer.getvalue().encode()
    with atomic_path(path) as temporary:
        # The same rows always give the same bytes: neither the file's name nor the time is in them.
        temporary.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def class_names(rows: Iterable[SourceRow]) -> list[str]:
    """Return the labels that occur, in natural order: ``2`` before ``10``."""
    return sorted({row.label for row in rows if row.label}, key=_natural)


def video_path(root: Path, row: SourceRow, *, follow_links: bool = False) -> Path:
    """Return the absolute path of a row's video, whether it exists or not.

    Raises:
        SourceError: A symbolic link on the way leads in a circle, or out of `root` without `follow_links`.
    """
    folder = root.resolve()
    thing, fix = f"id {row.id!r}", "put the file itself there"
    try:
        path = (folder / row.video).resolve()
    except RuntimeError as error:  # Python 3.13 and later return a path that does not exist
        problem = f"video {row.video!r} is a link that leads back to itself"
        raise SourceError(thing, problem, fix=fix) from error
    if not follow_links and not path.is_relative_to(folder):
        problem = f"video {row.video!r} is a link to {path}, outside {folder}"
        raise SourceError(
            thing, problem, fix=f"{fix}, or pass --follow-links if you trust the list"
        )
    return path


def _natural(text: str) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"(\d+)", text)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p], text


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device may never end
            raise SourceError(path, "is not a file", fix="give a source CSV")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(path, f"cannot be read ({reason})", fix="give a source CSV") from error
    if len(data) > _MAX_FILE_BYTES:
        raise SourceError(
            path, f"has more than {_MAX_FILE_BYTES} bytes", fix="split it into several source CSVs"
        )
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
    if fault := _header_fault(header):
        raise SourceError(f"{path}: line {line}", fault[0], fix=fault[1])
    rows = {line: _row(header, cells, path, line) for line, cells in records}
    if not rows:
        raise SourceError(path, "lists no video", fix=f"add rows below {','.join(header)}")
    _check_together(rows, path)
    return list(rows.values())


def _records(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line at which each record begins and its cells; empty records are skipped."""
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


def _header_fault(header: list[str]) -> tuple[str, str] | None:
    """Return the problem of a header and its fix, or None."""
    if len(header) == 1 and any(separator in header[0] for separator in ";\t"):
        return f"{header[0]!r:.80} is one column", "separate columns by commas"
    for column in header:
        if column not in COLUMNS:
            fix = f"remove it or name it one of: {', '.join(COLUMNS)}"
            return f"column {column!r:.80} is not known", fix
        if header.count(column) > 1:
            return f"column {column!r} comes twice", "keep one of them"
    for column in REQUIRED_COLUMNS:
        if column not in header:
            fix = f"the first line names the columns: {','.join(REQUIRED_COLUMNS)}"
            return f"column {column!r} is missing", fix
    return None


def _row(header: list[str], cells: list[str], path: Path, line: int) -> SourceRow:
    if len(cells) != len(header):
        raise SourceError(
            f"{path}: line {line}",
            f"has {len(cells)} cells beginning with {cells[0]!r:.80}, the header has {len(header)}",
            fix="give one cell per column; a cell with a comma needs double quotes",
        )
    filled = {
        c: cell for c, cell in zip(header, cells, strict=True) if cell or c in REQUIRED_COLUMNS
    }
    try:
        row = _ROW.validate_python(filled)
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        rule = first["msg"].removeprefix("Value error, ")
        raise _at(path, line, str(first["loc"][0]), first["input"], rule) from None
    if row.end_seconds is not None and row.end_seconds <= (row.start_seconds or 0.0):
        rule = f"must be later than start_seconds, {row.start_seconds or 0.0:g}"
        raise _at(path, line, "end_seconds", row.end_seconds, rule)
    if row.end_frame is not None and row.end_frame <= (row.start_frame or 0):
        rule = f"must be more than start_frame, {row.start_frame or 0}"
        raise _at(path, line, "end_frame", row.end_frame, rule)
    in_frames = row.start_frame is not None or row.end_frame is not None
    if in_frames and (row.start_seconds is not None or row.end_seconds is not None):
        rule = "is beside a time; give frames or seconds"
        raise _at(path, line, "start_frame", row.start_frame or 0, rule)
    return row


def _at(path: Path, line: int, column: str, value: object, rule: str) -> SourceError:
    """Return the error for a cell; `rule` may end in a semicolon and the next step."""
    problem, _, fix = rule.partition("; ")
    thing = f"{path}: line {line}, column {column}"
    return SourceError(thing, f"{value!r:.80} {problem}", fix=fix or "correct the cell")


def _check_together(rows: dict[int, SourceRow], path: Path) -> None:
    """Check the rows, by their line, together: unique ids, groups in one split, labels that are trained."""
    first: dict[str, int] = {}
    groups: dict[str, tuple[str, int]] = {}
    trained = {row.label for row in rows.values() if row.split == "train"}
    for line, row in rows.items():
        if (earlier := first.setdefault(row.id, line)) != line:
            rule = f"is also the id of line {earlier}; give every row an id of its own"
            raise _at(path, line, "id", row.id, rule)
        if row.group is not None:
            split, earlier = groups.setdefault(row.group, (row.split, line))
            if split != row.split:
                leak = f"is in {row.split} here and in {split} on line {earlier}, so results leak"
                raise _at(path, line, "group", row.group, f"{leak}; keep a group in one split")
        if not row.label and row.split != "test":
            rule = (
                f"is empty in split {row.split}; write the class, or leave it empty in split test"
            )
            raise _at(path, line, "label", row.label, rule)
        if trained and row.label and row.label not in trained:
            rule = f"is in {row.split} but no train row has it; correct it or add train rows"
            raise _at(path, line, "label", row.label, rule)
