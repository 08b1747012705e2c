"""Every bundled recipe says what it is said to say."""

from typing import Any

import pytest

from fvar.names import recipe_names
from fvar.recipes.resolve import train_config

# Rate at batch, epochs, tenths, weight decay, dropout, mirroring: TSM's published recipes.
# Clusters and Move4MNIST: the method's authors.
# UCF101 and HMDB51 start from Kinetics weights that the user passes; their first batch norm is frozen too.
# Breakfast: rate and epochs are unpublished, Something-Something's at a batch of 16.
# fmt: off
TABLE: dict[str, tuple[Any, ...]] = {
    #              backbone     lr      batch epochs milestones  wd    dropout flip   k   norm
    "ucf101":       ("resnet50", 0.001,  64,   25,   (10, 20),   5e-4, 0.8,    True,  8,  "frozen"),
    "hmdb51":       ("resnet50", 0.001,  64,   25,   (10, 20),   5e-4, 0.8,    True,  8,  "frozen"),
    "something_v1": ("resnet50", 0.01,   64,   50,   (20, 40),   5e-4, 0.5,    False, 8,  "stem-frozen"),
    "something_v2": ("resnet50", 0.01,   64,   50,   (20, 40),   5e-4, 0.5,    False, 8,  "stem-frozen"),
    "kinetics400":  ("resnet50", 0.02,   128,  50,   (20, 40),   1e-4, 0.5,    True,  8,  "stem-frozen"),
    "breakfast":    ("resnet50", 0.0025, 16,   50,   (20, 40),   5e-4, 0.5,    True,  16, "stem-frozen"),
    "move4mnist":   ("resnet18", 0.001,  16,   40,   (40,),      5e-4, 0.8,    False, 16, "train"),
}
# fmt: on


def test_every_published_recipe_is_there() -> None:
    """Each recipe of the table can be named."""
    assert set(TABLE) <= set(recipe_names())


@pytest.mark.parametrize("name", TABLE)
def test_recipe_equals_the_table(name: str) -> None:
    """A recipe parses, and its numbers are the published ones with the departures it names."""
    c = train_config({}, recipe=name)
    assert TABLE[name] == (
        c.backbone, c.lr, c.batch_size, c.epochs, c.milestones, c.weight_decay, c.dropout, c.flip,
        c.clusters, c.norm,
    )  # fmt: skip
    common = (c.schedule, c.momentum, c.clip_grad_norm, c.clustering, c.stage, c.weights)
    assert common == ("step", 0.9, 20.0, "cumulative", 1, "imagenet")
    assert (c.label_smoothing, c.freeze_stem) == (0, False)
    toy = name == "move4mnist"
    assert (c.size, c.sampled_epochs, c.crop) == (
        (64, 6, "center") if toy else (224, 0, "multi-scale")
    )


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_parses(name: str) -> None:
    """Whatever recipe is bundled, its keys and values are valid."""
    train_config({}, recipe=name)
