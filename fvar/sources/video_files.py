"""Which files below a folder are videos."""

import os
from collections.abc import Iterator
from pathlib import Path

# What cameras, phones and editors write. A file that is named itself may have any other suffix.
SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".mts", ".ogv", ".ts", ".webm", ".wmv"),
)
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def holds_pictures(folder: Path) -> bool:
    """Return whether a folder holds pictures itself: it is one video."""
    return any(file.suffix.lower() in _PICTURES for file in folder.iterdir())


def video_files(folder: Path) -> list[Path]:
    """Return the videos below a folder, sorted: video files, and folders that hold pictures."""
    return sorted(_walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        shown = [name for name in files if not name.startswith(".")]
        if any(name.lower().endswith(_PICTURES) for name in shown):
            yield Path(place)
        yield from (Path(place, name) for name in shown if name.lower().endswith(SUFFIXES))
