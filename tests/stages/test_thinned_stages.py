"""Fewer frames on purpose are said by every later stage."""

import json
from pathlib import Path

import pytest
from training_samples import tiny_config, write_frames

from fvar.config import EvalConfig, ExtractConfig, InspectConfig
from fvar.reporting import SilentReporter
from fvar.stages.evaluate import evaluate
from fvar.stages.inspect_clusters import inspect_clusters
from fvar.stages.train import train

SAID = "frames thinned at extraction, kept: every 4th frame"


class _Listener(SilentReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


def _run_all(folder: Path) -> list[list[str]]:
    listeners = [_Listener() for _ in range(3)]
    config = tiny_config(epochs=1)
    train(folder / "frames", folder / "train", config, listeners[0])
    evaluate(folder / "train", folder / "eval", EvalConfig(workers=0), listeners[1])
    inspect_clusters(
        folder / "train", folder / "clusters", InspectConfig(workers=0, limit=1), listeners[2]
    )
    return [listener.lines for listener in listeners]


def test_every_later_stage_says_it(tmp_path: Path) -> None:
    """Training, evaluation and inspection say which frames they work on when they are not all."""
    path = write_frames(tmp_path / "frames") / "manifest.json"
    data = json.loads(path.read_text())
    data["config"]["stride"] = 4
    path.write_text(json.dumps(data))
    assert [SAID in lines for lines in _run_all(tmp_path)] == [True] * 3


def test_nothing_is_said_of_all_frames(tmp_path: Path) -> None:
    """Where extraction kept every frame, no stage speaks of it."""
    write_frames(tmp_path / "frames")
    assert not any("thinned" in line for lines in _run_all(tmp_path) for line in lines)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, None),
        ({"stride": 1}, None),
        ({"stride": 2}, "every 2nd frame"),
        ({"stride": 3}, "every 3rd frame"),
        ({"stride": 11}, "every 11th frame"),
        ({"stride": 21}, "every 21st frame"),
        ({"stride": 112}, "every 112th frame"),
        ({"fps": 12.5}, "those shown at 12.5 ticks a second"),
    ],
)
def test_how_it_is_said(settings: dict[str, float], said: str | None) -> None:
    """A stride is an ordinal, a rate is in ticks a second; a stride of one leaves nothing out."""
    assert ExtractConfig.model_validate({"videos": "v", **settings}).thinning == said


def test_fps_and_stride_exclude_each_other() -> None:
    """One of them is chosen, not both."""
    with pytest.raises(ValueError, match="`fps` and `stride` exclude each other"):
        ExtractConfig(videos="v", fps=5.0, stride=2)
