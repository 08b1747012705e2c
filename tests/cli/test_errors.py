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

TINY = (
    "--backbone",
    "tiny",
    "--weights",
    "none",
    "--size",
    "32",
    "--epochs",
    "1",
    "--workers",
    "0",
)


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Callable[[], Result]:
    """Let the training stage raise `error`, and return how to run it."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(train_stage, "train", fail)
    return lambda: _run("train", "frames")


def test_wrong_input_is_one_line_and_2(tmp_path: Path) -> None:
    """The line is on standard error, and standard output stays empty."""
    result = _run("train", tmp_path / "no")
    assert result.exit_code == 2
    assert result.stderr == (
        f"fvar: {tmp_path / 'no'}: does not exist; "
        "give the folder of a complete run, or rerun the stage that fills it\n"
    )
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FrameStoreError("shard", "video 'a\x1b[31m\n'", fix="rerun"), 2),
        (StoppedError("epoch 2", "the loss is nan", fix="lower --lr"), 3),
    ],
)
def test_errors_of_ours_are_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    """Whatever a file name holds, the terminal gets one harmless line and the error's own code."""
    result = _failing(monkeypatch, error)()
    assert result.exit_code == code
    assert result.stderr == f"fvar: {error}\n"
    assert "\x1b" not in result.stderr


def test_echo_is_not_printed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that only received the main one's error ends with its code, in silence."""
    error = StoppedError("x", "y", fix="z")
    error.is_echo = True
    result = _failing(monkeypatch, error)()
    assert (result.exit_code, result.output) == (3, "")


