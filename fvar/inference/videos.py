"""Which videos a user means by files, folders and lists."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from fvar.errors import SourceError
from fvar.sources.video_files import SUFFIXES, holds_pictures, video_files

_LIST_COLUMNS = ("video", "path")


def find_videos(given: Iterable[Path]) -> list[Path]:
    """Return the videos that paths stand for, in order, each once.

    A file is a video, unless its suffix is .csv: a list with a column `video` or `path`, relative to the
    list. A folder that holds pictures is a video; any other folder stands for all videos below it.

    Raises:
        SourceError: A list cannot be used, or a folder holds no video.
    """
    found = dict[Path, None]()
    for path in given:
        found |= dict.fromkeys(_videos_of(path.expanduser()))
    return list(found)


def _videos_of(path: Path) -> Iterator[Path]:
    if path.suffix.lower() == ".csv":
        yield from _read_list(path)
    elif path.is_dir() and not holds_pictures(path):
        videos = video_files(path)
        if not videos:
            suffixes = ", ".join(SUFFIXES)
            raise SourceError(
                path, f"holds no video ({suffixes})", fix="name the files, or another folder"
            )
        yield from videos
    else:
        yield path  # if it does not exist, that is the answer for it


def _read_list(path: Path) -> list[Path]:
    """Return the videos that a CSV lists."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(path, f"cannot be read ({reason})", fix="give a CSV in UTF-8") from error
    column = next((name for name in _LIST_COLUMNS if rows and name in rows[0]), None)
    if column is None:
        raise SourceError(
            path,
            "has no column `video` or `path`, or no row",
            fix="add the column, one video a row",
        )
    for number, row in enumerate(rows, start=2):
        if not row[column]:
            raise SourceError(
                f"{path}: row {number}", f"{column} is empty", fix="name a video or remove the row"
            )
        if any(
            row.get(f"{end}_{unit}") for end in ("start", "end") for unit in ("seconds", "frame")
        ):
            raise SourceError(
                f"{path}: row {number}",
                "names a segment, a prediction is for a whole video",
                fix="cut the video, or use `fvar extract` and `fvar eval`, or --windows",
            )
    return [path.parent / row[column] for row in rows]
