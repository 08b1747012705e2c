"""``fvar doctor``: the machine, and whether everything works on it."""

import re

import pytest
import torch
from typer.testing import CliRunner

from cli.main import app
from fvar.api import doctor
from fvar.errors import StoppedError


@pytest.mark.slow
def test_the_machine_is_described_and_tried() -> None:
    """All facts have a value, and the self-test ran all stages."""
    result = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for name in ("fvar", "python", "memory", "GPU", "disk here", "ffmpeg", "packages"):
        assert re.search(rf"^ {name} +\S", result.stdout, flags=re.MULTILINE)
    assert re.search(r"self-test +ok, \d+ s", result.stdout)


def test_a_failed_self_test_is_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """The facts are printed all the same, and the reason is the last line."""

    def fail() -> float:
        raise StoppedError("self-test", "15 of 16 frames were seen", fix="report this")

    monkeypatch.setattr(doctor, "self_test", fail)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "packages" in result.stdout
    assert result.stderr == "fvar: self-test: 15 of 16 frames were seen; report this\n"


@pytest.mark.parametrize(("built", "words"), [(None, "PyTorch built for CUDA"), ("12.9", "driver")])
def test_an_unused_gpu_is_told(
    monkeypatch: pytest.MonkeyPatch, built: str | None, words: str
) -> None:
    """Where a driver is there and PyTorch finds no GPU, the advice says what to install."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    assert words in doctor.advise()[0]