def test_bug_is_a_traceback_and_70(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw shows where it happened and how to report it."""
    result = _failing(monkeypatch, ZeroDivisionError("division by zero"))()
    assert result.exit_code == 70
    assert "Traceback (most recent call last):" in result.stderr
    assert result.stderr.endswith(
        f"ZeroDivisionError: division by zero\nfvar: this is a bug in fvar {fvar.__version__} "
        "(ZeroDivisionError); please report it with the lines above and `fvar --version`\n"
    )


def test_interrupted_is_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends with one line that says how to go on."""
    result = _failing(monkeypatch, KeyboardInterrupt())()
    assert result.exit_code == 3
    assert result.stderr == (
        "fvar: interrupted: what is complete is kept; run the same command again to go on, "
        "a training with --resume\n"
    )


def test_lack_of_rights_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses, in whatever place, is one line with the file and code 3."""
    result = _failing(monkeypatch, PermissionError(13, "Permission denied", "a\nb"))()
    assert result.exit_code == 3
    assert result.stderr == (
        "fvar: a\\nb: cannot be used (Permission denied); mend that and run the same command again\n"
    )


def test_reader_that_has_gone_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """``fvar ... | head`` ends without a traceback of ours."""
    result = _failing(monkeypatch, BrokenPipeError())()
    assert "this is a bug" not in result.output
    assert result.exit_code == 3


def _toy(tmp_path: Path, output: int) -> subprocess.CompletedProcess[bytes]:
    """Run a command that prints, with `output` as its standard output."""
    command = [sys.executable, "-m", "cli", "toy", "--out", str(tmp_path / "toy")]
    command += ["--clips-per-class", "1", "--frames", "8", "--informative", "4", "--size", "32"]
    return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, timeout=120, check=False)


def test_reader_that_has_gone_ends_with_3(tmp_path: Path) -> None:
    """1 would say that all was done: whoever stopped reading stopped the command, in silence."""
    reader, writer = os.pipe()
    os.close(reader)
    result = _toy(tmp_path, writer)
    os.close(writer)
    assert (result.returncode, result.stderr) == (3, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_log_on_a_full_disk_is_no_bug(tmp_path: Path) -> None:
    """What cannot be printed for want of room is one line with code 3."""
    with Path("/dev/full").open("wb") as full:
        result = _toy(tmp_path, full.fileno())
    assert result.returncode == 3
    assert result.stderr == (
        b"fvar: what is printed: cannot be written (No space left on device); "
        b"send it elsewhere and run the same command again\n"
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train", "x", "--clusterings", "slope"), "No such option"),
        (("train", "x", "--clustering", "kmeans"), "'kmeans': Input should be 'cumulative'"),
        (("train",), "Missing argument"),
        (("evaluate",), "No such command"),
        (("eval", "x", "--split", "all"), "'all' is not one of"),
    ],
)
def test_usage_is_2(arguments: tuple[str, ...], told: str) -> None:
    """A flag, value or command that does not exist is told by the parser, not taken for a bug."""
    result = _run(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "bug" not in result.output


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ("--epochs", "0"),
            "fvar: command line: epochs: 0: Input should be greater than or equal to 1",
        ),
        (("--lr", "nan"), "fvar: command line: lr: nan: Input should be"),
        (("--stage", "5"), "fvar: command line: stage: 5: Input should be less than or equal to 4"),
        (("--recipe", "ucf"), "fvar: --recipe ucf: is not a recipe; choose one of: "),
        (("--recipe", ""), "fvar: --recipe : is not a recipe; choose one of: "),
        (("--config", "no.toml"), "fvar: no.toml: is not a readable TOML file ("),
    ],
)
def test_flags_are_checked_before_anything_is_read(flags: tuple[str, ...], told: str) -> None:
    """A wrong value is named with its rule, on one line, before torch is even imported."""
    result = _run("train", "nowhere", *flags)
    assert result.exit_code == 2
    assert result.stderr.startswith(told)
    assert len(result.stderr.splitlines()) == 1


def test_train_and_eval_end_with_what_to_do_next(tmp_path: Path) -> None:
    """Each command prints its figures, what it wrote and the next command; --out defaults to the sibling."""
    frames = write_frames(tmp_path / "frames")
    result = _run("train", frames, *TINY, "--device", "cpu", "--norm", "train")
    assert result.exit_code == 2  # norm is set in --config alone
    result = _run("train", frames, *TINY, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "videos 6 frames 37 epochs 1 train loss" in " ".join(result.stdout.split())
    assert f"wrote {tmp_path / 'train'}\n" in result.stdout
    assert f"next: fvar eval {tmp_path / 'train'} --split test\n" in result.stdout
    result = _run("eval", tmp_path / "train", "--device", "cpu", "--workers", "0")
    assert result.exit_code == 0, result.output
    assert "evaluated 3 / 3 test videos" in " ".join(result.stdout.split())
    assert "n/a under 6 classes" in result.stdout
    assert f"next: fvar inspect-clusters {tmp_path / 'train'} --split test\n" in result.stdout


@pytest.mark.parametrize(
    "command",
    [(), ("train",), ("eval",), ("extract",), ("inspect-clusters",), ("verify",), ("toy",)],
)
def test_help_has_an_example(command: tuple[str, ...]) -> None:
    """Help is there for every command and shows something to type."""
    result = _run(*command, "--help")
    assert result.exit_code == 0
    assert f"fvar {' '.join(command)}".strip() in result.stdout


@pytest.mark.parametrize("command", ["", "'train', ", "'eval', ", "'extract', ", "'verify', "])
def test_help_loads_no_torch(command: str) -> None:
    """Help appears without the seconds that importing torch takes."""
    code = (
        f"import sys; sys.argv = ['fvar', {command}'--help']\n"
        "from cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'torchvision', 'h5py', 'matplotlib', 'av'} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_version_says_what_a_report_needs() -> None:
    """The version of fvar, Python, the system and the packages that do the work, without importing them."""
    result = _run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"fvar {fvar.__version__} (python {sys.version.split()[0]}, ")
    for package in ("torch", "torchcodec", "av", "imageio-ffmpeg", "h5py", "numpy"):
        assert f", {package} " in result.stdout
