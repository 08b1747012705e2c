"""The builder: recognizer and sweep are what the settings say; settings that conflict are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tensor_clips import random_clips, settled_backbone

from fvar.config import TrainConfig
from fvar.errors import ConfigError, WeightsError
from fvar.model import build
from fvar.model.build import (
    build_recognizer,
    build_sweep,
    freezes_stem,
    load_weights,
    norm_mode,
    starting_files,
)
from fvar.model.interface import Sweep
from fvar.model.networks import cut_backbone
from fvar.names import clustering_names


def _config(**settings: Any) -> TrainConfig:
    return TrainConfig(**({"backbone": "tiny", "weights": "none"} | settings))


def _sweep(config: TrainConfig, device: str = "cpu") -> Sweep:
    backbone = build_recognizer(config, num_classes=2).backbone
    return build_sweep(config, backbone, device=torch.device(device))


def test_settings_reach_the_recognizer_and_the_sweep() -> None:
    """Clusters, chunks, kept bytes, stage, dropout, classes and the backward fraction are the settings'."""
    config = _config(
        clusters=5,
        chunk_frames=7,
        keep_mb=3,
        stage=2,
        dropout=0.25,
        clustering="slope",
        norm="frozen",
        backward_share=0.5,
    )
    built, sweep = build_recognizer(config, num_classes=11), _sweep(config)
    assert sweep == Sweep("chunked", "slope", 5, 7, 3 * 2**20, 0.5)
    assert built.dropout.p == 0.25
    assert built.backbone.stem(torch.zeros(1, 3, 32, 32)).shape[1] == 64  # stage 2 of `tiny`
    assert built(random_clips([6], dtype=torch.float32), sweep).shape == (1, 11)
    assert built.training


@pytest.mark.parametrize(
    ("settings", "engine"),
    [
        ({"norm": "frozen"}, "chunked"),
        ({"norm": "stem-frozen"}, "chunked"),
        ({"norm": "partial"}, "plain"),
        ({"norm": "train"}, "plain"),
        ({"norm": "auto"}, "plain"),  # weights none: the norms train
        ({"norm": "auto", "weights": "some.pt"}, "chunked"),
        ({"norm": "train", "freeze_stem": True}, "chunked"),
        ({"norm": "frozen", "clustering": "uniform"}, "plain"),
        ({"norm": "frozen", "clustering": "none"}, "plain"),
        ({"norm": "frozen", "engine": "plain"}, "plain"),
        ({"norm": "frozen", "engine": "plain", "freeze_stem": True}, "chunked"),  # no backward pass
        ({"norm": "frozen", "engine": "chunked"}, "chunked"),
        ({"norm": "train", "engine": "plain"}, "plain"),
    ],
    ids=str,
)
def test_auto_takes_chunks_wherever_they_are_exact(settings: dict[str, Any], engine: str) -> None:
    """`auto` is `chunked` where frames are clustered and no norm of the stem trains.

    A choice is kept, but for a frozen stem, which always goes in chunks where frames are clustered.
    """
    assert _sweep(_config(**settings)).engine == engine


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"norm": "partial"}, "batch norm trains"),
        ({"norm": "frozen", "clustering": "uniform"}, "clustering uniform"),
        ({"norm": "frozen", "clustering": "none"}, "clustering none"),
    ],
    ids=str,
)
def test_chunks_that_would_not_be_exact_are_refused(settings: dict[str, Any], problem: str) -> None:
    """`--engine chunked` is refused with a training batch norm in the stem and without clusters."""
    with pytest.raises(ConfigError, match=rf"^--engine chunked: .*{problem}.*--engine plain"):
        _sweep(_config(**settings, engine="chunked"))


@pytest.mark.parametrize("clustering", [*clustering_names(), "uniform", "none"])
def test_only_files_are_clusterings(clustering: str) -> None:
    """`uniform` and `none` are no clustering; every other name is the clustering in the file of that name."""
    expected = None if clustering in ("uniform", "none") else clustering
    assert _sweep(_config(clustering=clustering)).clustering == expected


