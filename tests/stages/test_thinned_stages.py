"""Every later stage reports that extraction left frames out on purpose."""

import json
from pathlib import Path

import pytest
from training_samples import tiny_config, write_frames
from video_samples import Recorder

from fvar.config import EvalConfig, ExtractConfig, InspectConfig
from fvar.stages.evaluate import evaluate
from fvar.stages.inspect_clusters import inspect_clusters
from fvar.stages.train import train


@pytest.mark.slow
def test_every_later_stage_says_it(tmp_path: Path) -> None:
    """Training, evaluation and inspection say which frames they work on when they are not all."""
    path = write_frames(tmp_path / "frames") / "manifest.json"
    data = json.loads(path.read_text())
    data["config"]["stride"] = 4
    path.write_text(json.dumps(data))
    run, listeners = tmp_path / "train", [Recorder() for _ in range(3)]
    train(tmp_path / "frames", run, tiny_config(epochs=1), listeners[0])
    evaluate(run, tmp_path / "eval", EvalConfig(workers=0), listeners[1])
    config = InspectConfig(workers=0, limit=1)
    inspect_clusters([run], tmp_path / "clusters", config, listeners[2])
    said = "frames thinned at extraction, kept: one frame in 4"
    assert [said in listener.lines for listener in listeners] == [True] * 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, None),
        ({"stride": 1}, None),
        ({"stride": 2}, "one frame in 2"),
        ({"fps": 12.5}, "those shown at 12.5 ticks per second"),
    ],
)
def test_how_it_is_said(settings: dict[str, float], said: str | None) -> None:
    """A stride or a rate is said in words; a stride of one leaves nothing out."""
    assert ExtractConfig.model_validate({"videos": "v", **settings}).thinning == said


def test_fps_and_stride_exclude_each_other() -> None:
    """One of them is chosen, not both."""
    with pytest.raises(ValueError, match="`fps` and `stride` exclude each other"):
        ExtractConfig(videos="v", fps=5.0, stride=2)
