"""What a command prints: bars on a terminal, lines in a log, and never a control character."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from cli.console import (
    ConsoleReporter,
    print_error,
    print_summary,
    print_timelines,
    reporter_of_this_process,
)
from fvar.reporting import SilentReporter
from fvar.store.files import beside

HOSTILE = "clip\x1b[2J\n[bold red]x[/] \u202e"
SHOWN = r"clip\x1b[2J\n[bold red]x[/] \u202e"


class _Clock:
    """A clock that a test moves."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def _console(*, terminal: bool) -> tuple[ConsoleReporter, io.StringIO, _Clock]:
    file, clock = io.StringIO(), _Clock()
    console = Console(file=file, force_terminal=terminal, width=200, get_time=clock)
    return ConsoleReporter(console), file, clock


def test_lines_are_shown_as_they_are() -> None:
    """Markup and control characters in a name are text; long lines stay one line."""
    reporter, file, _ = _console(terminal=False)
    reporter.info(HOSTILE)
    reporter.warning(HOSTILE + "y" * 300)
    assert file.getvalue() == f"{SHOWN}\nwarning: {SHOWN}{'y' * 300}\n"


def test_log_gets_a_line_every_ten_seconds() -> None:
    """Without a terminal there is a line now and then with rate and time left, and one at the end."""
    reporter, file, clock = _console(terminal=False)
    with reporter.progress("epoch 1", total=10, unit="videos") as progress:
        for number in range(10):
            clock.seconds += 4
            progress.advance(note=f"loss {number}")
    assert file.getvalue().splitlines() == [
        "epoch 1: 3/10 videos, 0.25/s loss 2, 28 s left",
        "epoch 1: 6/10 videos, 0.25/s loss 5, 16 s left",
        "epoch 1: 9/10 videos, 0.25/s loss 8, 4 s left",
        "epoch 1: 10/10 videos, 0.25/s loss 9",
    ]


def test_log_of_an_unknown_total() -> None:
    """Where the total is not known, the line counts what is done."""
    reporter, file, clock = _console(terminal=False)
    with reporter.progress("reading", total=None, unit="MB") as progress:
        progress.advance(2.5, note=HOSTILE)
        assert file.getvalue() == ""
        clock.seconds += 20
        progress.advance(2.5)
    assert file.getvalue() == f"reading: 5 MB, 0.25/s {SHOWN}\n"


@pytest.mark.parametrize("total", [4, None])
def test_terminal_gets_a_bar(total: int | None) -> None:
    """On a terminal a bar names the task, the rate and the note, and takes no markup from names."""
    reporter, file, _ = _console(terminal=True)
    with reporter.progress("eval [test]", total=total, unit="videos") as progress:
        progress.advance(2, note="[bold]a\x1b[2J")
        progress.advance()
    text = file.getvalue()
    assert "eval [test]" in text
    assert re.search(rf"3/{total or r'[?]'}.* videos .*/s", text)
    assert "a\x1b[2J" not in text


def test_only_the_main_process_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the processes that torchrun started, the first reports."""
    monkeypatch.delenv("RANK", raising=False)
    assert isinstance(reporter_of_this_process(), ConsoleReporter)
    monkeypatch.setenv("RANK", "1")
    reporter = reporter_of_this_process()
    assert isinstance(reporter, SilentReporter)
    reporter.info("x")
    reporter.warning("x")
    with reporter.progress("x", total=1, unit="x") as progress:
        progress.advance(note="x")
    print_summary("train", {"a": 1}, wrote=Path("out"), then=["next"])
    assert capsys.readouterr().out == ""


def test_summary_shows_figures_folder_and_next_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures, what was written, the next command: each on a line of its own, as text."""
    monkeypatch.delenv("RANK", raising=False)
    figures = {"top-1": "50.0%", "[x]": HOSTILE}
    print_summary("eval", figures, wrote=Path("o" * 150), then=["fvar", Path("a \nx")], hint="z\n")
    lines = capsys.readouterr().out.splitlines()
    assert "eval" in lines[0]
    assert lines[1].split() == ["top-1", "50.0%"]
    assert lines[2].strip().startswith("[x]")
    assert SHOWN in lines[2]
    assert lines[-3:] == ["wrote " + "o" * 150, r"next: fvar 'a \nx'", r"z\n"]


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_timelines_fit_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Long names are cut, parts never: the same number of blocks in every line."""
    monkeypatch.setenv("COLUMNS", str(columns))
    print_timelines([("a [b]" * 9, "push, no label", [0.25, 0.75]), ("c", "kick, right", [1.0])])
    first, second = capsys.readouterr().out.splitlines()
    assert len(first) <= columns
    assert first.startswith("a [b]a [b]a [b]a [b]a […")
    assert "push, no label" in first
    blocks = second.count("█")
    assert blocks == first.count("█") + first.count("▓") == min(columns - 42, 48)
    assert first.count("█") == round(blocks / 4)


def test_error_is_a_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts find it by its beginning; it is neither wrapped nor styled."""
    print_error("x" * 300)
    captured = capsys.readouterr()
    assert captured.err == "fvar: " + "x" * 300 + "\n"
    assert captured.out == ""


@pytest.mark.parametrize(
    "path", ["runs/a/frames", "runs/a/frames/manifest.json", "frames", "/x/frames"]
)
def test_output_lies_beside_its_input(path: str) -> None:
    """Without ``--out`` the output is the sibling of the input's folder."""
    expected = path.removesuffix("/manifest.json").replace("frames", "train")
    assert beside(Path(path), "train") == Path(expected)


@pytest.mark.parametrize(("path", "parent"), [(".", "a"), ("manifest.json", "a"), ("..", ".")])
def test_output_lies_beside_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, parent: str
) -> None:
    """From inside a folder its sibling is still found."""
    inside = tmp_path / "a" / "frames"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert beside(Path(path), "train") == tmp_path / parent / "train"
