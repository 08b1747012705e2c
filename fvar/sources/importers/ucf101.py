"""UCF101: three official splits, in which the takes of one scene stay together."""

import re
from functools import partial
from pathlib import Path

from fvar.fields import Split
from fvar.sources.lists import Dataset, Line, numbered_classes, read_splits
from fvar.sources.source_csv import SourceRow

_VIDEO = re.compile(r"(?P<label>[A-Za-z0-9]+)/(?P<id>v_[A-Za-z0-9]+_(?P<group>g\d+)_c\d+)\.avi")


def read(folder: Path, split_number: int) -> list[SourceRow]:
    """Read `classInd.txt`, `trainlist0N.txt` and `testlist0N.txt`."""
    classes = numbered_classes(folder / "classInd.txt")
    train, test = (folder / f"{name}list0{split_number}.txt" for name in ("train", "test"))
    return read_splits({"train": train, "test": test}, partial(_row, classes))


def _row(classes: dict[str, str], line: Line, split: Split) -> SourceRow:
    video, *more = line.cells
    match = _VIDEO.fullmatch(video)
    if match is None or match["label"] not in classes.values():
        raise line.error(
            video, "is not a video of a known class like Archery/v_Archery_g08_c01.avi"
        )
    label = match["label"]
    if split == "train" and (len(more) != 1 or classes.get(more[0]) != label):
        raise line.error(" ".join(more), f"is not the number of class {label} in classInd.txt")
    if split == "test" and more:
        raise line.error(" ".join(line.cells), "is more than a path, which is all a test list has")
    return SourceRow(match["id"], video, label, split, group=f"{label}_{match['group']}")


DATASETS = {
    "ucf101": Dataset(
        "UCF101, official split {split_number} of 3",
        counts=((9537, 3783), (9586, 3734), (9624, 3696)),
        read=read,
    )
}
