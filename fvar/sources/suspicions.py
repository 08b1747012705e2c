"""Rows of a source CSV that are allowed and hardly meant: labels that look the same, a file in two splits."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from fvar.errors import SourceError
from fvar.sources.source_csv import SourceRow


def check_label_forms(rows: Iterable[SourceRow]) -> None:
    """Refuse labels that differ in nothing but their Unicode form: no screen shows a difference.

    Raises:
        SourceError: Names the first pair.
    """
    seen: dict[str, str] = {}
    for label in dict.fromkeys(row.label for row in rows):
        other = seen.setdefault(unicodedata.normalize("NFC", label), label)
        if other != label:
            raise SourceError(
                f"labels {other!a} and {label!a}",
                "are one word in two Unicode forms (NFC and NFD)",
                fix="write both in the same form",
            )


def odd_labels(rows: Iterable[SourceRow]) -> Iterator[str]:
    """Yield a line about labels that differ in case or blanks alone, if there are any."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label in dict.fromkeys(row.label for row in rows):
        alike[" ".join(label.casefold().split())].append(label)
    pairs = [labels for labels in alike.values() if len(labels) > 1]
    if pairs:
        first, second = pairs[0][:2]
        yield (
            f"labels {first!r} and {second!r} differ in case or blanks alone and are two classes"
            f"{_more(len(pairs) - 1, 'such pairs')}"
        )


def paths_of(rows: Iterable[SourceRow]) -> dict[str, object]:
    """Return the path of each row's video, by id."""
    return {row.id: os.path.normpath(row.video) for row in rows}


def repeated_videos(rows: Sequence[SourceRow], names: Mapping[str, object]) -> Iterator[str]:
    """Yield a line about whole videos that are in two splits, and one about those with two labels.

    Args:
        rows: Of the source CSV.
        names: What identifies the video of a row, by the row's id: its path, or its hash.
    """
    same: dict[object, list[SourceRow]] = defaultdict(list)
    for row in rows:
        parts = (row.start_seconds, row.end_seconds, row.start_frame, row.end_frame)
        if parts == (None,) * len(parts) and row.id in names:
            same[names[row.id]].append(row)
    for column, what in (("split", "so results leak"), ("label", "only one can be right")):
        found = [
            members
            for members in same.values()
            if len({getattr(r, column) for r in members} - {""}) > 1
        ]
        if found:
            members = [row for row in found[0] if getattr(row, column)]
            first = members[0]
            second = next(r for r in members if getattr(r, column) != getattr(first, column))
            yield (
                f"{first.id!r} and {second.id!r} are the same video with {column} "
                f"{getattr(first, column)!r} and {getattr(second, column)!r}, {what}"
                f"{_more(len(found) - 1, 'such videos')}"
            )


def _more(number: int, what: str) -> str:
    return f", and {number} more {what}" if number else ""


def similar_path(path: Path) -> Path | None:
    """Return what exists in place of a path that does not, but for case or Unicode form; None: nothing."""
    found = Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        if (found / part).exists():
            found /= part
            continue
        try:
            names = _names(found, found.stat().st_mtime_ns)
        except OSError:
            return None
        name = names.get(_plain(part))
        if name is None:
            return None
        found /= name
    return None if found == path else found


@lru_cache(maxsize=16)  # thousands of videos may be missing in one folder
def _names(folder: Path, _changed_ns: int) -> dict[str, str]:
    """Return the names in a folder by their plain form; of several the first."""
    return {_plain(child.name): child.name for child in sorted(folder.iterdir(), reverse=True)}


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
