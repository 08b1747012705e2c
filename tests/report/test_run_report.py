"""The report of an evaluation: right in its numbers, and its commands and settings repeat the run."""

import json
import re
import tomllib
from pathlib import Path

from page_samples import NASTY, Reader, sample_report

from fvar.config import ExtractConfig, TrainConfig
from fvar.report.run_report import (
    MAX_MATRIX,
    extract_command,
    settings_toml,
)


def test_matrix_classes_and_mistakes(tmp_path: Path) -> None:
    """Of a: 3 videos, 1 right, 2 taken for b; of b: 1, right; one without a label is in the data alone."""
    path = sample_report(tmp_path, ["a", "b", "c"], [0, 0, 0, 1, -1], [0, 1, 1, 1, 2])
    reader = Reader(path.read_text())
    text = re.sub(r"\s+", " ", reader.text)
    assert "a3133 %100 %" in text
    cells = [b for b in reader.all("button") if "data-true" in b]
    assert [(b["data-true"], b["data-predicted"]) for b in cells] == [
        ("0", "0"),
        ("0", "1"),
        ("1", "1"),
        ("0", "1"),  # in the list of mistakes
    ]
    assert "67 %" in text
    data = re.search(r'id="data">(.*?)</script>', path.read_text())
    assert data is not None
    assert json.loads(data[1])[4] == ["clip-4 a", -1, 2, 0.54]
    lines = [line["points"] for line in reader.all("polyline")]
    assert lines == ["0.0,0.0 420.0,85.0", "0.0,85.0 420.0,0.0"]


def test_hostile_names_add_no_markup(tmp_path: Path) -> None:
    """Class names, ids and titles are text."""
    plain = Reader(sample_report(tmp_path / "a", ["x", "y"], [0, 1], [1, 1]).read_text())
    nasty = Reader(sample_report(tmp_path / "b", [NASTY, "y"], [0, 1], [1, 1]).read_text())
    assert [tag for tag, _ in nasty.tags] == [tag for tag, _ in plain.tags]
    assert f"Evaluation of {NASTY}" in nasty.text


def test_many_classes_have_no_matrix(tmp_path: Path) -> None:
    """The most frequent mistakes stand for it."""
    classes = [f"class {n}" for n in range(MAX_MATRIX + 1)]
    reader = Reader(sample_report(tmp_path, classes, [0, 1, 1], [2, 3, 3]).read_text())
    assert not [t for t in reader.all("table") if t.get("class") == "matrix"]
    cells = [b for b in reader.all("button") if "data-true" in b]
    assert [(b["data-true"], b["data-predicted"]) for b in cells] == [("1", "3"), ("0", "2")]


def test_settings_are_toml_that_gives_them_back() -> None:
    """Whatever differs from the defaults, strings with quotes and lists included."""
    config = TrainConfig(
        weights='a "b"\\c ü', schedule="step", milestones=(2, 5), lr=1e-5, flip=False, epochs=7
    )
    assert TrainConfig(**tomllib.loads(settings_toml(config))) == config
    assert settings_toml(TrainConfig()) == ""


def test_the_command_of_an_extraction() -> None:
    """Flags that differ from the defaults, without those of the machine."""
    config = ExtractConfig(
        videos="my videos", short_side=64, keep_going=True, time_limit_seconds=10, workers=3
    )
    assert extract_command(config, "s.csv", "out") == (
        "fvar extract s.csv --videos 'my videos' --out out --short-side 64 --time-limit 10 --keep-going"
    )
