"""Kinetics-400, 600 and 700: the official CSV files; the validation list becomes split `test`.

Results are reported on that list. As split `val` it would also choose the checkpoint, which is not allowed to
see the videos of a reported result. How many videos can still be had changes from month to month, so no count
is checked.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from fvar.errors import SourceError
from fvar.fields import Split
from fvar.sources.lists import Dataset
from fvar.sources.source_csv import SourceRow

_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_FOLDERS = {"train": ("train",), "val": (), "test": ("val", "validate", "validation")}
_LISTS: tuple[tuple[Split, tuple[str, ...]], ...] = (
    ("train", ("train.csv",)),
    ("test", ("validate.csv", "val.csv", "validation.csv")),
)


def read(folder: Path, _: int) -> list[SourceRow]:
    """Read `train.csv` and `validate.csv` or `val.csv`, with the columns in `_COLUMNS` and any others."""
    rows: list[SourceRow] = []
    for split, names in _LISTS:
        path = next(
            (folder / name for name in names if (folder / name).exists()), folder / names[0]
        )
        rows += _rows(path, split)
    return rows


def _rows(path: Path, split: Split) -> Iterator[SourceRow]:
    fix = "give --annotations the folder of the official lists"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, cells in enumerate(csv.DictReader(file), start=2):
                try:
                    label, video, start, end = (cells[column].strip() for column in _COLUMNS)
                    name = f"{video}_{int(float(start)):06d}_{int(float(end)):06d}"
                except (LookupError, AttributeError, ValueError, OverflowError) as error:
                    raise SourceError(
                        f"{path}: line {number}",
                        f"has not the columns {', '.join(_COLUMNS)} with whole seconds",
                        fix="download the list again",
                    ) from error
                yield SourceRow(name, f"{label}/{name}.mp4", label, split)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(path, f"cannot be read ({reason})", fix=fix) from error


def other_paths(row: SourceRow) -> list[str]:
    """Return where downloads put a clip: below its split, with or without its class, or all together."""
    plain = f"{row.id}.mp4"
    folders = _FOLDERS[row.split]
    return [path for at in folders for path in (f"{at}/{plain}", f"{at}/{row.video}")] + [plain]


DATASETS = {
    "kinetics": Dataset(
        "Kinetics, test = the official validation list",
        counts=(None,),
        read=read,
        other_paths=other_paths,
    )
}
