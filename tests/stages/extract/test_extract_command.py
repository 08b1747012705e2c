"""The command ``fvar extract``: its exit codes, its lines, and input that it refuses."""

import json
from pathlib import Path

import pytest
from processes import fvar
from typer.testing import CliRunner, Result
from video_samples import WHOLE, extract_config, write_source

from cli.main import app
from fvar.config import ExtractConfig
from fvar.errors import ConfigError, InputError, ManifestError, SourceError
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract


def _in_process(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_the_command(samples: Path, tmp_path: Path) -> None:
    """`fvar extract` ends with what it wrote and the next command; code 2 when run again."""
    source = write_source(tmp_path, WHOLE)
    arguments = ("extract", source, "--videos", samples, "--short-side", "16")
    ended = fvar(*arguments, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "next: fvar train runs/source/frames" in ended.stdout
    assert (tmp_path / "runs" / "source" / "frames" / "manifest.json").is_file()
    again = fvar(*arguments, cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.startswith("fvar: runs/source/frames: holds a complete run")
    assert again.stderr.count("\n") == 1


def test_the_command_with_bad_videos(samples: Path, tmp_path: Path) -> None:
    """Code 1 when videos are not ok; the first few are listed with their reasons."""
    source = write_source(tmp_path, ["plain.mp4", *["text.mp4"] * 7])
    ended = _in_process("extract", source, "--videos", samples, "--out", tmp_path / "o")
    assert ended.exit_code == 1
    assert ended.stdout.count("is failed: cannot be opened as a video") == 5
    assert "... and 2 more; manifest.json lists them all" in ended.stdout
    data = json.loads((tmp_path / "o" / "manifest.json").read_text())
    assert data["schema"] == "fvar.frames/1"
    assert data["summary"]["failed"] == 7


def test_the_command_says_what_is_unusual(samples: Path, tmp_path: Path) -> None:
    """Fewer frames on purpose and a picture that changes its size are reported and are no failure."""
    source = write_source(tmp_path, ["plain.mp4", "wider.h264"])
    out = tmp_path / "o"
    ended = _in_process("extract", source, "--videos", samples, "--out", out, "--stride", "4")
    assert ended.exit_code == 0
    assert "18 of 70: one frame in 4" in ended.stdout
    assert "warning: v1: its frame size changes from 64x48 to 128x48 px" in ended.stdout


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--quality", "0"], "quality: 0: Input should be greater than or equal to 1"),
        (["--max-gb", "nan"], "max_gb: nan"),
        (["--fps", "5", "--stride", "2"], "`fps` and `stride` exclude each other"),
    ],
)
def test_the_command_checks_its_flags(
    samples: Path, tmp_path: Path, flags: list[str], problem: str
) -> None:
    """A value that breaks its rule is one line with code 2, and nothing is written."""
    source = write_source(tmp_path, WHOLE[:1])
    ended = _in_process("extract", source, "--videos", samples, "--out", tmp_path / "o", *flags)
    assert ended.exit_code == 2
    assert problem in ended.stderr
    assert not (tmp_path / "o").exists()


def test_wrong_input_writes_nothing(samples: Path, tmp_path: Path) -> None:
    """A bad CSV, folder, ffmpeg or output is refused before anything is written."""
    good = write_source(tmp_path, WHOLE[:1])
    bad = tmp_path / "bad.csv"
    bad.write_text("id\n")
    cases: list[tuple[Path, ExtractConfig, type[InputError], str]] = [
        (bad, extract_config(samples), SourceError, "column 'video' is missing"),
        (good, extract_config(tmp_path / "none"), ConfigError, "is not a folder"),
        (
            good,
            extract_config(tmp_path),
            ConfigError,
            "holds none of the 1 videos, not even 'plain.mp4'",
        ),
        (good, extract_config(samples, ffmpeg="/no/ffmpeg"), ConfigError, "does not run"),
    ]
    for source, config, error, problem in cases:
        with pytest.raises(error, match=problem):
            extract(source, tmp_path / "out", config, SilentReporter())
    assert not (tmp_path / "out").exists()
    with pytest.raises(ManifestError, match="is a file"):
        extract(good, good, extract_config(samples), SilentReporter())
