"""Torchvision's MobileNetV2, cut after one of its stages."""

from typing import cast

from torch import nn
from torchvision.models import get_model
from torchvision.models.mobilenetv2 import InvertedResidual

from fvar.model.backbone import Backbone

NAMES = ("mobilenet_v2",)
STAGE_ENDS = (3, 6, 13, 18)  # last index in `features` of each stage


def cut(name: str, stage: int) -> Backbone:
    """Return torchvision's network `name`, cut.

    The temporal shift stands before the first layer of each block that expands and has a skip connection.
    """
    network = get_model(name)
    units = list(cast("nn.Sequential", network.features))
    network.classifier = nn.Identity()
    return Backbone(
        network,
        units=units,
        num_stem_units=STAGE_ENDS[stage - 1] + 1,
        shifted={unit: unit.get_submodule("conv.0") for unit in units if _expands_and_skips(unit)},
        num_features=cast("nn.Conv2d", units[-1].get_submodule("0")).out_channels,
    )


def _expands_and_skips(unit: nn.Module) -> bool:
    return isinstance(unit, InvertedResidual) and unit.use_res_connect and len(unit.conv) > 3