@pytest.mark.parametrize(
    ("weights", "norm", "freeze_stem", "mode", "freezes"),
    [
        ("none", "auto", None, "train", False),
        ("imagenet", "auto", None, "frozen", True),
        ("file.pt", "auto", None, "frozen", True),
        ("imagenet", "stem-frozen", None, "stem-frozen", True),
        ("imagenet", "train", None, "train", False),
        ("file.pt", "partial", None, "partial", False),
        ("none", "partial", None, "partial", False),
        ("file.pt", "auto", False, "frozen", False),
        ("none", "auto", True, "stem-frozen", True),
        ("none", "partial", True, "frozen", True),
    ],
)
def test_a_pretrained_stem_is_kept_unless_set_otherwise(
    weights: str, norm: str, freeze_stem: bool | None, mode: str, freezes: bool
) -> None:
    """Pretrained statistics and stems stay, fresh ones train; a setting holds; a frozen stem's norms stay."""
    config = _config(weights=weights, norm=norm, freeze_stem=freeze_stem)
    assert (norm_mode(config), freezes_stem(config)) == (mode, freezes)


@pytest.mark.parametrize("freeze", [False, True])
def test_a_frozen_stem_has_no_gradient(*, freeze: bool) -> None:
    """With `freeze_stem` the stem's parameters have no gradient, all others have one."""
    built = build_recognizer(_config(freeze_stem=freeze, stage=2, norm="frozen"), num_classes=2)
    stem = {id(parameter) for parameter in built.backbone.stem_parameters()}
    assert stem
    for parameter in built.parameters():
        assert parameter.requires_grad != (freeze and id(parameter) in stem)


@pytest.mark.parametrize("norm", ["auto", "frozen", "partial", "stem-frozen", "train"])
def test_a_frozen_stem_keeps_its_statistics(norm: str) -> None:
    """`freeze_stem` leaves the stem's running statistics as they are also where other norms train."""
    config = _config(freeze_stem=True, norm=norm)
    built = build_recognizer(config, num_classes=2)
    before = {name: value.clone() for name, value in built.state_dict().items()}
    built(random_clips([5], dtype=torch.float32), build_sweep(config, built.backbone))
    changed = {name for name, value in built.state_dict().items() if not value.equal(before[name])}
    assert bool(changed) == (norm in ("auto", "stem-frozen", "train"))
    assert not any(".layer1." in name or ".network.bn1." in name for name in changed)


def test_parameters_are_drawn_from_torchs_generator() -> None:
    """The same seed builds the same parameters, another seed others."""
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        built = build_recognizer(_config(), num_classes=2)
        weights.append(torch.cat([parameter.flatten() for parameter in built.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_starting_weights_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or the backbone's ImageNet weights are loaded, `none` loads nothing; only a file is an input."""
    source = settled_backbone("tiny", seed=4, dtype=torch.float32).network.state_dict()
    path = tmp_path / "tiny.pt"
    torch.save(source | {"fc.weight": torch.zeros(2, 128)}, path)
    monkeypatch.setattr(build, "imagenet_state", {"tiny": source}.__getitem__)
    for weights, left_out, files in (
        ("none", [], []),
        ("imagenet", [], []),
        (str(path), ["fc.weight"], [path]),
    ):
        config, backbone = _config(weights=weights), settled_backbone("tiny", dtype=torch.float32)
        fresh = backbone.network.conv1.weight.clone()
        assert load_weights(backbone, config) == left_out
        expected = fresh if weights == "none" else source["conv1.weight"]
        assert torch.equal(backbone.network.conv1.weight, expected)
        assert starting_files(config) == files


def test_a_file_of_another_backbone_is_refused_by_name(tmp_path: Path) -> None:
    """A file that does not fit is an error that starts with its path."""
    path = tmp_path / "resnet18.pt"
    torch.save(cut_backbone("resnet18", stage=1).network.state_dict(), path)
    with pytest.raises(WeightsError, match=r"resnet18\.pt: has unknown layer1\.1"):
        load_weights(settled_backbone("tiny"), _config(weights=str(path)))


@pytest.mark.parametrize(
    ("chunk_frames", "device", "expected"),
    [(None, "cpu", (8, 0)), (None, "cuda", (64, 2)), (5, "cuda", (5, 2))],
)
def test_chunks_suit_the_device_unless_they_are_set(
    chunk_frames: int | None, device: str, expected: tuple[int, int]
) -> None:
    """A CPU gets 8 frames at once, a GPU 64 and two chunks ahead; a setting holds on both."""
    sweep = _sweep(_config(chunk_frames=chunk_frames), device)
    assert (sweep.chunk_frames, sweep.chunks_ahead) == expected
