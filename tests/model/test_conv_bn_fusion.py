"""Folding: the stem without its frozen norms is the stem, and gradients reach its parameters through it."""

import copy
from dataclasses import replace

import pytest
import torch
from engine_steps import (
    assert_same_gradients,
    assert_same_step,
    distance,
    make_recognizer,
    make_sweep,
    take_step,
)
from tensor_clips import random_clips, settle, settled_backbone
from torch import Tensor, nn

from fvar.model.backbone import Backbone
from fvar.model.conv_bn_fusion import BATCH_NORMS, FoldedLayers
from fvar.model.shift import VideoLayout
from fvar.names import backbone_names

LARGE = {"resnet34", "resnet50", "resnet101"}
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name
    for name in backbone_names()
]


def _pictures() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 32, 32, generator=generator, dtype=torch.float64)


def _folded(backbone: Backbone, pictures: Tensor) -> Tensor:
    return backbone.folded_stem(pictures, backbone.folded_stem.weights())


def _gradients(backbone: Backbone, output: Tensor) -> dict[str, Tensor]:
    """Return the gradients that a random direction at the stem's output gives its parameters."""
    generator = torch.Generator().manual_seed(3)
    backbone.zero_grad()
    output.backward(torch.randn(output.shape, generator=generator, dtype=output.dtype))
    return {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_the_folded_stem_is_the_stem(name: str, stage: int) -> None:
    """In float64 every network's stem gives the same activations and gradients; all its norms are folded."""
    backbone, pictures = settled_backbone(name, stage=stage), _pictures()
    assert not [m for m in backbone.folded_stem.shape.modules() if isinstance(m, BATCH_NORMS)]
    plain, folded = backbone.stem(pictures), _folded(backbone, pictures)
    assert distance(folded, plain) <= 1e-12
    wanted = _gradients(backbone, plain)
    assert len(wanted) == len(backbone.stem_parameters())
    assert_same_gradients(_gradients(backbone, folded), wanted)


def _norm_parameters(backbone: Backbone, kind: str) -> list[nn.Parameter]:
    norms = [module for module in backbone.stem_modules() if isinstance(module, BATCH_NORMS)]
    return {
        "scale": [norm.weight for norm in norms],
        "bias": [norm.bias for norm in norms],
        "both": [parameter for norm in norms for parameter in norm.parameters()],
        "convolutions": [
            module.weight for module in backbone.stem_modules() if isinstance(module, nn.Conv2d)
        ],
    }[kind]


@pytest.mark.parametrize("kind", ["scale", "bias", "both", "convolutions"])
@pytest.mark.parametrize("name", ["tiny", "mobilenet_v2"])
def test_frozen_parameters_get_no_gradient(name: str, kind: str) -> None:
    """With some parameters frozen the others' gradients stay what they are, the frozen ones get none."""
    backbone, pictures = settled_backbone(name, stage=2), _pictures()
    every = _gradients(backbone, _folded(backbone, pictures))
    frozen = _norm_parameters(backbone, kind)
    for parameter in frozen:
        parameter.requires_grad_(False)
    found = _gradients(backbone, _folded(backbone, pictures))
    assert len(found) == len(every) - len(frozen)
    assert_same_gradients(found, {name: every[name] for name in found})
    wanted = _gradients(backbone, backbone.stem(pictures))
    assert_same_gradients(found, wanted)


def _frozen_norm(*, scale: float) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(2).eval()
    norm.weight.data.fill_(scale)
    return norm


@pytest.mark.parametrize("bias", [False, True])
def test_folding_by_hand(*, bias: bool) -> None:
    """W g / sqrt(v + eps) and b - m g / sqrt(v + eps), a convolution's own bias included."""
    convolution, norm = nn.Conv2d(3, 2, 1, bias=bias), _frozen_norm(scale=6.0)
    norm.running_var.copy_(torch.tensor([4.0, 9.0]) - norm.eps)
    norm.running_mean.copy_(torch.tensor([1.0, -2.0]))
    norm.bias.data.fill_(0.5)
    if convolution.bias is not None:
        convolution.bias.data.fill_(1.0)
    folded = dict(zip(("weight", "bias"), FoldedLayers([convolution, norm]).weights(), strict=True))
    scale = torch.tensor([3.0, 2.0])
    torch.testing.assert_close(folded["weight"], convolution.weight * scale[:, None, None, None])
    inner = torch.tensor([-1.0, 2.0]) + bias
    torch.testing.assert_close(folded["bias"], 0.5 + inner * scale)


class NormWithRelu(nn.BatchNorm2d):
    """A norm that holds an activation, as timm's BatchNormAct2d does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class DoublingConv(nn.Conv2d):
    """A convolution that does more than its weight says."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class PreActivation(nn.Module):
    """A block whose convolution feeds a norm and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = (
            nn.Conv2d(3, 4, 1),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x + self.second(self.norm(x).relu())


class Untraceable(nn.Module):
    """A layer whose code depends on what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.abs().sum() >= 0 else x


CONV = nn.Conv2d(3, 4, 1)
UNFOLDED = {
    "a norm that holds an activation": [CONV, NormWithRelu(4)],
    "a norm before any convolution": [nn.BatchNorm2d(3), CONV],
    "an activation in between": [CONV, nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4))],
    "a convolution of another kind": [DoublingConv(3, 4, 1), nn.BatchNorm2d(4)],
    "a convolution that something else sees too": [PreActivation()],
    "a norm without weights": [CONV, nn.BatchNorm2d(4, affine=False)],
    "a stem that cannot be traced": [CONV, nn.BatchNorm2d(4), Untraceable()],
}


