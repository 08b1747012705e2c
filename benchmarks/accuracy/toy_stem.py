"""Starting weights for the toy table: `tiny`, trained end to end where every frame shows a digit.

A stem that is trained on clips of 256 frames would take minutes per epoch; frozen, it sees each frame once.
"""

from pathlib import Path

import torch
from experiments import TOY

from fvar.config import ExtractConfig, ToyConfig, TrainConfig
from fvar.reporting import SilentReporter
from fvar.sources.toy.move4mnist import make_toy
from fvar.stages.extract import extract
from fvar.stages.train import train
from fvar.training.checkpoint import LAST, load_checkpoint

NUM_FRAMES = 16
_NETWORK = "backbone.network."


def train_toy_stem(work: Path) -> Path:
    """Return the file of the weights, made unless it is there."""
    folder = work / "toy-stem"
    weights = folder / "tiny.pt"
    if weights.exists():
        return weights
    toy = ToyConfig(
        layout="burst",
        clips_per_class=150,
        frames=NUM_FRAMES,
        informative=NUM_FRAMES,
        step_px=24 / (NUM_FRAMES - 1),
        noise=4,
        seed=1,
    )
    source = make_toy(folder / "toy", toy, SilentReporter(), overwrite=True)
    settings = ExtractConfig(videos=str(folder / "toy" / "videos"), short_side=64)
    extract(source, folder / "frames", settings, SilentReporter(), overwrite=True)
    config = TrainConfig.model_validate(
        TOY | {"weights": "none", "freeze_stem": False, "clustering": "even", "epochs": 8}
    )
    manifest = train(folder / "frames", folder / "train", config, SilentReporter(), overwrite=True)
    print(f"toy stem: train top-1 {manifest.summary.train_top1:.1%}", flush=True)
    model = load_checkpoint(folder / "train" / LAST).model
    network = {k.removeprefix(_NETWORK): v for k, v in model.items() if k.startswith(_NETWORK)}
    torch.save(network, weights)
    return weights
