"""The backbones: torchvision's networks, cut in two, shifted in the trunk alone."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pytest
import torch
from tensor_clips import settle, settled_backbone
from torch import Tensor, nn
from torchvision.models import get_model

from fvar.model import backbone as backbone_module
from fvar.model.backbone import Backbone
from fvar.model.networks import cut_backbone
from fvar.model.networks.resnet import BasicBlock, cut_resnet
from fvar.model.networks.tiny import TinyNetwork
from fvar.model.shift import VideoLayout
from fvar.model.weights import load_strictly
from fvar.names import backbone_names

LARGE = {"resnet34", "resnet50", "resnet101"}


def _params(names: Iterable[str]) -> list[Any]:
    return [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in names]


NAMES = _params(backbone_names())
# Without those that differ in depth alone from others of their family.
DISTINCT = _params(name for name in backbone_names() if name not in ("resnet34", "resnet101"))
RESNET_BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "tiny": (1, 1, 1, 1),
}
NUM_FEATURES = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "mobilenet_v2": 1280,
    "tiny": 128,
}
# Torchvision's `features` that expand and skip: all but the first of each group of equal width.
MOBILENET_SHIFTED = (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)
MOBILENET_STEM_ENDS = (3, 6, 13, 18)
COUNTS = (3, 1, 2)


def _fresh(name: str) -> nn.Module:
    return TinyNetwork() if name == "tiny" else get_model(name)


@lru_cache(maxsize=1)
def _network(name: str) -> nn.Module:
    """Return torchvision's network itself, in float64, without classifier: it gives pooled features."""
    network = settle(_fresh(name)).double()
    setattr(network, "classifier" if name == "mobilenet_v2" else "fc", nn.Identity())
    return network


def _pooled(name: str, pictures: Tensor, network: nn.Module | None = None) -> Tensor:
    """Return pooled features by torchvision's own forward (`tiny`: by its layers in their order)."""
    network = network or _network(name)
    if name != "tiny":
        return network(pictures)
    for layer in network.children():
        pictures = layer(pictures)
    return pictures.mean(dim=(2, 3))


def _cut(name: str, *, stage: int) -> Backbone:
    """Return the same parameters, cut."""
    backbone = cut_backbone(name, stage=stage).double().eval()
    backbone.network.load_state_dict(_network(name).state_dict())
    return backbone


def _layers_to_shift(name: str, *, stage: int) -> list[str]:
    """Return the layer of each block whose input is shifted, written down by hand."""
    if name == "mobilenet_v2":
        end = MOBILENET_STEM_ENDS[stage - 1]
        return [f"features.{unit}.conv.0.0" for unit in MOBILENET_SHIFTED if unit > end]
    every = 2 if name == "resnet101" else 1
    return [
        f"layer{number}.{block}.conv1"
        for number, blocks in enumerate(RESNET_BLOCKS[name], start=1)
        for block in range(0, blocks, every)
        if number > stage
    ]


