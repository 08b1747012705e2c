"""The backbones: torchvision's networks, cut in two, shifted in the trunk alone."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import oracle
import pytest
import torch
from tensor_clips import settle
from torch import Tensor, nn

from fvar.model import backbone as backbone_module
from fvar.model.backbone import NETWORKS, Backbone, cut_backbone
from fvar.model.shift import RowLayout
from fvar.model.weights import load_strictly, read_state

SLOW = pytest.mark.slow
NAMES = [
    "tiny",
    "resnet18",
    "mobilenet_v2",
    pytest.param("resnet34", marks=SLOW),
    pytest.param("resnet50", marks=SLOW),
    pytest.param("resnet101", marks=SLOW),
]
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
NUM_ROWS = (3, 1, 2)


@lru_cache(maxsize=1)
def _network(name: str) -> nn.Module:
    """Return torchvision's network itself, in float64, without classifier: it gives pooled features."""
    network = settle(NETWORKS[name]()).double()
    if name == "mobilenet_v2":
        network.classifier = nn.Identity()
    else:
        network.fc = nn.Identity()
    return network


def _pooled(name: str, pictures: Tensor) -> Tensor:
    """Return pooled features by torchvision's own forward (`tiny`: by its layers in their order)."""
    network = _network(name)
    if name != "tiny":
        return network(pictures)
    for layer in network.children():
        pictures = layer(pictures)
    return pictures.mean(dim=(2, 3))


def _cut(name: str, *, stage: int) -> Backbone:
    """Return the same parameters, cut."""
    network = copy.deepcopy(_network(name))
    if name == "mobilenet_v2":
        network.classifier = nn.Linear(NUM_FEATURES[name], 1)
    else:
        network.fc = nn.Linear(NUM_FEATURES[name], 1)
    return cut_backbone(network, stage=stage)


