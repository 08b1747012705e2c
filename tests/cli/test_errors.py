"""The boundary of the command line: one line and an exit code for each kind of error."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from training_samples import write_frames
from typer.testing import CliRunner, Result

import fvar
from cli.main import app
from fvar.errors import FrameStoreError, StoppedError
from fvar.stages import train as train_stage

TINY = ("--backbone", "tiny", "--weights", "none", "--size", 32, "--epochs", 1, "--workers", 0)


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], Result]:
    """Return a function that runs a training whose stage raises the error given."""

    def run(error: BaseException) -> Result:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(train_stage, "train", fail)
        return _run("train", "frames")

    return run


Failing = Callable[[BaseException], Result]


def test_wrong_input_is_one_line_and_2(tmp_path: Path) -> None:
    """The line is on standard error, and standard output stays empty."""
    result = _run("train", tmp_path / "no")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"fvar: {tmp_path / 'no'}: does not exist; ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FrameStoreError("shard", "video 'a\x1b[31m\n'", fix="rerun"), 2),
        (StoppedError("epoch 2", "the loss is nan", fix="lower --lr"), 3),
    ],
)
def test_errors_of_ours_are_one_line(failing: Failing, error: Exception, code: int) -> None:
    """Whatever a file name holds, the terminal gets one harmless line and the error's own code."""
    result = failing(error)
    assert (result.exit_code, result.stderr) == (code, f"fvar: {error}\n")
    assert "\x1b" not in result.stderr


def test_echo_is_not_printed_again(failing: Failing) -> None:
    """A process that only received the main one's error ends with its code, without a word."""
    error = StoppedError("x", "y", fix="z")
    error.is_duplicate = True
    result = failing(error)
    assert (result.exit_code, result.output) == (3, "")


def test_bug_is_a_traceback_and_70(failing: Failing) -> None:
    """An unexpected error shows where it happened and how to report it."""
    result = failing(ZeroDivisionError("division by zero"))
    assert result.exit_code == 70
    assert "Traceback (most recent call last):" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"fvar: this is a bug in fvar {fvar.__version__} (ZeroDivisionError); ")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyboardInterrupt(), "fvar: interrupted: "),
        (
            PermissionError(13, "Permission denied", "a\nb"),
            "fvar: a\\nb: cannot be used (Permission d",
        ),
        (BrokenPipeError(), ""),
    ],
)
def test_what_the_system_ends_is_no_bug(failing: Failing, error: BaseException, words: str) -> None:
    """Ctrl-C, a missing right and a reader like `head` that ended give code 3 and at most one line."""
    result = failing(error)
    assert result.exit_code == 3
    assert result.stderr.startswith(words)
    assert result.stderr.count("\n") == bool(words)


def _toy(tmp_path: Path, output: int) -> subprocess.CompletedProcess[bytes]:
    """Run a command that prints, with `output` as its standard output."""
    command = [sys.executable, "-m", "cli", "toy", "--out", str(tmp_path / "toy")]
    command += ["--clips-per-class", "1", "--frames", "8", "--informative", "4", "--size", "32"]
    return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, timeout=120, check=False)


@pytest.mark.slow
def test_reader_that_has_ended_gives_3(tmp_path: Path) -> None:
    """A closed pipe stops the command without a word; code 1 would mean that all is done."""
    reader, writer = os.pipe()
    os.close(reader)
    result = _toy(tmp_path, writer)
    os.close(writer)
    assert (result.returncode, result.stderr) == (3, b"")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_log_on_a_full_disk_is_no_bug(tmp_path: Path) -> None:
    """An output that cannot be written for lack of room is one line with code 3."""
    with Path("/dev/full").open("wb") as full:
        result = _toy(tmp_path, full.fileno())
    assert result.returncode == 3
    assert result.stderr.startswith(b"fvar: standard output: cannot be written (No space left on ")
    assert result.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "x", "--clusterings", "slope"), "No such option"),
        (("train", "x", "--clustering", "kmeans"), "'kmeans' is not one of"),
        (("train", "x", "--norm", "train"), "No such option"),  # norm is set in --config alone
        (("train",), "FRAMES: is missing"),
        (("train", "--resume", "x", "--recipe", "toy"), "--recipe: excludes --resume"),
        (("train", "--resume", "x"), "no epoch was finished"),
        (("eval",), "Missing argument"),
        (("evaluate",), "No such command"),
        (("eval", "x", "--split", "all"), "'all' is not one of"),
    ],
)
def test_usage_is_2(arguments: tuple[str, ...], words: str) -> None:
    """A flag, value or command that does not exist is explained by Typer and is not taken for a bug."""
    result = _run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "bug" not in result.output


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--epochs", "0"), "command line: epochs: 0: "),
        (("--stage", "5"), "command line: stage: 5: "),
        (("--recipe", "ucf"), "--recipe ucf: is not a recipe; choose one of: "),
        (("--config", "no.toml"), "no.toml: is not a readable TOML file ("),
    ],
)
def test_flags_are_checked_before_anything_is_read(flags: tuple[str, ...], words: str) -> None:
    """A wrong value is named with its rule, on one line."""
    result = _run("train", "nowhere", *flags)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"fvar: {words}")
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_train_and_eval_end_with_the_next_command(tmp_path: Path) -> None:
    """Each command prints its figures, its output and the next command; --out defaults to the sibling."""
    frames = write_frames(tmp_path / "frames")
    train = tmp_path / "train"
    result = _run("train", frames, *TINY, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "videos 6 frames 37 epochs 1 train loss" in " ".join(result.stdout.split())
    assert result.stdout.endswith(f"wrote {train}\nnext: fvar eval {train} --split test\n")
    result = _run("eval", train, "--device", "cpu", "--workers", "0")
    assert result.exit_code == 0, result.output
    assert "evaluated 3 / 3 test videos" in " ".join(result.stdout.split())
    assert "top-5" not in result.stdout  # of 3 classes
    wrote = f"wrote {train / 'eval-test'}\n"
    assert result.stdout.endswith(f"{wrote}next: fvar inspect-clusters {train} --split test\n")


@pytest.mark.slow
def test_without_clusters_the_next_command_is_another(tmp_path: Path) -> None:
    """After a training on sampled frames there is nothing to inspect, so `fvar eval` names `fvar verify`."""
    frames, train = write_frames(tmp_path / "frames"), tmp_path / "train"
    trained = _run("train", frames, *TINY, "--device", "cpu", "--clustering", "uniform")
    assert "videos 6 frames 48 epochs" in " ".join(trained.stdout.split())  # 8 of each video
    result = _run("eval", train, "--device", "cpu", "--workers", "0")
    assert result.stdout.endswith(f"next: fvar verify {train / 'eval-test'}\n")


def test_an_unfinished_training_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    """`eval` names the command that goes on; so does every command that takes a training."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.pt").touch()
    code = (
        f"import sys; sys.argv = ['fvar', 'eval', {str(tmp_path / 'run')!r}]\n"
        "from cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert (
        f"holds an unfinished training; go on with `fvar train --resume {tmp_path / 'run'}`"
        in ended.stderr
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_where_nothing_can_be_written_is_told_first(tmp_path: Path) -> None:
    """A folder without the right to write is refused before any work."""
    tmp_path.chmod(0o500)
    result = _run("toy", "--out", tmp_path / "toy")
    tmp_path.chmod(0o700)
    assert (result.exit_code, "cannot be written; make it writable" in result.stderr) == (2, True)