@contextmanager
def _shifted_by_hooks(network: nn.Module, names: list[str]) -> Iterator[None]:
    """Shift what the named layers are given."""

    def shift(_module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return _shifted(inputs[0])

    handles = [network.get_submodule(name).register_forward_pre_hook(shift) for name in names]
    yield
    for handle in handles:
        handle.remove()


def _shifted(x: Tensor) -> Tensor:
    """Shift by slices of each video."""
    fold, shifted = x.shape[1] // 8, []
    for video in x.split(list(COUNTS)):
        none = torch.zeros_like(video[:1, :fold])
        ahead = torch.cat([video[1:, :fold], none])
        back = torch.cat([none, video[:-1, fold : 2 * fold]])
        shifted.append(torch.cat([ahead, back, video[:, 2 * fold :]], dim=1))
    return torch.cat(shifted)


def _pictures(count: int = sum(COUNTS), *, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)


def _features(backbone: Backbone) -> Tensor:
    layout = VideoLayout.of(COUNTS, device=torch.device("cpu"))
    return backbone.trunk(backbone.stem(_pictures()), layout)


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTINCT)
@torch.no_grad()
def test_stem_and_trunk_without_shift_are_torchvisions_forward(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every stage, stem and trunk together give torchvision's pooled features when nothing is shifted."""
    monkeypatch.setattr(backbone_module, "temporal_shift", lambda x, _layout: x)
    expected = _pooled(name, _pictures())
    for stage in (1, 2, 3, 4):
        features = _features(_cut(name, stage=stage))
        torch.testing.assert_close(features, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_right_blocks_shift_and_their_skips_do_not(name: str) -> None:
    """At every stage the result is torchvision's forward with the inputs of hand-listed layers shifted.

    So the blocks are the right ones (ResNet-101: every second; MobileNetV2: those that expand and skip), none
    before the cut, and the skip connections are not shifted.
    """
    for stage in (1, 2, 3, 4):
        with _shifted_by_hooks(_network(name), _layers_to_shift(name, stage=stage)):
            expected = _pooled(name, _pictures())
        features = _features(_cut(name, stage=stage))
        torch.testing.assert_close(features, expected, rtol=1e-8, atol=1e-10)
        unshifted = torch.allclose(_pooled(name, _pictures()), expected)
        assert unshifted == (stage == 4)


class _DoubledBlock(BasicBlock):
    """A residual block with a forward pass of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@torch.no_grad()
def test_a_subclass_of_a_block_runs_its_own_forward_and_shifts() -> None:
    """A block whose class a family does not know keeps its forward pass and its shift; no hook is left."""
    network = copy.deepcopy(settled_backbone("tiny").network)
    network.fc = nn.Linear(NUM_FEATURES["tiny"], 1)
    plain = _features(cut_resnet(copy.deepcopy(network), 1).eval())
    network.layer4[0].__class__ = _DoubledBlock
    backbone = cut_resnet(network, 1).eval()
    torch.testing.assert_close(_features(backbone), 2 * plain)
    for layers in (network, backbone._folded_trunk.shape):
        assert not any(module._forward_pre_hooks for module in layers.modules())


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("name", ["tiny", pytest.param("mobilenet_v2", marks=pytest.mark.slow)])
def test_the_gradient_is_torchvisions(name: str, trains: bool) -> None:
    """Of every weight, whether the trunk's norms keep their statistics or take those of the batch."""
    network = copy.deepcopy(_network(name)).train(trains)
    backbone = _cut(name, stage=1).train(trains)
    with _shifted_by_hooks(network, _layers_to_shift(name, stage=1)):
        expected = _pooled(name, _pictures(), network)
    features = _features(backbone)
    torch.testing.assert_close(features, expected, rtol=1e-8, atol=1e-10)
    weights = torch.randn(expected.shape, dtype=expected.dtype, generator=torch.Generator())
    (expected * weights).sum().backward()
    (features * weights).sum().backward()
    found = dict(backbone.network.named_parameters())
    for parameter_name, parameter in network.named_parameters():
        torch.testing.assert_close(
            found[parameter_name].grad, parameter.grad, rtol=1e-7, atol=1e-9, msg=parameter_name
        )


@torch.no_grad()
def test_the_trunk_mixes_representations_within_a_video_only() -> None:
    """Changing one representation changes its neighbors' features in its video, and no other video's."""
    backbone, layout = _cut("tiny", stage=1), VideoLayout.of(COUNTS, device=torch.device("cpu"))
    x = backbone.stem(_pictures())
    before = backbone.trunk(x, layout)
    x[1] += 1  # in the middle of the first video, of three
    changed = (backbone.trunk(x, layout) != before).any(dim=1)
    assert changed.tolist() == [True, True, True, False, False, False]


# Of 64 px: torchvision's strides, by hand.
STEM_SHAPES = {
    "resnet18": [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)],
    "mobilenet_v2": [(24, 16, 16), (32, 8, 8), (96, 4, 4), (1280, 2, 2)],
    "tiny": [(32, 16, 16), (64, 8, 8), (96, 4, 4), (128, 4, 4)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STEM_SHAPES)
@torch.no_grad()
def test_the_stem_ends_with_its_stage_and_treats_each_frame_alone(name: str) -> None:
    """Each stage's output has the shape of torchvision's layer; a frame sees no other frame."""
    pictures = _pictures(2, size=64)
    for stage, shape in enumerate(STEM_SHAPES[name], start=1):
        stem = _cut(name, stage=stage).stem
        together = stem(pictures)
        assert together.shape[1:] == shape
        alone = torch.cat([stem(picture[None]) for picture in pictures])
        torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", DISTINCT)
def test_weights_are_those_that_torchvision_draws(name: str) -> None:
    """From a seed come the same weights, to the bit, and the same random numbers after them."""
    torch.manual_seed(7)
    expected, then = _fresh(name).state_dict(), torch.rand(1)
    torch.manual_seed(7)
    drawn = cut_backbone(name, stage=2).network.state_dict()
    assert torch.equal(torch.rand(1), then)
    assert all(torch.equal(value, expected[key]) for key, value in drawn.items())


@pytest.mark.parametrize("name", DISTINCT)
def test_parameters_keep_torchvisions_names(name: str) -> None:
    """The network's state dict has torchvision's keys but the classifier's, so its weights load strictly."""
    reference = _fresh(name).state_dict()
    cut = cut_backbone(name, stage=2)
    kept = [key for key in reference if not key.startswith(("fc.", "classifier."))]
    assert list(cut.network.state_dict()) == kept
    left_out = load_strictly(cut.network, reference, source="torchvision")
    assert sorted([*left_out, *kept]) == sorted(reference)
    assert all(torch.equal(cut.network.state_dict()[key], reference[key]) for key in kept)
    assert len(list(cut.named_parameters(remove_duplicate=False))) == len(list(cut.parameters()))
    assert cut.num_features == NUM_FEATURES[name]


def test_stem_lists_its_own_parameters() -> None:
    """Stem parameters are those that the stem's output depends on, and no other of the network."""
    for stage in (1, 4):
        backbone = _cut("tiny", stage=stage)
        backbone.stem(_pictures(2)).sum().backward()
        reached = [p for p in backbone.network.parameters() if p.grad is not None]
        assert {id(p) for p in backbone.stem_parameters()} == {id(p) for p in reached}
        in_modules = {id(p) for m in backbone.stem_modules() for p in m.parameters(recurse=False)}
        assert in_modules == {id(p) for p in reached}


@torch.no_grad()
def test_a_copy_stands_alone() -> None:
    """A deep copy computes with its own parameters, stem and trunk, and leaves the original's alone."""
    original = _cut("tiny", stage=2)
    stem, features = original.stem(_pictures()), _features(original)
    twin = copy.deepcopy(original)
    assert torch.equal(_features(twin), features)
    for parameter in twin.network.parameters():
        parameter.mul_(1.5)
    assert not torch.equal(twin.stem(_pictures()), stem)
    layout = VideoLayout.of(COUNTS, device=torch.device("cpu"))
    assert not torch.equal(twin.trunk(stem, layout), features)
    assert torch.equal(_features(original), features)


@pytest.mark.parametrize(
    ("name", "stage", "problem"),
    [
        ("tiny", 0, "stage 0: must be 1, 2, 3 or 4"),
        ("tiny", 5, "stage 5: must be"),
        ("alexnet", 1, "backbone alexnet: no file in fvar/model/networks lists it"),
    ],
)
def test_an_unknown_cut_is_refused(name: str, stage: int, problem: str) -> None:
    """Stages are 1 to 4, and names are listed in a family: the message names what was asked for."""
    with pytest.raises(ValueError, match=problem):
        cut_backbone(name, stage=stage)
