"""``fvar verify``: exit codes, what is printed where, and JSON for scripts."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from chain_samples import rows_of, write_chain
from training_samples import write_frames
from typer.testing import CliRunner, Result

from cli.main import app


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["verify", *map(str, arguments), "--workers", "1"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a chain of runs; nobody writes into it."""
    return write_chain(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    ("name", "then"), [("frames", "train"), ("train", "eval"), ("eval", ""), ("clusters", "")]
)
def test_whole_run_ends_with_0(whole: Path, name: str, then: str) -> None:
    """The summary says how much was read, and the next command where there is one."""
    result = _run(whole / name)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    figures = "videos 11 checked, 68 frames not ok 0 notes 0 faults 0"
    assert figures in " ".join(result.stdout.split())
    assert result.stdout.partition("next: ")[2] == (f"fvar {then} {whole / name}\n" if then else "")


def test_faults_end_with_2(whole: Path, tmp_path: Path) -> None:
    """Each fault is printed on a line, standard error has one line, and the next command is printed."""
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    shard = run / "frames/shards/shard-00000.h5"
    shard.unlink()
    result = _run(run / "train")
    assert result.exit_code == 2
    assert f"warning: {shard}: is missing" in result.stdout
    assert result.stderr.startswith(f"fvar: {run / 'train'}: 1 fault found; ")
    assert result.stderr.count("\n") == 1
    assert result.stdout.endswith(f"next: fvar verify {run / 'train'}\n")


def test_videos_that_are_not_ok_end_with_1(tmp_path: Path) -> None:
    """Nothing is wrong, but frames are missing, as extraction itself says with this code."""
    frames = write_frames(tmp_path / "frames", rows_of("ok", "partial", "failed"))
    result = _run(frames)
    assert result.exit_code == 1
    assert "partial-1 is partial: made so\n" in result.stdout
    assert "failed-2 is failed: made so\n" in result.stdout
    assert "not ok 2" in " ".join(result.stdout.split())
    assert "next: " not in result.stdout


def test_json_is_alone_on_standard_output(whole: Path, tmp_path: Path) -> None:
    """A script reads the verdict with all faults and their fixes; the text for people is elsewhere."""
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    (run / "train/checkpoints/last.pt").unlink()
    result = _run(run / "train", "--json")
    assert result.exit_code == 2
    verdict = json.loads(result.stdout)
    assert verdict["runs"] == [str(run / name) for name in ("frames", "train")]
    assert (verdict["num_videos"], verdict["num_frames"]) == (11, 68)
    (fault,) = verdict["faults"]
    assert fault["thing"] == str(run / "train/checkpoints/last.pt")
    assert fault["problem"].startswith("is missing")
    assert f"rerun `fvar train` with --out {run / 'train'} --overwrite" in fault["fix"]
    assert "is missing" in result.stderr


def test_wrong_usage_ends_with_2(tmp_path: Path) -> None:
    """No run and no process to read with are refused in one line."""
    assert "does not exist" in _run(tmp_path / "no").stderr
    result = CliRunner().invoke(app, ["verify", str(tmp_path), "--workers", "0"])
    assert result.exit_code == 2
    assert result.stderr.startswith("fvar: command line: workers: 0: Input should be greater than")


@pytest.mark.slow
def test_verifying_needs_no_torch(whole: Path) -> None:
    """The whole chain is read and decoded without the seconds and the memory that torch takes."""
    code = (
        f"import sys; sys.argv = ['fvar', 'verify', {str(whole / 'clusters')!r}, '--workers', '1']\n"
        "from cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'torchvision', 'torchcodec', 'av'} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
