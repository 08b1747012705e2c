"""The allocator's settings: taken where they can be, passed over where not."""

import ctypes
import sys
from types import SimpleNamespace

import pytest

from fvar.training.host_memory import keep_freed_memory


class _Libc:
    """Takes down how mallopt was called."""

    def __init__(self, answer: int) -> None:
        self.calls: list[tuple[int, int]] = []
        self._answer = answer

    def mallopt(self, parameter: int, value: int) -> int:
        self.calls.append((parameter, value))
        return self._answer


@pytest.mark.parametrize(("answer", "taken"), [(1, True), (0, False)])
def test_settings_of_glibc(monkeypatch: pytest.MonkeyPatch, answer: int, taken: bool) -> None:
    """No block is mapped alone and none is handed back (mallopt(3)); a refusal is told."""
    libc = _Libc(answer)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libc)
    monkeypatch.setattr(sys, "platform", "linux")
    assert keep_freed_memory() is taken
    assert dict(libc.calls) == {-4: 0, -1: 2**31 - 1, -2: 64 << 20}


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no glibc nothing happens, and nothing breaks."""

    def absent(_: str) -> object:
        raise OSError("libc.so.6: cannot open shared object file")

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert keep_freed_memory() is False
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())  # musl has no mallopt
    assert keep_freed_memory() is False
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
