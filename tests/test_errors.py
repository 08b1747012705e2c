"""Errors: one line each, whatever is in the value, with the exit code of their kind."""

import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fvar import errors
from fvar.errors import FvarError, StoppedError, in_brief, one_line

KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FvarError)
]
# Line breaks as str.splitlines knows them, terminal escapes, Unicode's bidirectional controls
HOSTILE = "a\nb\r\v\f\x1b[31m\x1b]0;title\x07\x85\u2028\u2029\u202e\u2066\u200f\u061c\x00\x9b2J"


@given(st.text(st.characters()))
@example(HOSTILE)
@example("name-\udcff.mp4")  # how Python spells a file name that is not UTF-8
def test_one_line_is_one_printable_line(text: str) -> None:
    """No text breaks the line, controls the terminal, changes the writing direction or fails to encode."""
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert not set(line) & (set(map(chr, range(32))) | set(map(chr, range(0x7F, 0xA0))))
    assert not set(line) & set(
        "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
    line.encode("utf-8")


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_one_line_leaves_ordinary_text_alone(text: str) -> None:
    """Letters of any script, digits, punctuation and blanks are unchanged."""
    assert one_line(text) == text


def test_one_line_escapes_readably() -> None:
    """Escaped characters can still be recognized."""
    assert one_line("a\nb\x1b[0m\u202e") == r"a\nb\x1b[0m\u202e"


@pytest.mark.parametrize("kind", KINDS)
def test_message_names_thing_problem_and_fix(kind: type[FvarError]) -> None:
    """The message is ``thing: problem; fix`` on one line; its parts survive the way from a worker process."""
    error = kind("file\n.csv", "value 'x' must be y", fix="correct it")
    assert str(error) == r"file\n.csv: value 'x' must be y; correct it"
    back = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(back) is kind
    assert str(back) == str(error)
    for one in (error, back):
        parts = (one.thing, one.problem, one.fix)
        assert parts == ("file\n.csv", "value 'x' must be y", "correct it")


def test_the_tree_is_drawn() -> None:
    """The module's docstring names every class with its exit code: 3 for stopped midway, 2 for the rest."""
    assert len(KINDS) == 9
    for kind in KINDS:
        assert f" {kind.__name__} " in str(errors.__doc__)
        assert kind.exit_code == (3 if kind is StoppedError else 2)


def test_other_errors_in_brief() -> None:
    """Another library's error is shown as its class and first line, or as its class alone."""
    assert in_brief(ValueError("first\nsecond")) == "ValueError: first"
    assert in_brief(EOFError()) == "EOFError"
    assert len(in_brief(ValueError("x" * 1000))) == 160
