"""Something-Something V1 and V2: the official validation list becomes split `test`.

Results are reported on that list. As split `val` it would also choose the checkpoint, which is not allowed to
see the videos of a reported result.
"""

from functools import partial
from pathlib import Path

from fvar.config import Split
from fvar.sources.lists import Dataset, Line, read_lines, read_splits
from fvar.sources.source_csv import SourceRow


def read(folder: Path, _: int, *, version: int) -> list[SourceRow]:
    """Read `category.txt`, `somesomevV_rgb_train_split.txt` and `somesomevV_rgb_validation_split.txt`."""
    lines = read_lines(folder / "category.txt")
    labels = {str(number): " ".join(line.cells) for number, line in enumerate(lines)}
    name = f"somesomev{version}_rgb_{{}}_split.txt"
    train, test = (folder / name.format(split) for split in ("train", "validation"))
    return read_splits({"train": train, "test": test}, partial(_row, labels, version))


def _row(labels: dict[str, str], version: int, line: Line, split: Split) -> SourceRow:
    text = " ".join(line.cells)
    if len(line.cells) != 3 or not all(cell.isdecimal() for cell in line.cells):
        raise line.error(text, "is not three numbers: video, frames, class")
    name, _, label = line.cells
    if label not in labels:
        raise line.error(label, f"is not one of the {len(labels)} classes of category.txt")
    video = name if version == 1 else f"{name}.webm"  # V1 is published as folders of pictures
    return SourceRow(name, video, labels[label], split)


DATASETS = {
    f"something_v{version}": Dataset(
        f"Something-Something V{version}, test = the official validation list",
        counts=(counts,),
        read=partial(read, version=version),
    )
    for version, counts in ((1, (86017, 11522)), (2, (168913, 24777)))
}
