"""The official splits of public data sets as source CSVs."""

import pkgutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from fvar.config import Split
from fvar.errors import ConfigError
from fvar.sources import importers
from fvar.sources.lists import Dataset
from fvar.sources.source_csv import SourceRow, write_source


@dataclass(frozen=True)
class OfficialSplit:
    """One official split of a data set.

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


def datasets() -> dict[str, Dataset]:
    """Return all data sets by name, from the files in `fvar/sources/importers`."""
    found: dict[str, Dataset] = {}
    for module in pkgutil.iter_modules(importers.__path__, f"{importers.__name__}."):
        found.update(import_module(module.name).DATASETS)
    return found


def find_dataset(name: str) -> Dataset:
    """Return a data set.

    Raises:
        ConfigError: There is none of that name.
    """
    known = datasets()
    if name not in known:
        raise ConfigError(name, "is not a known data set", fix=f"choose one of: {', '.join(known)}")
    return known[name]


def read_official(name: str, annotations: Path, *, split_number: int = 1) -> OfficialSplit:
    """Read the official lists of a data set.

    Args:
        name: Of the data set.
        annotations: The folder of the lists.
        split_number: Which of the official splits, from 1.

    Raises:
        ConfigError: There is no such data set or split.
        SourceError: A list is missing or a line of it is not what it should be.
    """
    dataset = find_dataset(name)
    num_splits = len(dataset.counts)
    if not 1 <= split_number <= num_splits:
        raise ConfigError(
            f"--split-number {split_number}",
            f"{name} has {num_splits} official splits",
            fix=f"give a number from 1 to {num_splits}",
        )
    train, test = dataset.counts[split_number - 1]
    return OfficialSplit(
        protocol=dataset.title.format(split_number=split_number),
        rows=dataset.read(annotations, split_number),
        official={"train": train, "test": test},
    )


def find_videos(
    name: str, rows: list[SourceRow], videos: Path
) -> tuple[list[SourceRow], list[SourceRow]]:
    """Look for the rows' files below `videos`; a row takes the other path of its video if only that exists.

    Returns:
        All rows, and those without a file.
    """
    dataset = find_dataset(name)
    found: list[SourceRow] = []
    for row in rows:
        other = None if (videos / row.video).exists() else dataset.other_path(row)
        found.append(replace(row, video=other) if other and (videos / other).exists() else row)
    return found, [row for row in found if not (videos / row.video).exists()]


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
