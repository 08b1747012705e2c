"""The commands of README, as they are printed there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image

from fvar.config import ToyConfig
from fvar.reporting import SilentReporter
from fvar.sources.toy.move4mnist import make_toy

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home folder with `clips`, a folder for each class, and "ImageNet" weights in torch's cache."""
    toy = ToyConfig(clips_per_class=6, frames=12, size=64, informative=8)
    make_toy(tmp_path / "toy", toy, SilentReporter())
    for path in (tmp_path / "toy" / "videos").glob("*.mp4"):
        label = path.stem.split("_")[1]
        (tmp_path / "clips" / label).mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "clips" / label / path.name)
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    weights = torchvision.models.MobileNet_V2_Weights.DEFAULT
    state = torchvision.models.mobilenet_v2().state_dict()
    torch.save(state, cache / weights.url.rsplit("/", 1)[-1])
    return tmp_path


def _run(home: Path, command: str) -> str:
    """Run a line that starts with fvar in a shell, as a user does; return what it prints."""
    arguments = command.removeprefix("fvar")
    done = subprocess.run(  # noqa: S602  # as a user does
        f"{shlex.quote(sys.executable)} -m cli{arguments}",
        shell=True,  # as a user
        cwd=home,
        env=os.environ | {"HOME": str(home), "TORCH_HOME": str(home / "torch")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_own_videos_in_five_commands(home: Path) -> None:
    """The commands run as printed, and every `next:` that they print runs as well, to the end."""
    section = README.read_text().split("## Your own videos")[1]
    block = section.split("```")[1]
    commands = [line.split(" #")[0].strip() for line in block.strip().splitlines()]
    assert [command.split()[1] for command in commands] == [
        *("manifest", "extract", "train", "eval", "predict"),
    ]
    faster = {"train": " --epochs 1 --workers 0"}
    printed = [_run(home, c + faster.get(c.split()[1], "")) for c in commands]
    followed = [re.findall("^next: (.*)", text, flags=re.MULTILINE) for text in printed]
    assert [found[:1] for found in followed[:3]] == [
        [f"fvar extract clips.csv --videos {home / 'clips'}"],
        ["fvar train runs/clips/frames"],
        ["fvar eval runs/clips/train --split test"],
    ]
    (inspect,) = followed[3]
    said = _run(home, inspect)
    assert (home / "runs/clips/train/clusters-test/index.html").is_file()
    (verify,) = re.findall("^next: (.*)", said, flags=re.MULTILINE)
    _run(home, verify)
    # Asked again, each names another folder, because the usual one is taken.
    again = _run(home, f"{commands[3]} --split val")
    _run(home, re.findall("^next: (.*)", again, flags=re.MULTILINE)[0])
    third = _run(home, f"{commands[3]} --split val --out other")
    assert third.endswith(
        "next: fvar inspect-clusters runs/clips/train --split val "
        "--out runs/clips/train/clusters-val-2\n"
    )
    updated = _run(home, f"{commands[1]} --update")
    assert updated.endswith("next: fvar train runs/clips/frames --out runs/clips/train-2\n")


@pytest.mark.parametrize("path", sorted(README.parent.glob("docs/*.png")), ids=lambda p: p.name)
def test_pictures_are_pictures(path: Path) -> None:
    """Every picture of the pages opens, and is small enough for a page."""
    with Image.open(path) as picture:
        assert min(picture.size) > 100
    assert path.stat().st_size < 300_000
