"""A folder with a folder for each class, as rows of a source CSV.

Either ``VIDEOS/CLASS/...`` or, where the splits are decided, ``VIDEOS/train/CLASS/...`` with val and test
beside train. A video is a file or a folder of pictures.
"""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from fvar.errors import ConfigError, SourceError
from fvar.fields import Split
from fvar.sources.source_csv import SourceRow
from fvar.sources.video_files import video_files

_SPLITS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def rows_of_folders(
    videos: Path,
    *,
    val: float,
    test: float,
    group_by: str | None,
    seed: int,
    labels: Path | None = None,
) -> list[SourceRow]:
    """Return a row for each video below a folder; the splits of a class have about the shares asked for.

    Args:
        videos: Holds a folder for each class, or folders train, val and test that do.
        labels: CSV with the columns `video` (path below `videos`) and `label`, instead of class folders.
        val: Share of the videos in split val, in 0..1.
        test: Share in split test.
        group_by: Regular expression: videos for whose path below `videos` it finds the same text (its first
            group, or all of it) stay in one split, for example those of one person. None: each for itself.
        seed: Of the order in which groups go to splits.

    Raises:
        SourceError: There is no class folder, or no video in one.
        ConfigError: The shares leave nothing to train, or the expression is wrong or finds nothing in a path.
    """
    if val + test >= 1:
        raise ConfigError(
            f"--val {val:g} --test {test:g}", "leave no video to train", fix="ask for less"
        )
    if not videos.is_dir():
        raise SourceError(
            videos, "is no folder", fix="give the folder that holds the class folders"
        )
    folders = sorted(folder for folder in videos.iterdir() if _is_shown_folder(folder))
    if labels is None and folders and all(folder.name.lower() in _SPLITS for folder in folders):
        return [
            row
            for split in folders
            for row in _rows(videos, _class_folders(split), _SPLITS[split.name.lower()])
        ]
    if labels is None:
        rows = _rows(videos, _class_folders(videos), "train")
    else:
        rows = [_row(video, video, label, "train", None) for video, label in _read_labels(labels)]
    groups = [_group(row.video, group_by) for row in rows]
    splits = _assign(rows, groups, {"train": 1 - val - test, "val": val, "test": test}, seed)
    return [
        _row(row.id, row.video, row.label, splits[group], group if group_by else None)
        for row, group in zip(rows, groups, strict=True)
    ]


def _read_labels(path: Path) -> list[tuple[str, str]]:
    """Return the videos and labels that a CSV lists."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(row["video"], row["label"]) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        reason = getattr(error, "strerror", None) or f"no column {error}"
        raise SourceError(
            path, f"cannot be read ({reason})", fix="give a CSV with the columns video and label"
        ) from error
    if not rows:
        raise SourceError(path, "lists no video", fix="add a row for each video")
    return rows


def _is_shown_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _class_folders(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if _is_shown_folder(path))
    if not found:
        raise SourceError(
            folder,
            "holds no folder",
            fix="put the videos of each class into a folder of its name",
        )
    return found


def _rows(videos: Path, classes: Sequence[Path], split: Split) -> list[SourceRow]:
    rows = []
    for folder in classes:
        found = video_files(folder)
        if not found:
            raise SourceError(folder, "holds no video", fix="add one, or remove the folder")
        for path in found:
            below = path.relative_to(videos).as_posix()
            rows.append(_row(below, below, folder.name, split, None))
    return rows


def _row(name: str, video: str, label: str, split: Split, group: str | None) -> SourceRow:
    return SourceRow(id=name, video=video, label=label, split=split, group=group)


def _group(video: str, expression: str | None) -> str:
    if expression is None:
        return video
    try:
        found = re.search(expression, video)
    except re.error as error:
        raise ConfigError(
            f"--group-by {expression}", f"is no regular expression ({error})", fix="correct it"
        ) from error
    if found is None:
        raise ConfigError(f"--group-by {expression}", f"finds nothing in {video}", fix="correct it")
    return found[1] if found.re.groups else found[0]


def _assign(
    rows: Sequence[SourceRow], groups: Sequence[str], shares: Mapping[Split, float], seed: int
) -> dict[str, Split]:
    """Return the split of each group: in a random order, that which lacks most of the group's classes."""
    members: dict[str, Counter[str]] = {}
    for row, group in zip(rows, groups, strict=True):
        members.setdefault(group, Counter())[row.label] += 1
    totals, held = Counter(row.label for row in rows), Counter[tuple[Split, str]]()
    asked = [split for split, share in shares.items() if share > 0]
    splits: dict[str, Split] = {}
    for group in sorted(members, key=lambda name: sha256(f"{seed} {name}".encode()).digest()):
        labels = members[group]

        def filled(split: Split, labels: Counter[str] = labels) -> float:
            parts = (
                number * held[split, label] / (shares[split] * totals[label])
                for label, number in labels.items()
            )
            return sum(parts)

        splits[group] = min(asked, key=filled)  # of equal ones the first, train
        for label, number in labels.items():
            held[splits[group], label] += number
    return splits
