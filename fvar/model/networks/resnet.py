"""ResNets with torchvision's names and initialization, cut after one of their four residual stages.

Defined here, because `import torchvision` also imports torch's compiler, which takes 1.4 CPU seconds; torch
itself takes 1.9. Tests compare weights and features with torchvision's networks.

Source: K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016; in a `Bottleneck` the 3 x 3
convolution has the stride, as in torchvision's weights.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from fvar.model.backbone import Backbone

NAMES = ("resnet18", "resnet34", "resnet50", "resnet101")
DEEP_THIRD_STAGE = 23  # from here on every second block shifts, as TSM does for ResNet-101
STAGE_WIDTHS = (64, 128, 256, 512)


def cut(name: str, stage: int) -> Backbone:
    """Return the network `name`, cut."""
    block, num_blocks = _NETWORKS[name]
    return cut_resnet(ResNet(block, num_blocks), stage)


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


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a skip connection: the result has `width` channels."""

    EXPANSION = 1

    def __init__(self, in_channels: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        downsample = _downsample(in_channels, width, stride)
        self.conv1 = _conv(in_channels, width, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return cast("Tensor", self.relu(out))


class Bottleneck(nn.Module):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1 and a skip connection: the result has 4 * width channels."""

    EXPANSION = 4

    def __init__(self, in_channels: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        out_channels = width * self.EXPANSION
        downsample = _downsample(in_channels, out_channels, stride)
        self.conv1 = _conv(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return cast("Tensor", self.relu(out))


def _conv(in_channels: int, out_channels: int, size: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)


def _downsample(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """Return the skip connection's layers, or None where shapes already fit.

    Blocks build it first: a seed then gives the weights that it gives in torchvision.
    """
    if stride == 1 and in_channels == out_channels:
        return None
    convolution = _conv(in_channels, out_channels, 1, stride=stride)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


Block = type[BasicBlock] | type[Bottleneck]

_NETWORKS: dict[str, tuple[Block, Sequence[int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
}


class ResNet(nn.Module):
    """The layers of a ResNet, which `Backbone` runs; `num_blocks` counts the blocks of each stage."""

    def __init__(self, block: Block, num_blocks: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = 64
        for number, (width, count) in enumerate(zip(STAGE_WIDTHS, num_blocks, strict=True), 1):
            blocks = [block(channels, width, stride=1 if number == 1 else 2)]
            channels = width * block.EXPANSION
            blocks += [block(channels, width) for _ in range(1, count)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, 1000)  # drawn for the same seed, same weights; then dropped
        initialize_convolutions(self)


def initialize_convolutions(network: nn.Module) -> None:
    """Draw the weights of all convolutions of `network`, in order, as torchvision does."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