def _convolutions_to_shift(name: str, *, stage: int) -> list[str]:
    """Return the first convolution of each block whose input is shifted, written down by hand."""
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
    """Shift what the named convolutions are given, with the oracle."""

    def shift(_module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return torch.from_numpy(oracle.temporal_shift(inputs[0].numpy(), NUM_ROWS))

    handles = [network.get_submodule(name).register_forward_pre_hook(shift) for name in names]
    yield
    for handle in handles:
        handle.remove()


def _pictures(count: int = sum(NUM_ROWS), *, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)


def _layout() -> RowLayout:
    return RowLayout.of(NUM_ROWS, device=torch.device("cpu"))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_stem_and_trunk_without_shift_are_torchvisions_forward(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every stage, stem and trunk together give torchvision's pooled features when nothing is shifted."""
    monkeypatch.setattr(backbone_module, "temporal_shift", lambda rows, _layout: rows)
    expected = _pooled(name, _pictures())
    for stage in (1, 2, 3, 4):
        backbone = _cut(name, stage=stage)
        features = backbone.trunk(backbone.stem(_pictures()), _layout())
        torch.testing.assert_close(features, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_right_blocks_shift_and_their_skips_do_not(name: str) -> None:
    """At every stage the result is torchvision's forward with the hand-listed convolutions' inputs shifted.

    So the blocks are the right ones (ResNet-101: every second; MobileNetV2: those that expand and skip), none
    before the cut, and the skip connections see the rows as they are.
    """
    for stage in (1, 2, 3, 4):
        with _shifted_by_hooks(_network(name), _convolutions_to_shift(name, stage=stage)):
            expected = _pooled(name, _pictures())
        backbone = _cut(name, stage=stage)
        features = backbone.trunk(backbone.stem(_pictures()), _layout())
        torch.testing.assert_close(features, expected, rtol=1e-8, atol=1e-10)
        unshifted = torch.allclose(_pooled(name, _pictures()), expected)
        assert unshifted == (stage == 4)


@pytest.mark.parametrize("name", ["tiny", "mobilenet_v2"])
@torch.no_grad()
def test_a_silent_residual_branch_leaves_the_rows_where_they_are(name: str) -> None:
    """With the last norm of every shifted branch at zero, the trunk no longer mixes rows at all."""
    backbone = _cut(name, stage=1)
    for convolution in _convolutions_to_shift(name, stage=1):
        block = backbone.network.get_submodule(convolution.split(".conv")[0])
        norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
        last = block.bn2 if name == "tiny" else norms[-1]
        last.weight.zero_()
        last.bias.zero_()
    rows = backbone.stem(_pictures())
    alone = [backbone.trunk(row[None], RowLayout.of([1], device=row.device)) for row in rows]
    torch.testing.assert_close(backbone.trunk(rows, _layout()), torch.cat(alone))


@torch.no_grad()
def test_the_trunk_mixes_rows_within_a_video_only() -> None:
    """Changing a row changes the features of its neighbours in its video, and of no other video."""
    backbone = _cut("tiny", stage=1)
    rows = backbone.stem(_pictures())
    before = backbone.trunk(rows, _layout())
    rows[1] += 1  # the middle row of the first video, of three
    changed = (backbone.trunk(rows, _layout()) != before).any(dim=1)
    assert changed.tolist() == [True, True, True, False, False, False]


@torch.no_grad()
def test_a_frame_does_not_depend_on_others_before_the_clustering() -> None:
    """The stem treats each frame alone, at every stage."""
    for stage in (1, 2, 3, 4):
        backbone, pictures = _cut("tiny", stage=stage), _pictures()
        together = backbone.stem(pictures)
        alone = torch.cat([backbone.stem(picture[None]) for picture in pictures])
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


# Of 64 px: torchvision's strides, by hand.
STEM_SHAPES = {
    "resnet18": [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)],
    "mobilenet_v2": [(24, 16, 16), (32, 8, 8), (96, 4, 4), (1280, 2, 2)],
    "tiny": [(32, 16, 16), (64, 8, 8), (96, 4, 4), (128, 4, 4)],
}


@pytest.mark.parametrize("name", STEM_SHAPES)
@torch.no_grad()
def test_stages_end_where_they_should(name: str) -> None:
    """Each stage's output has the channels and size of torchvision's layer of that number."""
    shapes = [
        tuple(_cut(name, stage=stage).stem(_pictures(1, size=64)).shape[1:])
        for stage in (1, 2, 3, 4)
    ]
    assert shapes == STEM_SHAPES[name]


@torch.no_grad()
def test_mobilenet_stages_are_torchvisions_features() -> None:
    """MobileNetV2's stages end with `features[3]`, `[6]`, `[13]` and `[18]`."""
    features = _network("mobilenet_v2").features
    for stage, end in enumerate(MOBILENET_STEM_ENDS, start=1):
        expected = features[: end + 1](_pictures())
        found = _cut("mobilenet_v2", stage=stage).stem(_pictures())
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_keep_torchvisions_names(name: str) -> None:
    """The network's state dict has torchvision's keys but the classifier's, so its weights load strictly."""
    reference = NETWORKS[name]().state_dict()
    cut = cut_backbone(NETWORKS[name](), stage=2)
    kept = [key for key in reference if not key.startswith(("fc.", "classifier."))]
    assert list(cut.network.state_dict()) == kept
    left_out = load_strictly(cut.network, reference, source="torchvision")
    assert sorted([*left_out, *kept]) == sorted(reference)
    assert all(torch.equal(cut.network.state_dict()[key], reference[key]) for key in kept)
    assert len(list(cut.named_parameters(remove_duplicate=False))) == len(list(cut.parameters()))
    assert cut.num_features == NUM_FEATURES[name]


def test_pretrained_mobilenet_features_load(shared: Path) -> None:
    """The MobileNetV2 features trained on ImageNet load strictly and leave no key out."""
    state = read_state(shared / "weights" / "mobilenet_v2_imagenet_features.pt")
    network = cut_backbone(NETWORKS["mobilenet_v2"](), stage=1).network
    assert load_strictly(network, state, source="shared") == []
    key = "features.0.0.weight"
    assert torch.equal(network.state_dict()[key], state[key])


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
    before = original.stem(_pictures())
    twin = copy.deepcopy(original)
    rows = twin.trunk(twin.stem(_pictures()), _layout())
    for parameter in twin.network.parameters():
        parameter.mul_(1.5)
    assert not torch.equal(twin.stem(_pictures()), before)
    assert not torch.equal(twin.trunk(before, _layout()), rows)
    assert torch.equal(original.stem(_pictures()), before)


@pytest.mark.parametrize("stage", [0, 5])
def test_an_unknown_stage_is_refused(stage: int) -> None:
    """Stages are 1 to 4: the message names the one asked for."""
    with pytest.raises(ValueError, match=f"stage {stage}: must be 1, 2, 3 or 4"):
        cut_backbone(NETWORKS["tiny"](), stage=stage)
