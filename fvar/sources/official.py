"""The official splits of public data sets as rows of a source CSV."""

import pkgutil
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from fvar.errors import ConfigError
from fvar.fields import Split
from fvar.sources import importers
from fvar.sources.lists import Dataset
from fvar.sources.source_csv import SourceRow


@dataclass(frozen=True)
class OfficialSplit:
    """One official split of a data set.

    Attributes:
        dataset: The data set.
        protocol: What to call the split beside a result.
        official: How many videos of each split the authors count; None if that is not known.
        rows: The videos in the lists, those to train with first.
    """

    dataset: Dataset
    protocol: str
    official: dict[Split, int] | None
    rows: list[SourceRow]


def datasets() -> dict[str, Dataset]:
    """Return all data sets by name, from the files in `fvar/sources/importers`."""
    found: dict[str, Dataset] = {}
    for module in pkgutil.iter_modules(importers.__path__, f"{importers.__name__}."):
        found.update(import_module(module.name).DATASETS)
    return found


def read_official(name: str, annotations: Path, *, split_number: int = 1) -> OfficialSplit:
    """Read the official lists of a data set.

    Args:
        name: Of the data set.
        annotations: The folder of the lists.
        split_number: Which of the official splits, from 1.

    Raises:
        ConfigError: There is no such data set or split.
        SourceError: A list is missing or a line of it is wrong.
    """
    known = datasets()
    if name not in known:
        raise ConfigError(name, "is not a known data set", fix=f"choose one of: {', '.join(known)}")
    dataset = known[name]
    num_splits = len(dataset.counts)
    if not 1 <= split_number <= num_splits:
        raise ConfigError(
            f"--split-number {split_number}",
            f"{name} has {num_splits} official splits",
            fix=f"give a number from 1 to {num_splits}",
        )
    counts = dataset.counts[split_number - 1]
    official: dict[Split, int] | None = counts and {"train": counts[0], "test": counts[1]}
    protocol = dataset.title.format(split_number=split_number)
    rows = dataset.read(annotations, split_number)
    return OfficialSplit(dataset, protocol, official, rows)


def find_videos(split: OfficialSplit, videos: Path) -> tuple[list[SourceRow], list[SourceRow]]:
    """Look for the videos below a folder; a row takes the first other path of its video that exists.

    Returns:
        All rows, and those without a file.
    """
    found: list[SourceRow] = []
    for row in split.rows:
        paths = (row.video, *split.dataset.other_paths(row))
        video = next((path for path in paths if (videos / path).exists()), row.video)
        found.append(replace(row, video=video))
    return found, [row for row in found if not (videos / row.video).exists()]
