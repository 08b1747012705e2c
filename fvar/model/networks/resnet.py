"""Torchvision's ResNets, cut after one of their four residual stages."""

from typing import cast

from torch import nn
from torchvision.models import get_model

from fvar.model.backbone import Backbone

NAMES = ("resnet18", "resnet34", "resnet50", "resnet101")
DEEP_THIRD_STAGE = 23  # from here on every second block shifts, as TSM does for ResNet-101


def cut(name: str, stage: int) -> Backbone:
    """Return torchvision's network `name`, cut."""
    return cut_resnet(get_model(name), stage)


def cut_resnet(network: nn.Module, stage: int) -> Backbone:
    """Cut a network whose children have the names of torchvision's ResNets.

    The temporal shift stands before the first convolution of each block.
    """
    stages = [
        list(cast("nn.Sequential", network.get_submodule(f"layer{number}")))
        for number in range(1, 5)
    ]
    before = [network.get_submodule(name) for name in ("conv1", "bn1", "relu", "maxpool")]
    every = 2 if len(stages[2]) >= DEEP_THIRD_STAGE else 1
    classifier = cast("nn.Linear", network.fc)
    network.fc = nn.Identity()
    return Backbone(
        network,
        units=[*before, *(block for blocks in stages for block in blocks)],
        num_stem_units=len(before) + sum(map(len, stages[:stage])),
        shifted={
            block: block.get_submodule("conv1") for blocks in stages for block in blocks[::every]
        },
        num_features=classifier.in_features,
    )
