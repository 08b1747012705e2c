"""``fvar toy`` and ``fvar manifest`` as a user types them."""

import importlib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import cli.commands.manifest
from cli.main import app
from fvar.sources import importers
from fvar.sources.source_csv import read_source

SMALL = ["--clips-per-class", "2", "--frames", "4", "--informative", "2", "--size", "32"]

IMPORTER = '''
"""One video per line."""

from fvar.sources.lists import Dataset, read_lines
from fvar.sources.source_csv import SourceRow


def read(folder, split_number):
    lines = read_lines(folder / f"mine{split_number}.txt")
    return [SourceRow(line.cells[0], line.cells[0], "x", "train") for line in lines]


DATASETS = {"mine": Dataset("Mine, split {split_number}", counts=((2, 0), (1, 0)), read=read)}
'''


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lists(folder: Path) -> Path:
    (folder / "a_test_split1.txt").write_text("one.avi 1 \ntwo.avi 2 \n")
    return folder


@pytest.mark.parametrize("layout", ["scattered", "burst"])
def test_toy(tmp_path: Path, layout: str) -> None:
    """The command writes the set and ends with what it wrote, the counts and the next command."""
    folder = tmp_path / "my toy"
    result = run("toy", "--out", folder, "--layout", layout, *SMALL)
    assert result.exit_code == 0, result.output
    assert len(read_source(folder / "toy.csv")) == 12
    for words in (f"2 of 4 frames show a digit, {layout}", "8 clips", "4 clips"):
        assert words in result.output
    assert result.output.endswith(
        f"wrote {folder / 'toy.csv'}\n"
        f"next: fvar extract '{folder / 'toy.csv'}' --videos '{folder / 'videos'}'\n"
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--informative", "60"], "`informative` must not exceed `frames` (32)"),
        (["--size", "33"], "size: 33: "),
        (["--seed", "-1"], "seed: -1: "),
        (["--step-px", "nan"], "step_px: nan: "),
        (["--step-px", "9"], "the digit would move 81 px"),
        (["--digits", "nowhere"], "--digits nowhere: holds neither"),
    ],
)
def test_wrong_toy_flags(tmp_path: Path, flags: list[str], words: str) -> None:
    """A wrong flag is one line with its value, exit code 2, and nothing written."""
    result = run("toy", "--out", tmp_path / "toy", *flags)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "toy").exists()


def test_manifest(tmp_path: Path) -> None:
    """The command prints the protocol and the counts, and warns of counts that are not official."""
    out = tmp_path / "h.csv"
    result = run("manifest", "hmdb51", "--annotations", lists(tmp_path), "--out", out)
    assert result.exit_code == 0, result.output
    for words in (
        "HMDB51, official split 1 of 3",
        "the lists hold 1 train, 1 test, the official ones 3,570 train, 1,530 test",
        f"fvar extract {out} --videos ",
    ):
        assert words in result.output
    assert "next: " not in result.output  # a command without the videos' folder would not run


def test_manifest_lists_missing_videos(tmp_path: Path) -> None:
    """With --videos the missing ones are named and counted: exit code 1, and the CSV is there."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "two.avi").touch()
    out, here = tmp_path / "h.csv", lists(tmp_path)
    command = ("manifest", "hmdb51", "--annotations", here, "--out", out, "--videos", here)
    result = run(*command)
    assert result.exit_code == 1
    assert f"{here}/a/one.avi is missing" in result.output
    assert "1 of 2" in result.output
    assert len(read_source(out)) == 2
    alone = run(*command, "--only-present", "--overwrite")
    assert alone.exit_code == 0, alone.output
    assert [row.video for row in read_source(out)] == ["a/two.avi"]
    nothing = run(*command[:-2], "--only-present", "--overwrite")
    assert (nothing.exit_code, "give --videos" in nothing.stderr) == (2, True)
    (tmp_path / "a" / "one.avi").touch()
    again = run(*command, "--overwrite")
    assert (again.exit_code, "0 of 2" in again.output) == (0, True)
    assert f"next: fvar extract {out} --videos {here}\n" in again.output


def test_manifest_refuses_wrong_input(tmp_path: Path) -> None:
    """A folder without lists, an existing CSV, an unknown data set: exit code 2."""
    out = tmp_path / "h.csv"
    missing = run("manifest", "hmdb51", "--annotations", tmp_path, "--out", out)
    assert (missing.exit_code, "holds no list" in missing.stderr) == (2, True)
    assert not out.exists()
    out.touch()
    there = run("manifest", "hmdb51", "--annotations", lists(tmp_path), "--out", out)
    assert (there.exit_code, "exists already" in there.stderr) == (2, True)
    unknown = run("manifest", "ucf50", "--annotations", ".", "--out", "x")
    assert (unknown.exit_code, "No such command" in unknown.stderr) == (2, True)


def test_an_importer_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside the other importers is all that a new data set needs."""
    (tmp_path / "my_importer.py").write_text(IMPORTER)
    monkeypatch.setattr(importers, "__path__", [*importers.__path__, str(tmp_path)])
    (tmp_path / "mine2.txt").write_text("v.mp4\n")
    out = tmp_path / "mine.csv"
    commands = importlib.reload(cli.commands.manifest).app
    arguments = ("mine", "--annotations", tmp_path, "--split-number", 2, "--out", out)
    result = CliRunner().invoke(commands, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert "Mine, split 2" in result.output
    assert [row.video for row in read_source(out)] == ["v.mp4"]
