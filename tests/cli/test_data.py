"""``fvar toy`` and ``fvar manifest`` as a user types them."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from fvar.sources.source_csv import read_source

SMALL = ["--clips-per-class", "2", "--frames", "4", "--informative", "2", "--size", "32"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def lists(folder: Path) -> Path:
    (folder / "a_test_split1.txt").write_text("one.avi 1 \ntwo.avi 2 \n")
    return folder


@pytest.mark.parametrize("layout", ["scattered", "burst"])
def test_toy(tmp_path: Path, layout: str) -> None:
    """The command writes the set and ends with what it wrote, the counts and the next command."""
    result = run("toy", "--out", str(tmp_path / "my toy"), "--layout", layout, *SMALL)
    assert result.exit_code == 0, result.output
    assert len(read_source(tmp_path / "my toy" / "toy.csv")) == 12
    assert f"2 of 4 frames show a digit, {layout}" in result.output
    assert "8 clips" in result.output
    assert "4 clips" in result.output
    folder = tmp_path / "my toy"
    assert f"wrote {folder / 'toy.csv'}\n" in result.output
    assert (
        f"next: fvar extract '{folder / 'toy.csv'}' --videos '{folder / 'videos'}'" in result.output
    )


def test_toy_is_not_replaced_unasked(tmp_path: Path) -> None:
    """A second run is refused with exit code 2, and replaces with --overwrite."""
    out = ("toy", "--out", str(tmp_path), *SMALL)
    assert run(*out).exit_code == 0
    refused = run(*out)
    assert refused.exit_code == 2
    assert "toy.csv: exists already" in refused.stderr
    assert run(*out, "--overwrite", "--seed", "3").exit_code == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--informative", "60"], "`informative` must not exceed `frames` (32)"),
        (["--size", "33"], "size: 33: Input should be a multiple of 2"),
        (["--seed", "-1"], "seed: -1"),
        (["--step-px", "nan"], "step_px"),
        (["--step-px", "9"], "the digit would move 81 px"),
        (["--digits", "nowhere"], "--digits nowhere: holds neither"),
    ],
)
def test_wrong_toy_flags(tmp_path: Path, flags: list[str], said: str) -> None:
    """A wrong flag is one line with its value, exit code 2, and nothing written."""
    result = run("toy", "--out", str(tmp_path / "toy"), *flags)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "toy").exists()


def test_manifest(tmp_path: Path) -> None:
    """The command says the protocol and the counts, warns of unofficial ones, and names the next command."""
    out = tmp_path / "h.csv"
    result = run("manifest", "hmdb51", "--annotations", str(lists(tmp_path)), "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "HMDB51, official split 1 of 3" in result.output
    assert "1 train, 1 test" in result.output
    assert (
        "the lists hold 1 train, 1 test, the official ones 3,570 train, 1,530 test" in result.output
    )
    assert f"next: fvar extract {out} --videos VIDEOS" in result.output


def test_manifest_lists_missing_videos(tmp_path: Path) -> None:
    """With --videos the missing ones are named and counted: exit code 1, and the CSV is there."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "two.avi").touch()
    out, here = tmp_path / "h.csv", str(lists(tmp_path))
    result = run("manifest", "hmdb51", "--annotations", here, "--out", str(out), "--videos", here)
    assert result.exit_code == 1
    assert f"{here}/a/one.avi is missing" in result.output
    assert "1 of 2" in result.output
    assert len(read_source(out)) == 2
    (tmp_path / "a" / "one.avi").touch()
    again = run(
        "manifest", "hmdb51", "--annotations", here, "--out", str(out), "--videos", here, "--overwrite"
    )  # fmt: skip
    assert again.exit_code == 0
    assert "0 of 2" in again.output


def test_manifest_refuses_wrong_input(tmp_path: Path) -> None:
    """A folder without lists, an existing CSV, an unknown set: exit code 2."""
    out = str(tmp_path / "h.csv")
    missing = run("manifest", "hmdb51", "--annotations", str(tmp_path), "--out", out)
    assert (missing.exit_code, "holds no list" in missing.stderr) == (2, True)
    assert not Path(out).exists()
    Path(out).touch()
    there = run("manifest", "hmdb51", "--annotations", str(lists(tmp_path)), "--out", out)
    assert (there.exit_code, "exists already" in there.stderr) == (2, True)
    assert run("manifest", "ucf50", "--annotations", ".", "--out", "x").exit_code == 2


def test_a_reader_that_left_is_no_bug() -> None:
    """Help piped into a program that stops reading ends quietly, without a traceback."""
    command = [sys.executable, "-m", "cli", "toy", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 1
