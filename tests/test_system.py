"""Processors and memory: the allocator is set where that is possible, a container's limits count."""

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fvar import system
from fvar.system import (
    keep_freed_memory,
    note_memory_level,
    return_grown_memory,
    total_host_memory,
    usable_processors,
)


class _Libc:
    """Records the calls of mallopt and malloc_trim."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def mallopt(self, parameter: int, value: int) -> int:
        self.calls.append((parameter, value))
        return 1

    def malloc_trim(self, _pad: int) -> int:
        return 1


@pytest.fixture(autouse=True)
def _fresh_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has an allocator of its own, which is not set up."""
    monkeypatch.setattr(system, "_ALLOCATOR", system._Allocator())


def test_settings_of_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    """No block is mapped alone and none is returned (mallopt(3))."""
    libc = _Libc()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libc)
    keep_freed_memory()
    assert dict(libc.calls) == {-4: 0, -1: 2**31 - 1, -2: 64 << 20}


class _Memory:
    """The resident memory of a process in MB, as a test sets it; returning it leaves `in_use`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.resident = self.in_use = 500
        self.num_returns = 0
        libc = SimpleNamespace(mallopt=lambda *_: 1, malloc_trim=self._trim)
        monkeypatch.setattr(ctypes, "CDLL", lambda _: libc)
        monkeypatch.setattr(system, "_resident_bytes", lambda: self.resident << 20)

    def _trim(self, pad: int) -> int:
        assert pad == 0
        self.resident = self.in_use
        self.num_returns += 1
        return 1

    def take_step(self, *, grows_to: int) -> None:
        """Sweep over frames, then run the trunk, which takes memory that stays resident."""
        note_memory_level()
        return_grown_memory()
        self.resident = max(self.resident, grows_to)


def test_memory_that_every_step_needs_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that need 1.5 GB again and again return it once, when it is first seen to grow."""
    memory = _Memory(monkeypatch)
    keep_freed_memory()
    for _ in range(20):
        memory.take_step(grows_to=1500)
    assert memory.num_returns <= 1


def test_memory_that_grows_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that leaves 2 MB behind per chunk never holds 300 MB more than it uses."""
    memory = _Memory(monkeypatch)
    return_grown_memory()
    assert memory.num_returns == 0  # not before the allocator is set up
    keep_freed_memory()
    note_memory_level()
    for _ in range(1000):
        memory.resident += 2
        return_grown_memory()
        assert memory.resident < memory.in_use + 300
    assert memory.num_returns == 7  # 2,000 MB / 256 MB


@pytest.mark.skipif(not system._STATM.exists(), reason="Linux only")
def test_resident_memory_is_measured() -> None:
    """Pages that are written count, in bytes."""
    before = system._resident_bytes()
    with mmap.mmap(-1, 50 << 20) as block:  # new pages: the allocator may have some that are free
        block.write(bytes(50 << 20))
        assert 40 << 20 < system._resident_bytes() - before < 140 << 20


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without glibc nothing is set up, and nothing breaks."""

    def absent(_: str) -> object:
        raise OSError("libc.so.6: cannot open shared object file")

    no_mallopt = SimpleNamespace()  # as musl
    for library in (absent, lambda _: no_mallopt):
        monkeypatch.setattr(ctypes, "CDLL", library)
        keep_freed_memory()
        assert system._ALLOCATOR.trim is None


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("1000000\n", 1_000_000), ("max\n", None), (f"{1 << 62}\n", None), (None, None)],
)
def test_memory_of_a_container_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str | None, expected: int | None
) -> None:
    """The smaller of the machine's memory and the container's limit, where there is one."""
    file = tmp_path / "memory.max"
    if limit is not None:
        file.write_text(limit)
    monkeypatch.setattr(system, "_CGROUP_LIMIT", file)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert total_host_memory() == (expected or machine)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="wants Linux")
def test_a_job_bound_to_one_processor_uses_one() -> None:
    """Processors that a batch system keeps from us are not counted."""
    bind = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from fvar.system import usable_processors; print(usable_processors())"
    )
    answer = subprocess.run([sys.executable, "-c", bind], capture_output=True, check=True)
    assert answer.stdout == b"1\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="wants Linux")
@pytest.mark.parametrize(
    ("quota", "number"),
    [("150000 100000", 2), ("50000 100000", 1), ("800000 100000", 3), ("max 100000", 3), (None, 3)],
)
def test_a_container_with_a_quota_uses_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, number: int
) -> None:
    """Of three processors a container that is given one and a half keeps two busy."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(system, "_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_processors() == number
