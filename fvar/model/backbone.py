"""A torchvision network cut in two where the clustering goes: the stem sees frames, the trunk sees rows.

Parameters keep torchvision's names, so that its weights load strictly. Letters: n frames, R rows, C H W.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, resnet18, resnet34, resnet50, resnet101
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1

from fvar.model.conv_bn_fusion import FoldedStem
from fvar.model.shift import RowLayout, temporal_shift

MOBILENET_STAGE_ENDS = (3, 6, 13, 18)  # last index in `features` of each stage
DEEP_THIRD_STAGE = 23  # from here on every second block shifts, as TSM does for ResNet-101
TINY_WIDTHS = (32, 64, 96, 128)


class Backbone(nn.Module):
    """A network as two functions that share its parameters.

    `stem` treats every frame alone: a frame's activations depend on that frame only (given that batch norms
    are in evaluation mode). `trunk` mixes the rows of a video through the temporal shift.

    Parameters and activations lie channels last in memory: the stem takes 10 to 30 % less time.

    Attributes:
        num_features: Channels of what `trunk` returns.
        folded_stem: The stem as a function of its weights, right while its batch norms keep their statistics.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        units: Sequence[nn.Module],
        num_stem_units: int,
        shifted: Sequence[nn.Module],
        num_features: int,
    ) -> None:
        """Cut `network`.

        Args:
            network: Holds the parameters; its classifier is an `nn.Identity`.
            units: The layers of `network` in the order they run.
            num_stem_units: How many of them are the stem.
            shifted: Units whose input is shifted in time, where they are in the trunk.
            num_features: Channels of the last unit's output.
        """
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.num_features = num_features
        # Tuples are not registered: each parameter keeps one name, the network's.
        self._stem_units = tuple(units[:num_stem_units])
        self._trunk_units = tuple((unit, unit in shifted) for unit in units[num_stem_units:])
        self.folded_stem = FoldedStem(self._stem_units)

    def stem(self, pictures: Tensor) -> Tensor:
        """Return activations before the clustering: (n, 3, H, W) -> (n, C, H', W')."""
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        for unit in self._stem_units:
            pictures = unit(pictures)
        return pictures

    def trunk(self, rows: Tensor, layout: RowLayout) -> Tensor:
        """Return pooled features after the clustering: (R, C, H', W') -> (R, num_features)."""
        for unit, shifts in self._trunk_units:
            rows = _SHIFTED_FORWARD[type(unit)](unit, rows, layout) if shifts else unit(rows)
        return rows.mean(dim=(2, 3))

    def stem_modules(self) -> Iterator[nn.Module]:
        """Yield every module of the stem, in order."""
        for unit in self._stem_units:
            yield from unit.modules()

    def stem_parameters(self) -> list[nn.Parameter]:
        """Return the stem's parameters, in order."""
        return [parameter for unit in self._stem_units for parameter in unit.parameters()]


def _shifted_basic_block(unit: nn.Module, rows: Tensor, layout: RowLayout) -> Tensor:
    block = cast("BasicBlock", unit)
    out = block.relu(block.bn1(block.conv1(temporal_shift(rows, layout))))
    out = block.bn2(block.conv2(out))
    return cast("Tensor", block.relu(out + _shortcut(block.downsample, rows)))


def _shifted_bottleneck(unit: nn.Module, rows: Tensor, layout: RowLayout) -> Tensor:
    block = cast("Bottleneck", unit)
    out = block.relu(block.bn1(block.conv1(temporal_shift(rows, layout))))
    out = block.relu(block.bn2(block.conv2(out)))
    out = block.bn3(block.conv3(out))
    return cast("Tensor", block.relu(out + _shortcut(block.downsample, rows)))


def _shortcut(downsample: nn.Module | None, rows: Tensor) -> Tensor:
    return rows if downsample is None else cast("Tensor", downsample(rows))


def _shifted_inverted_residual(unit: nn.Module, rows: Tensor, layout: RowLayout) -> Tensor:
    block = cast("InvertedResidual", unit)
    return cast("Tensor", rows + block.conv(temporal_shift(rows, layout)))


_SHIFTED_FORWARD: dict[type[nn.Module], Callable[[nn.Module, Tensor, RowLayout], Tensor]] = {
    BasicBlock: _shifted_basic_block,
    Bottleneck: _shifted_bottleneck,
    InvertedResidual: _shifted_inverted_residual,
}


class TinyNetwork(nn.Module):
    """A small residual network for toys and tests: four basic blocks, 32 to 128 channels wide.

    Its children carry torchvision's ResNet names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, TINY_WIDTHS[0], 5, stride=2, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(TINY_WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(_tiny_block(TINY_WIDTHS[0], TINY_WIDTHS[0], stride=1))
        self.layer2 = nn.Sequential(_tiny_block(TINY_WIDTHS[0], TINY_WIDTHS[1], stride=2))
        self.layer3 = nn.Sequential(_tiny_block(TINY_WIDTHS[1], TINY_WIDTHS[2], stride=2))
        self.layer4 = nn.Sequential(_tiny_block(TINY_WIDTHS[2], TINY_WIDTHS[3], stride=1))
        self.fc = nn.Linear(TINY_WIDTHS[3], 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _tiny_block(in_channels: int, channels: int, *, stride: int) -> BasicBlock:
    if stride == 1 and in_channels == channels:
        return BasicBlock(in_channels, channels)
    downsample = nn.Sequential(conv1x1(in_channels, channels, stride), nn.BatchNorm2d(channels))
    return BasicBlock(in_channels, channels, stride, downsample)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "mobilenet_v2": mobilenet_v2,
    "tiny": TinyNetwork,
}


def cut_backbone(network: nn.Module, *, stage: int) -> Backbone:
    """Cut one of `NETWORKS` after `stage` (1..4) and drop its classifier.

    Raises:
        ValueError: `stage` is not 1, 2, 3 or 4.
    """
    if stage not in (1, 2, 3, 4):
        raise ValueError(f"stage {stage}: must be 1, 2, 3 or 4")
    return (_cut_mobilenet if hasattr(network, "features") else _cut_resnet)(network, stage)


def _cut_resnet(network: nn.Module, stage: int) -> Backbone:
    stages = [
        cast("nn.Sequential", network.get_submodule(f"layer{number}")) for number in range(1, 5)
    ]
    before = [network.get_submodule(name) for name in ("conv1", "bn1", "relu", "maxpool")]
    every = 2 if len(stages[2]) >= DEEP_THIRD_STAGE else 1
    classifier = cast("nn.Linear", network.fc)
    network.fc = nn.Identity()
    return Backbone(
        network,
        units=[*before, *(block for blocks in stages for block in blocks)],
        num_stem_units=len(before) + sum(map(len, stages[:stage])),
        shifted=[block for blocks in stages for block in list(blocks)[::every]],
        num_features=classifier.in_features,
    )


def _cut_mobilenet(network: nn.Module, stage: int) -> Backbone:
    units = list(cast("nn.Sequential", network.features))
    network.classifier = nn.Identity()
    return Backbone(
        network,
        units=units,
        num_stem_units=MOBILENET_STAGE_ENDS[stage - 1] + 1,
        shifted=[unit for unit in units if _expands_and_skips(unit)],
        num_features=cast("nn.Conv2d", units[-1].get_submodule("0")).out_channels,
    )


def _expands_and_skips(unit: nn.Module) -> bool:
    """Tell whether `unit` is an inverted residual with a skip connection whose first layer expands."""
    return isinstance(unit, InvertedResidual) and unit.use_res_connect and len(unit.conv) > 3
