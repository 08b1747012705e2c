"""What a process may use of its machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fvar import machine
from fvar.machine import usable_processors


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="wants Linux")
def test_a_job_bound_to_one_processor_uses_one() -> None:
    """Processors that a batch system keeps from us are not counted."""
    bind = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from fvar.machine import usable_processors; print(usable_processors())"
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
    monkeypatch.setattr(machine, "_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_processors() == number
