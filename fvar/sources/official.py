"""The public data sets that are known by name, and their official splits."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fvar.config import Split
from fvar.errors import ConfigError
from fvar.sources.official_lists import (
    BREAKFAST_VIDEO,
    breakfast,
    breakfast_persons,
    hmdb51,
    something,
    ucf101,
)
from fvar.sources.source_csv import SourceRow, write_source

DatasetName = Literal[
    "ucf101", "hmdb51", "breakfast", "breakfast_persons", "something_v1", "something_v2"
]


@dataclass(frozen=True)
class OfficialSplit:
    """One official division of a data set.

    Attributes:
        protocol: What to call it beside a result.
        rows: Its videos, those to train with first.
        official: How many videos of each split its authors count.
    """

    protocol: str
    rows: list[SourceRow]
    official: Mapping[Split, int]

    @property
    def counts(self) -> dict[Split, int]:
        """How many rows there are of each split."""
        return dict(Counter(row.split for row in self.rows))

    @property
    def is_official(self) -> bool:
        """Whether the lists hold as many videos as their authors count."""
        return self.counts == dict(self.official)


@dataclass(frozen=True)
class _Dataset:
    title: str
    read: Callable[[Path, int], list[SourceRow]]
    counts: tuple[tuple[int, int], ...]  # train and test videos of each official split


def read_official(
    dataset: DatasetName, annotations: Path, *, split_number: int = 1
) -> OfficialSplit:
    """Read a data set's official lists.

    Args:
        dataset: Which one. `breakfast_persons` trains on the first 44 persons of Breakfast and tests on the
            last 8. Something-Something's validation list becomes `test`: it is what the field reports on, and
            `val` would let training choose its checkpoint by it.
        annotations: The folder of the lists.
        split_number: Which of the official splits, from 1.

    Raises:
        ConfigError: There is no such data set or split.
        SourceError: A list is missing or a line of it is not what it should be.
    """
    if dataset not in _DATASETS:
        raise ConfigError(
            dataset, "is not a known data set", fix=f"choose one of: {', '.join(_DATASETS)}"
        )
    known = _DATASETS[dataset]
    if not 1 <= split_number <= len(known.counts):
        raise ConfigError(
            f"--split-number {split_number}",
            f"{dataset} has {len(known.counts)} official splits",
            fix=f"give a number from 1 to {len(known.counts)}",
        )
    train, test = known.counts[split_number - 1]
    return OfficialSplit(
        protocol=known.title.format(split_number=split_number),
        rows=known.read(annotations, split_number),
        official={"train": train, "test": test},
    )


def find_videos(rows: list[SourceRow], videos: Path) -> tuple[list[SourceRow], list[SourceRow]]:
    """Look for the rows' files below `videos`.

    Breakfast's archive names a video otherwise than its lists do (`P03/cam01/P03_tea.avi` for
    `P03_cam01_P03_tea.avi`); a row takes the name that is there.

    Returns:
        All rows, and those without a file.
    """
    found = [_as_on_disk(row, videos) for row in rows]
    return found, [row for row in found if not (videos / row.video).exists()]


def _as_on_disk(row: SourceRow, videos: Path) -> SourceRow:
    match = BREAKFAST_VIDEO.fullmatch(row.video)
    if match is None or (videos / row.video).exists():
        return row
    person, camera, activity = match["person"], match["camera"], match["activity"]
    folder, channel = ("stereo", "_ch0") if camera.startswith("stereo") else (camera, "")
    archived = f"{person}/{folder}/{person}_{activity}{channel}.avi"
    return replace(row, video=archived) if (videos / archived).exists() else row


def write_official(path: Path, rows: list[SourceRow], *, overwrite: bool) -> None:
    """Write the source CSV.

    Raises:
        ConfigError: It exists and `overwrite` is off.
        SourceError: The rows contradict each other: an id comes twice, a group is in two splits.
    """
    if path.exists() and not overwrite:
        raise ConfigError(
            path, "exists already", fix="choose another --out or pass --overwrite to replace it"
        )
    write_source(path, rows)


_DATASETS: dict[str, _Dataset] = {
    "ucf101": _Dataset(
        "UCF101, official split {split_number} of 3",
        ucf101,
        ((9537, 3783), (9586, 3734), (9624, 3696)),
    ),
    "hmdb51": _Dataset("HMDB51, official split {split_number} of 3", hmdb51, ((3570, 1530),) * 3),
    "breakfast": _Dataset(
        "Breakfast, 10 activities, persons' split s{split_number} of s1 to s4",
        breakfast,
        ((1460, 252), (1261, 451), (1279, 433), (1136, 576)),
    ),
    "breakfast_persons": _Dataset(
        "Breakfast, 10 activities, first 44 persons to train, last 8 to test",
        lambda folder, _: breakfast_persons(folder),
        ((1357, 355),),
    ),
    "something_v1": _Dataset(
        "Something-Something V1, test = the official validation list",
        lambda folder, _: something(folder, version=1),
        ((86017, 11522),),
    ),
    "something_v2": _Dataset(
        "Something-Something V2, test = the official validation list",
        lambda folder, _: something(folder, version=2),
        ((168913, 24777),),
    ),
}
