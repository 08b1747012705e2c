"""Breakfast, 10 activities: its four official splits by person, and the split of the first 44 persons."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from fvar.fields import Split
from fvar.sources.lists import Dataset, Line, numbered_classes, read_splits, train_first
from fvar.sources.source_csv import SourceRow

_NUM_TRAINING_PERSONS = 44  # of 52, in natural order
_VIDEO = re.compile(r"(?P<id>(?P<person>P\d{1,4})_[a-z]+\d+_(?P=person)_(?P<activity>[a-z]+))\.avi")


def read(folder: Path, split_number: int) -> list[SourceRow]:
    """Read `classInd.txt`, `sN_train.txt` and `sN_test.txt`, else `train.splitN.bundle` and its `test`."""
    lists: dict[Split, Path] = {
        "train": folder / f"s{split_number}_train.txt",
        "test": folder / f"s{split_number}_test.txt",
    }
    bundles: dict[Split, Path] = {
        "train": folder / f"train.split{split_number}.bundle",
        "test": folder / f"test.split{split_number}.bundle",
    }
    if bundles["train"].exists() and not lists["train"].exists():
        return read_splits(bundles, _bundle_row)
    classes = numbered_classes(folder / "classInd.txt")
    return read_splits(lists, partial(_row, classes))


def _row(classes: dict[str, str], line: Line, split: Split) -> SourceRow:
    video, *more = line.cells
    match = _VIDEO.fullmatch(video)
    if match is None:
        raise line.error(video, "is not a video like P03_cam01_P03_tea.avi")
    number = more[0] if more else ""
    if classes.get(number) != match["activity"]:
        raise line.error(number, f"is not the number of {match['activity']} in classInd.txt")
    return SourceRow(match["id"], video, match["activity"], split, group=match["person"])


def _bundle_row(line: Line, split: Split) -> SourceRow | None:
    """Return the row of a line like `./data/groundTruth/P03_cam01_P03_tea.txt`; None for `#bundle`."""
    (name, *_) = line.cells
    if name.startswith("#"):
        return None
    video = f"{Path(name).stem}.avi"
    match = _VIDEO.fullmatch(video)
    if match is None:
        raise line.error(name, "is not the ground truth of a video like P03_cam01_P03_tea")
    return SourceRow(match["id"], video, match["activity"], split, group=match["person"])


def read_persons(folder: Path, _: int) -> list[SourceRow]:
    """Read the lists of s1, which hold all videos, and split them by person."""
    rows = read(folder, 1)
    persons = sorted({str(row.group) for row in rows}, key=lambda person: int(person[1:]))
    training = set(persons[:_NUM_TRAINING_PERSONS])
    return train_first(
        [replace(row, split="train" if row.group in training else "test") for row in rows]
    )


def path_in_archive(row: SourceRow) -> list[str]:
    """Return the path in the official archive: `P03/cam01/P03_tea.avi` for `P03_cam01_P03_tea.avi`."""
    person, camera, _, activity = row.id.split("_")
    folder, channel = ("stereo", "_ch0") if camera.startswith("stereo") else (camera, "")
    return [f"{person}/{folder}/{person}_{activity}{channel}.avi"]


DATASETS = {
    "breakfast": Dataset(
        "Breakfast, 10 activities, persons' split s{split_number} of s1 to s4",
        counts=((1460, 252), (1261, 451), (1279, 433), (1136, 576)),
        read=read,
        other_paths=path_in_archive,
    ),
    "breakfast_persons": Dataset(
        "Breakfast, 10 activities, first 44 persons to train, last 8 to test",
        counts=((1357, 355),),
        read=read_persons,
        other_paths=path_in_archive,
    ),
}
