"""The runs of each accuracy table: which data, which method, which seeds and settings."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from fvar.config import TrainConfig

ADAPTIVE = ("cumulative", "slope", "variance", "windowed")
TOY_SHARES = (1, 2, 5, 10, 30)  # % of the frames that show a digit
TOY_LAYOUTS = (("burst", 8), ("burst", 2), ("scattered", 0), ("burst", 0), ("scattered", 8))


@dataclass(frozen=True)
class Run:
    """One training and its evaluation.

    Attributes:
        data: Name of the data set (`videos.make_frames`).
        fold: Which third of the recordings is tested.
        clustering: As in ``fvar train``.
        clusters: k.
        seed: Of the training.
        settings: Further settings of the training, as ``name=value`` separated by spaces.
    """

    data: str
    fold: int
    clustering: str
    clusters: int
    seed: int
    settings: str = ""

    def config(self, weights: Path) -> TrainConfig:
        """Return the settings of the training, from starting weights in a file."""
        base = TOY if "-" in self.data else UT
        given = dict(part.split("=", 1) for part in self.settings.split())
        return TrainConfig.model_validate(
            {
                **base,
                "weights": str(weights),
                "clustering": self.clustering,
                "clusters": self.clusters,
                "seed": self.seed,
                "workers": 0,
                **{name: _value(text) for name, text in given.items()},
            }
        )


# Otherwise the defaults of `fvar train`.
UT = {"backbone": "mobilenet_v2", "size": 112, "epochs": 20, "cache_gb": 100.0}
# As the recipe `toy`, with a frozen stem: the batch norms of the trunk train.
TOY = {
    "backbone": "tiny",
    "size": 64,
    "crop_share": 1.0,
    "flip": False,
    "epochs": 10,
    "batch_size": 16,
    "lr": 0.05,
    "clip_grad_norm": 20.0,
    "dropout": 0.0,
    "label_smoothing": 0.0,
    "norm": "train",
    "freeze_stem": True,
    "cache_gb": 100.0,
}


def _value(text: str) -> str | bool:
    return {"true": True, "false": False}.get(text, text)


def toy() -> Iterator[Run]:
    """Yield the runs of the toy table: accuracy against the share of informative frames."""
    for (layout, noise), percent in product(TOY_LAYOUTS, TOY_SHARES):
        data = f"{layout}-{percent}-{noise}"  # layout, informative frames in %, noise
        for seed, name in product(range(3), ("uniform", "even", *ADAPTIVE)):
            yield Run(data, 0, name, 8, seed)
        yield Run(data, 0, "uniform", 32, 0)


def untrimmed() -> Iterator[Run]:
    """Yield the runs on UT-Interaction clips inside longer videos."""
    data_sets = ("still5", "scenes5", "still10")
    for fold, data, name in product(range(3), data_sets, ("uniform", "even", *ADAPTIVE)):
        yield Run(data, fold, name, 8, 0)
    for fold, data in product(range(3), data_sets):
        yield Run(data, fold, "uniform", 32, 0)
    for fold, data, name in product(range(3), data_sets, ("uniform", "even", *ADAPTIVE)):
        yield Run(data, fold, name, 8, 1)


def trimmed() -> Iterator[Run]:
    """Yield the runs on UT-Interaction clips as they are."""
    for seed, fold in product(range(3), range(3)):
        for name in ("uniform", "even", *ADAPTIVE):
            yield Run("trimmed", fold, name, 8, seed)


def settings() -> Iterator[Run]:
    """Yield the runs that change one setting at a time, on trimmed clips."""
    for fold in range(3):
        for name, k in product(("uniform", "cumulative", "windowed"), (4, 16)):
            yield Run("trimmed", fold, name, k, 0)
        for stage, name in product((2, 3, 4), ("cumulative", "windowed")):
            yield Run("trimmed", fold, name, 8, 0, f"stage={stage}")


TABLES: dict[str, Callable[[], Iterator[Run]]] = {
    "toy": toy,
    "untrimmed": untrimmed,
    "trimmed": trimmed,
    "settings": settings,
}
