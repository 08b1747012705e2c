"""``fvar manifest folder``: class folders -> rows with splits."""

from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from fvar.errors import ConfigError, SourceError
from fvar.sources.class_folders import rows_of_folders
from fvar.sources.source_csv import SourceRow, read_source


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Return a folder with two classes of 20 videos each, of ten persons."""
    for label in ("pour", "stir tea"):
        for number in range(20):
            path = tmp_path / "videos" / label / f"p{number // 2}" / f"{number}.MP4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path / "videos"


def _rows(videos: Path, **changes: object) -> list[SourceRow]:
    settings = {"val": 0.2, "test": 0.3, "group_by": None, "seed": 0} | changes
    return rows_of_folders(videos, **settings)  # type: ignore[arg-type]


def test_every_class_gets_the_shares(videos: Path) -> None:
    """Of 20 videos of each class 10, 4 and 6 go to train, val and test, others with another seed."""
    rows = _rows(videos)
    counts = Counter((row.label, row.split) for row in rows)
    for label in ("pour", "stir tea"):
        assert [counts[label, split] for split in ("train", "val", "test")] == [10, 4, 6]
    assert rows == _rows(videos)
    assert [row.split for row in rows] != [row.split for row in _rows(videos, seed=1)]


def test_groups_stay_together(videos: Path) -> None:
    """The videos of a person are in one split, for both classes, and the shares still hold."""
    rows = _rows(videos, group_by=r"/(p\d+)/")
    splits = {group: {row.split for row in rows if row.group == group} for group in ["p0", "p5"]}
    assert all(len(found) == 1 for found in splits.values())
    assert len({row.group for row in rows}) == 10
    counts = Counter(row.split for row in rows)
    assert [counts[split] for split in ("train", "val", "test")] == [20, 8, 12]


def test_split_folders_are_the_splits(tmp_path: Path) -> None:
    """With folders train and validation the splits are decided; folders of pictures are videos."""
    for path in ("train/a/1.mp4", "validation/a/2.avi", "train/b/c/0001.jpg", "train/b/c/0002.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    found = [(row.video, row.label, row.split) for row in _rows(tmp_path)]
    assert found == [
        ("train/a/1.mp4", "a", "train"),
        ("train/b/c", "b", "train"),
        ("validation/a/2.avi", "a", "val"),
    ]


def test_wrong_folders_and_expressions(videos: Path, tmp_path: Path) -> None:
    """Each is one line with what to do."""
    (tmp_path / "none").mkdir()
    (tmp_path / "empty" / "a").mkdir(parents=True)
    for folder, words in (
        ("none", "holds no folder"),
        ("empty", "holds no video"),
        ("x", "is no fo"),
    ):
        with pytest.raises(SourceError, match=words):
            _rows(tmp_path / folder)
    for changes, words in (
        ({"val": 0.5, "test": 0.5}, "leave no video to train"),
        ({"group_by": "("}, "is no regular expression"),
        ({"group_by": "q(.)"}, "finds nothing in pour/p0/0.MP4"),
    ):
        with pytest.raises(ConfigError, match=words):
            _rows(videos, **changes)


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["manifest", "folder", *map(str, arguments)])


def test_the_command(videos: Path, tmp_path: Path) -> None:
    """It writes what `fvar extract` reads, names that command, and replaces nothing."""
    out = tmp_path / "my.csv"
    result = _run(videos, "--out", out, "--val", 0)
    assert result.exit_code == 0, result.output
    assert "34 train, 6 test" in result.output
    assert result.output.endswith(f"next: fvar extract {out} --videos {videos}\n")
    assert len(read_source(out)) == 40
    assert "exists already" in _run(videos, "--out", out).stderr
    assert "must be in 0..1" in _run(videos, "--out", tmp_path / "b.csv", "--val", -1).stderr


def test_a_flat_folder_with_a_file_of_labels(tmp_path: Path) -> None:
    """The CSV says which class a video is of; splits are chosen as for class folders."""
    labels = tmp_path / "labels.csv"
    names = [f"clip{number}.mp4" for number in range(20)]
    lines = [f"{name},{'even' if number % 2 == 0 else 'odd'}" for number, name in enumerate(names)]
    labels.write_text("video,label\n" + "\n".join(lines) + "\n")
    rows = _rows(tmp_path, labels=labels)
    assert [row.video for row in rows] == names
    counts = Counter((row.label, row.split) for row in rows)
    assert [counts["odd", split] for split in ("train", "val", "test")] == [5, 2, 3]
    for text, words in (("name\nx\n", "no column 'video'"), ("video,label\n", "lists no video")):
        labels.write_text(text)
        with pytest.raises(SourceError, match=words):
            _rows(tmp_path, labels=labels)
