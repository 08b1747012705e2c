"""Readers of the lists that data sets publish, one a data set: the rows of a source CSV.

Every reader takes the folder of the lists. It raises SourceError, naming file, line and value, where a list
is missing or a line is not what it should be.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fvar.config import Split
from fvar.errors import SourceError
from fvar.sources.source_csv import SourceRow

_NUM_TRAINING_PERSONS = 44  # of Breakfast's 52, in natural order

_UCF101_VIDEO = re.compile(
    r"(?P<label>[A-Za-z0-9]+)/(?P<id>v_[A-Za-z0-9]+_(?P<group>g\d+)_c\d+)\.avi"
)
_HMDB51_VIDEO = re.compile(r"(?P<id>[^/\\]+)\.avi")
_HMDB51_SPLITS: dict[str, Split | None] = {"0": None, "1": "train", "2": "test"}
BREAKFAST_VIDEO = re.compile(
    r"(?P<id>(?P<person>P\d+)_(?P<camera>[a-z]+\d+)_(?P=person)_(?P<activity>[a-z]+))\.avi"
)
_SOMETHING_ID = re.compile(r"\d+")


@dataclass(frozen=True)
class _Line:
    """A place in a list."""

    path: Path
    number: int

    def error(self, value: str, rule: str) -> SourceError:
        return SourceError(
            f"{self.path}: line {self.number}",
            f"{value!r:.80} {rule}",
            fix="correct the line or fetch the list again",
        )


def _lines(path: Path) -> Iterator[tuple[_Line, list[str]]]:
    """Yield each line that is not blank and its cells, which blanks divide."""
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
            yield _Line(path, number), cells


def ucf101(folder: Path, split_number: int) -> list[SourceRow]:
    """Read `classInd.txt`, `trainlist0N.txt` and `testlist0N.txt`; a group is one set of takes."""
    classes = _numbered_classes(folder / "classInd.txt")
    lists: tuple[tuple[Split, str], ...] = (("train", "trainlist"), ("test", "testlist"))
    return [
        _ucf101_row(cells, line, classes=classes, split=split)
        for split, name in lists
        for line, cells in _lines(folder / f"{name}{split_number:02d}.txt")
    ]


def _ucf101_row(
    cells: list[str], line: _Line, *, classes: dict[str, str], split: Split
) -> SourceRow:
    match = _UCF101_VIDEO.fullmatch(cells[0])
    if match is None or match["label"] not in classes.values():
        raise line.error(
            cells[0], "is not a video of a known class like Archery/v_Archery_g08_c01.avi"
        )
    if split == "train" and (len(cells) != 2 or classes.get(cells[1]) != match["label"]):
        number = " ".join(cells[1:])
        raise line.error(number, f"is not the number of class {match['label']} in classInd.txt")
    if split == "test" and len(cells) != 1:
        raise line.error(" ".join(cells), "has more than a path, test lists hold nothing else")
    group = f"{match['label']}_{match['group']}"
    return SourceRow(match["id"], cells[0], match["label"], split, group=group)


def hmdb51(folder: Path, split_number: int) -> list[SourceRow]:
    """Read the lists `CLASS_test_splitN.txt`, one a class."""
    suffix = f"_test_split{split_number}.txt"
    lists = sorted(folder.glob(f"*{suffix}"))
    if not lists:
        raise SourceError(
            folder, f"holds no list named CLASS{suffix}", fix="give the folder of HMDB51's lists"
        )
    rows = [
        row
        for path in lists
        for line, cells in _lines(path)
        if (row := _hmdb51_row(cells, line, label=path.name.removesuffix(suffix)))
    ]
    return _train_first(rows)


def _hmdb51_row(cells: list[str], line: _Line, *, label: str) -> SourceRow | None:
    """Return the line's row; None for the videos that a split leaves out."""
    match = _HMDB51_VIDEO.fullmatch(cells[0])
    if match is None:
        raise line.error(cells[0], "is not the name of an .avi file")
    if len(cells) != 2 or cells[1] not in _HMDB51_SPLITS:
        raise line.error(" ".join(cells[1:]), "is not 0 (unused), 1 (train) or 2 (test)")
    split = _HMDB51_SPLITS[cells[1]]
    return split and SourceRow(match["id"], f"{label}/{cells[0]}", label, split)


def breakfast(folder: Path, split_number: int) -> list[SourceRow]:
    """Read `classInd.txt`, `sN_train.txt` and `sN_test.txt`; a group is a person."""
    classes = _numbered_classes(folder / "classInd.txt")
    return [
        _breakfast_row(cells, line, classes=classes, split=split)
        for split in ("train", "test")
        for line, cells in _lines(folder / f"s{split_number}_{split}.txt")
    ]


def _breakfast_row(
    cells: list[str], line: _Line, *, classes: dict[str, str], split: Split
) -> SourceRow:
    match = BREAKFAST_VIDEO.fullmatch(cells[0])
    if match is None:
        raise line.error(cells[0], "is not a video like P03_cam01_P03_tea.avi")
    if len(cells) < 2 or classes.get(cells[1]) != match["activity"]:
        number = cells[1] if len(cells) > 1 else ""
        raise line.error(number, f"is not the number of {match['activity']} in classInd.txt")
    return SourceRow(match["id"], cells[0], match["activity"], split, group=match["person"])


def breakfast_persons(folder: Path) -> list[SourceRow]:
    """Divide the videos of s1, which holds them all, by person instead."""
    rows = breakfast(folder, 1)
    persons = sorted({str(row.group) for row in rows}, key=lambda person: int(person[1:]))
    training = set(persons[:_NUM_TRAINING_PERSONS])
    return _train_first(
        [replace(row, split="train" if row.group in training else "test") for row in rows]
    )


def something(folder: Path, *, version: int) -> list[SourceRow]:
    """Read `category.txt` and `somesomevV_rgb_train_split.txt` and `..._validation_split.txt`."""
    labels = [" ".join(cells) for _, cells in _lines(folder / "category.txt")]
    lists: tuple[tuple[Split, str], ...] = (("train", "train"), ("test", "validation"))
    return [
        _something_row(cells, line, labels=labels, split=split, version=version)
        for split, name in lists
        for line, cells in _lines(folder / f"somesomev{version}_rgb_{name}_split.txt")
    ]


def _something_row(
    cells: list[str], line: _Line, *, labels: list[str], split: Split, version: int
) -> SourceRow:
    if len(cells) != 3 or not all(_SOMETHING_ID.fullmatch(cell) for cell in cells):
        raise line.error(" ".join(cells), "is not three numbers: video, frames, class")
    if int(cells[2]) >= len(labels):
        raise line.error(cells[2], f"is not one of the {len(labels)} classes of category.txt")
    video = cells[0] if version == 1 else f"{cells[0]}.webm"  # V1 comes as folders of pictures
    return SourceRow(cells[0], video, labels[int(cells[2])], split)


def _train_first(rows: list[SourceRow]) -> list[SourceRow]:
    return sorted(rows, key=lambda row: row.split != "train")


def _numbered_classes(path: Path) -> dict[str, str]:
    """Read lines of a number and a class name."""
    classes: dict[str, str] = {}
    for line, cells in _lines(path):
        if len(cells) != 2 or not cells[0].isdecimal() or cells[0] in classes:
            raise line.error(" ".join(cells), "is not a new number and a class name")
        classes[cells[0]] = cells[1]
    return classes
