"""MobileNetV2 with torchvision's names and initialization, cut after one of its stages.

Defined here for the reason that `resnet.py` gives. Source: M. Sandler et al., MobileNetV2: Inverted Residuals
and Linear Bottlenecks, CVPR 2018.
"""

from torch import Tensor, nn

from fvar.model.backbone import Backbone
from fvar.model.networks.resnet import initialize_convolutions

NAMES = ("mobilenet_v2",)
STAGE_ENDS = (3, 6, 13, 18)  # last index in `features` of each stage
NUM_FEATURES = 1280
# Table 2 of the paper: expansion, channels, number of blocks, stride of the first of them
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def cut(_name: str, stage: int) -> Backbone:
    """Return the network, cut.

    The temporal shift stands before the first layer of each block that expands and has a skip connection.
    """
    network = MobileNetV2()
    network.classifier = nn.Identity()
    units = list(network.features)
    return Backbone(
        network,
        units=units,
        num_stem_units=STAGE_ENDS[stage - 1] + 1,
        shifted={unit: unit.get_submodule("conv.0") for unit in units if _expands_and_skips(unit)},
        num_features=NUM_FEATURES,
    )


def _expands_and_skips(unit: nn.Module) -> bool:
    return isinstance(unit, InvertedResidual) and unit.skips and len(unit.conv) > 3


class InvertedResidual(nn.Module):
    """Expands the channels, filters each of them alone, and projects them to fewer.

    Attributes:
        skips: Whether there is a skip connection.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.skips = stride == 1 and in_channels == out_channels
        expand = [_layer(in_channels, wide, size=1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *expand,
            _layer(wide, wide, size=3, stride=stride, groups=wide),
            nn.Conv2d(wide, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        out: Tensor = self.conv(x)
        return x + out if self.skips else out


def _layer(
    in_channels: int, out_channels: int, *, size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return a convolution, its batch norm and the activation."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, size, stride, padding=size // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    )


class MobileNetV2(nn.Module):
    """The layers of the network, which `Backbone` runs."""

    def __init__(self) -> None:
        super().__init__()
        channels = 32
        features: list[nn.Module] = [_layer(3, channels, size=3, stride=2)]
        for expansion, width, count, first_stride in BLOCKS:
            for i in range(count):
                stride = first_stride if i == 0 else 1
                features.append(
                    InvertedResidual(channels, width, stride=stride, expansion=expansion)
                )
                channels = width
        features.append(_layer(channels, NUM_FEATURES, size=1))
        self.features = nn.Sequential(*features)
        # Drawn as in torchvision, so that the same seed gives the same weights; then dropped.
        linear = nn.Linear(NUM_FEATURES, 1000)
        self.classifier: nn.Module = linear
        initialize_convolutions(self)
        nn.init.normal_(linear.weight, 0, 0.01)
