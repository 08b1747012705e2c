"""A toy set, its extraction and trainings on it, for all tests of predictions."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fvar.config import EvalConfig, ExtractConfig, ToyConfig, TrainConfig
from fvar.inference.model import Model, load_model
from fvar.reporting import SilentReporter
from fvar.sources.toy.move4mnist import make_toy
from fvar.stages.evaluate import evaluate
from fvar.stages.extract import extract
from fvar.stages.train import train


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `toy`, `frames`, `train` and `eval`; no test writes into those."""
    folder = tmp_path_factory.mktemp("chain")
    quiet = SilentReporter()
    toy = ToyConfig(clips_per_class=3, frames=12, size=32, informative=6, noise=2, seed=1)
    source = make_toy(folder / "toy", toy, quiet)
    settings = ExtractConfig(videos=str(folder / "toy" / "videos"), short_side=32)
    extract(source, folder / "frames", settings, quiet)
    train(folder / "frames", folder / "train", _config("cumulative"), quiet)
    evaluate(folder / "train", folder / "eval", EvalConfig(workers=0), quiet)
    return folder


@pytest.fixture(scope="session")
def train_toy(chain: Path) -> Callable[[Path, str], Path]:
    """Return a function that trains with a clustering into a folder, in a second."""

    def run(out: Path, clustering: str) -> Path:
        train(chain / "frames", out, _config(clustering), SilentReporter())
        return out

    return run


def _config(clustering: str) -> TrainConfig:
    return TrainConfig(
        backbone="tiny",
        weights="none",
        clustering=clustering,
        size=32,
        clusters=4,
        epochs=2,
        norm="stem-frozen",
        workers=0,
    )


@pytest.fixture(scope="session")
def model(chain: Path) -> Iterator[Model]:
    """Return the loaded training."""
    with load_model(chain / "train", device="cpu", workers=1) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def clip(chain: Path) -> Path:
    """Return a video of the toy set."""
    return min((chain / "toy" / "videos").glob("test_*.mp4"))
