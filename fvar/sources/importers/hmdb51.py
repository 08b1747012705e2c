"""HMDB51: three official splits, each of which leaves some videos out."""

import re
from pathlib import Path

from fvar.errors import SourceError
from fvar.fields import Split
from fvar.sources.lists import Dataset, Line, read_lines, train_first
from fvar.sources.source_csv import SourceRow

_VIDEO = re.compile(r"(?P<id>[^/\\]+)\.avi")
_SPLITS: dict[str, Split | None] = {"0": None, "1": "train", "2": "test"}


def read(folder: Path, split_number: int) -> list[SourceRow]:
    """Read the lists `CLASS_test_splitN.txt`, one per class."""
    suffix = f"_test_split{split_number}.txt"
    lists = sorted(folder.glob(f"*{suffix}"))
    if not lists:
        raise SourceError(
            folder, f"holds no list named CLASS{suffix}", fix="give the folder of HMDB51's lists"
        )
    rows = [
        _row(line, label=path.name.removesuffix(suffix))
        for path in lists
        for line in read_lines(path)
    ]
    return train_first([row for row in rows if row])


def _row(line: Line, *, label: str) -> SourceRow | None:
    """Return the line's row, or None for a video that the split leaves out."""
    video, *more = line.cells
    match = _VIDEO.fullmatch(video)
    if match is None:
        raise line.error(video, "is not the name of an .avi file")
    if len(more) != 1 or more[0] not in _SPLITS:
        raise line.error(" ".join(more), "is not 0 (unused), 1 (train) or 2 (test)")
    split = _SPLITS[more[0]]
    return split and SourceRow(match["id"], f"{label}/{video}", label, split)


DATASETS = {
    "hmdb51": Dataset(
        "HMDB51, official split {split_number} of 3", counts=((3570, 1530),) * 3, read=read
    )
}