@pytest.mark.parametrize("case", UNFOLDED)
def test_a_norm_that_is_not_a_map_of_a_convolution_stays(case: str) -> None:
    """Where folding could change the result the norm stays, and both engines give the stem's own result."""
    network = settle(nn.Sequential(*UNFOLDED[case])).double()
    backbone = Backbone(
        network, units=list(network), num_stem_units=len(network), shifted={}, num_features=4
    )
    norms = [m for m in backbone.folded_stem.shape.modules() if isinstance(m, BATCH_NORMS)]
    assert len(norms) == 1
    assert _same_stem(backbone)
    plain = _gradients(backbone, backbone.stem(_pictures()))
    assert_same_gradients(_gradients(backbone, _folded(backbone, _pictures())), plain)
    clips, sweep = random_clips([5, 2]), make_sweep("even", 2, chunk=2)
    chunked, whole = (
        take_step(make_recognizer(backbone), clips, replace(sweep, engine=engine))
        for engine in ("chunked", "plain")
    )
    assert_same_step(chunked, whole)


def _same_stem(backbone: Backbone) -> bool:
    pictures = _pictures().to(next(backbone.parameters()).dtype)
    return distance(_folded(backbone, pictures), backbone.stem(pictures)) <= 1e-12


def test_a_dropout_in_the_trunk_drops_in_training_alone() -> None:
    """Folding changes no mode of a layer beside the norms."""
    layers = [CONV, nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)]
    network = settle(nn.Sequential(*copy.deepcopy(layers)))
    backbone = Backbone(network, units=list(network), num_stem_units=1, shifted={}, num_features=4)
    layout = VideoLayout.of([2], device=torch.device("cpu"))
    x = torch.rand(2, 4, 5, 5)
    assert torch.equal(backbone.trunk(x, layout), backbone.trunk(x, layout))
    network[3].train()
    assert not torch.equal(backbone.trunk(x, layout), backbone.trunk(x, layout))


def test_weights_follow_the_parameters() -> None:
    """After a step, new statistics, a loaded state and in a copy, the folded stem is the stem again."""
    backbone = settled_backbone("tiny", stage=2)
    stale = backbone.folded_stem.weights()
    _gradients(backbone, _folded(backbone, _pictures()))
    torch.optim.SGD(backbone.parameters(), lr=0.1).step()
    assert distance(backbone.folded_stem(_pictures(), stale), backbone.stem(_pictures())) > 1e-3
    assert _same_stem(backbone)
    before = _folded(backbone, _pictures())
    backbone.network.bn1.running_var.mul_(2)
    assert distance(_folded(backbone, _pictures()), before) > 1e-3
    assert _same_stem(backbone)
    other = settled_backbone("tiny", stage=2, seed=1)
    backbone.load_state_dict(other.state_dict())
    assert torch.equal(_folded(backbone, _pictures()), _folded(other, _pictures()))
    twin = copy.deepcopy(backbone)
    for parameter in backbone.parameters():
        parameter.data.zero_()
    assert torch.equal(_folded(twin, _pictures()), _folded(other, _pictures()))


def test_a_cast_recognizer_folds_the_cast_parameters() -> None:
    """`.to(dtype)` there and back: weights have the parameters' dtype, and the folded stem is the stem."""
    backbone = settled_backbone("tiny", stage=2)
    recognizer = make_recognizer(backbone)
    recognizer.to(torch.float32)
    assert {weight.dtype for weight in backbone.folded_stem.weights()} == {torch.float32}
    recognizer.to(torch.float64)
    assert {weight.dtype for weight in backbone.folded_stem.weights()} == {torch.float64}
    assert _same_stem(backbone)
