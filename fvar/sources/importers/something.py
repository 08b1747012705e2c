"""Something-Something V1 and V2: the official validation list becomes split `test`.

Results are reported on that list. As split `val` it would also choose the checkpoint, which is not allowed to
see the videos of a reported result.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from fvar.errors import SourceError
from fvar.fields import Split
from fvar.sources.lists import Dataset, Line, read_lines, read_splits
from fvar.sources.source_csv import SourceRow


def read(folder: Path, _: int, *, version: int) -> list[SourceRow]:
    """Read the official lists: TSM's text files, or `labels.json`, `train.json` and `validation.json`.

    The former: `category.txt`, `somesomevV_rgb_train_split.txt` and `somesomevV_rgb_validation_split.txt`.
    """
    if (folder / "labels.json").exists():
        return _read_json(folder, version)
    lines = read_lines(folder / "category.txt")
    labels = {str(number): " ".join(line.cells) for number, line in enumerate(lines)}
    name = f"somesomev{version}_rgb_{{}}_split.txt"
    train, test = (folder / name.format(split) for split in ("train", "validation"))
    return read_splits({"train": train, "test": test}, partial(_row, labels, version))


def _read_json(folder: Path, version: int) -> list[SourceRow]:
    labels = set(_json(folder / "labels.json", dict))
    rows = []
    for split, name in (("train", "train.json"), ("test", "validation.json")):
        path = folder / name
        for number, entry in enumerate(_json(path, list)):
            try:
                video = str(entry["id"])
                label = str(entry["template"]).replace("[", "").replace("]", "")
            except (KeyError, TypeError) as error:
                raise _json_error(path, number, "has no id or template") from error
            if label not in labels:
                raise _json_error(path, number, f"has {label!r:.80}, which is not in labels.json")
            file = video if version == 1 else f"{video}.webm"
            rows.append(SourceRow(video, file, label, split))  # type: ignore[arg-type]
    return rows


def _json(path: Path, kind: type[Any]) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            path, f"cannot be read ({reason})", fix="give the folder of the official lists"
        ) from error
    if not isinstance(content, kind):
        raise SourceError(
            path, f"holds no {kind.__name__}", fix="download the official lists again"
        )
    return content


def _json_error(path: Path, number: int, problem: str) -> SourceError:
    return SourceError(f"{path}: entry {number}", problem, fix="download the official lists again")


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
