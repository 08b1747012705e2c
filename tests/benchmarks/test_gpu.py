"""The benchmark of a GPU: its script runs anywhere, and says so where there is no GPU."""

import re

import gpu
import pytest
import torch

ON_A_CPU = "--device cpu --backbone tiny --size 32 --frames 4 --ahead 0 2 --repeats 0"


def test_every_row_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """On a CPU, with a tiny network, each part has a time and as many frames per second as follow from it."""
    gpu.main(ON_A_CPU.split())
    title, _, *rows = capsys.readouterr().out.rstrip().splitlines()
    assert title.startswith("CPU, ")
    found = [re.fullmatch(r" *(\D.*?)  +([\d.]+)  +(\d+) *", row) for row in rows]
    assert all(found), rows
    names = [match[1] for match in found if match]
    assert len(names) == len(set(names)) == 9
    for match in filter(None, found):
        assert int(match[3]) == pytest.approx(4 / float(match[2]) * 1000, rel=0.1, abs=1)


def test_without_a_gpu_one_line_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is measured on a CPU in the GPU's name."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main([])
    assert capsys.readouterr().out == gpu.NO_GPU + "\n"


def test_what_does_not_fit_is_a_row() -> None:
    """A step for which the GPU's memory does not suffice is a row of the table, not its end."""

    def work() -> None:
        raise torch.OutOfMemoryError

    row = gpu.measure(work, num_frames=8, repeats=0, device=torch.device("cpu"))
    assert row == ["does not fit", "", ""]
