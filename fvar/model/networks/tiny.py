"""A small residual network for toys and tests."""

from torch import nn

from fvar.model.backbone import Backbone
from fvar.model.networks.resnet import BasicBlock, cut_resnet, initialize_convolutions

NAMES = ("tiny",)
WIDTHS = (32, 64, 96, 128)


def cut(_name: str, stage: int) -> Backbone:
    """Return the network, cut."""
    return cut_resnet(TinyNetwork(), stage)


class TinyNetwork(nn.Module):
    """Four basic blocks, 32 to 128 channels wide; its children carry torchvision's ResNet names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 5, stride=2, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(WIDTHS[0], WIDTHS[0]))
        self.layer2 = nn.Sequential(BasicBlock(WIDTHS[0], WIDTHS[1], stride=2))
        self.layer3 = nn.Sequential(BasicBlock(WIDTHS[1], WIDTHS[2], stride=2))
        self.layer4 = nn.Sequential(BasicBlock(WIDTHS[2], WIDTHS[3]))
        self.fc = nn.Linear(WIDTHS[3], 1)
        initialize_convolutions(self)
