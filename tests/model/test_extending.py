"""Extending: a clustering and a family of networks are one new file each, an aggregator is one function."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine_steps import ENGINES, assert_same_step, make_recognizer, make_sweep, take_step
from tensor_clips import random_clips, settled_backbone
from torch import Tensor

from fvar.model.averaging import Aggregator
from fvar.model.engine import represent

ROOT = Path(__file__).resolve().parents[2]

# The last K-1 frames are clusters of their own.
LATE = """
import torch

EXPLANATION = "The last k-1 frames stand alone."
NEEDS = "nothing"
IS_RANDOM = False


def boundaries(_measured, lengths, num_clusters, _cut_keys):
    return lengths[:, None] - num_clusters + torch.arange(1, num_clusters)
"""

# Three convolutions; the temporal shift stands before the last one.
STRIPES = """
from torch import nn

from fvar.model.backbone import Backbone

NAMES = ("stripes", "wide_stripes")


def cut(name, stage):
    width = 16 if name == "stripes" else 32
    units = [nn.Conv2d(3, width, 3, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 1)]
    network = nn.Sequential(*units)
    return Backbone(
        network, units=units, num_stem_units=3, shifted={units[3]: units[3]}, num_features=width
    )
"""

TRAIN = """
import sys
from dataclasses import replace

import torch
from engine_steps import ENGINES, assert_same_step, distance, take_step
from tensor_clips import random_clips

from fvar.config import (TrainConfig)
from fvar.model.build import build_recognizer, build_sweep

backbone, clustering = sys.argv[1:]
config = TrainConfig(
    backbone=backbone, clustering=clustering, clusters=3, weights="none", norm="frozen", dropout=0
)
recognizer = build_recognizer(config, num_classes=5).double()
sweep, clips = build_sweep(config, recognizer.backbone), random_clips([7, 5])
steps = [take_step(recognizer, clips, replace(sweep, engine=engine)) for engine in ENGINES]
assert_same_step(*steps)
assert steps[0].gradients.keys() == {name for name, _ in recognizer.named_parameters()}
torch.optim.SGD(recognizer.parameters(), lr=0.1).step()
found = recognizer.eval().infer(clips[0], sweep)
assert distance(found.logits, steps[0].logits[0]) > 1e-3
print(len(recognizer.classifier.weight[0]), found.boundaries[1:].tolist())
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a copy of the package to which the two files were added."""
    folder = tmp_path_factory.mktemp("package")
    for name in ("fvar", "cli"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "fvar" / "model" / "clusterings" / "late.py").write_text(LATE)
    (folder / "fvar" / "model" / "networks" / "stripes.py").write_text(STRIPES)
    return folder


def _run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(package), str(ROOT / "tests" / "helpers")])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=package,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200"},  # so that no name is wrapped
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "names"), [("--clustering", ["late", "slope"]), ("--backbone", ["stripes", "tiny"])]
)
def test_the_command_line_lists_and_checks_what_was_added(
    flag: str, names: list[str], package: Path
) -> None:
    """`--help` and the usage error for a wrong name list a new file's names."""
    shown = _run(package, "-m", "cli", "train", "--help")
    refused = _run(package, "-m", "cli", "train", "frames", flag, "missing")
    assert (shown.returncode, refused.returncode) == (0, 2)
    for name in names:
        assert name in shown.stdout
        assert f"'{name}'" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "clustering", "wanted"),
    [
        ("tiny", "late", "128 [5, 6, 7]"),
        ("wide_stripes", "even", "32 [2, 4, 7]"),
    ],
)
def test_what_was_added_trains_and_infers(
    backbone: str, clustering: str, wanted: str, package: Path
) -> None:
    """With a new clustering and network both engines agree in float64 on two clips, and a step trains."""
    ended = _run(package, "-c", TRAIN, backbone, clustering)
    assert (ended.stdout.strip(), ended.stderr) == (wanted, "")


def _first_frame(starts: Tensor, _stops: Tensor, frames: Tensor, dtype: torch.dtype) -> Tensor:
    return (frames == starts[:, None]).to(dtype)


def _triangle(starts: Tensor, stops: Tensor, frames: Tensor, dtype: torch.dtype) -> Tensor:
    """Weigh a frame by its distance to the nearer end of its cluster."""
    near = torch.minimum(frames + 1 - starts[:, None], stops[:, None] - frames).clamp(min=0)
    sizes = (stops - starts)[:, None]
    return near.to(dtype) / ((sizes + 1) // 2 * (sizes // 2 + 1)).to(dtype)


@pytest.mark.parametrize("aggregator", [_first_frame, _triangle])
def test_any_linear_aggregator_works_in_every_engine(aggregator: Aggregator) -> None:
    """Another matrix than the mean's gives what it defines, and in float64 the same step in both engines."""
    recognizer, (clip,) = make_recognizer(settled_backbone("tiny")), random_clips([11])
    steps = []
    for engine in ENGINES:
        sweep = replace(make_sweep("slope", 3, engine=engine, chunk=2), aggregator=aggregator)
        found = represent(recognizer.backbone, [clip], sweep)
        assert found.clusters is not None
        ends = found.clusters.starts[0], found.clusters.stops[0]
        matrix = aggregator(*ends, torch.arange(11), torch.float64)
        torch.testing.assert_close(matrix.sum(dim=1), torch.ones(3, dtype=torch.float64))
        expected = torch.tensordot(matrix, recognizer.backbone.stem(clip.frames), dims=1)
        torch.testing.assert_close(found.activations, expected)
        steps.append(take_step(recognizer, [clip], sweep))
    assert_same_step(*steps)
