"""The builder: the recogniser is what the settings say, and settings that exclude each other are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tensor_clips import random_clips, settled_backbone

from fvar.config import NormName, TrainConfig
from fvar.errors import ConfigError, WeightsError
from fvar.model import build
from fvar.model.backbone import NETWORKS, cut_backbone
from fvar.model.build import (
    build_recognizer,
    build_sweep,
    clustering_method,
    freezes_stem,
    load_weights,
    norm_mode,
    starting_files,
)
from fvar.model.interface import Sweep


def _config(**settings: Any) -> TrainConfig:
    return TrainConfig(**({"backbone": "tiny", "weights": "none"} | settings))


def _sweep(config: TrainConfig, device: str = "cpu") -> Sweep:
    backbone = build_recognizer(config, num_classes=2).backbone
    return build_sweep(config, backbone, device=torch.device(device))


def test_settings_reach_the_recognizer() -> None:
    """Clusters, chunks, kept bytes, stage, dropout and classes are those of the settings."""
    config = _config(
        clusters=5, chunk_frames=7, keep_mb=3, stage=2, dropout=0.25, clustering="slope"
    )
    built = build_recognizer(config, num_classes=11)
    sweep = _sweep(config)
    assert (sweep.clustering, sweep.num_clusters, sweep.chunk_frames) == ("slope", 5, 7)
    assert sweep.keep_bytes == 3 * 2**20
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
        ({"norm": "frozen", "engine": "chunked"}, "chunked"),
        ({"norm": "train", "engine": "plain"}, "plain"),
    ],
    ids=str,
)
def test_auto_takes_chunks_wherever_they_are_exact(settings: dict[str, Any], engine: str) -> None:
    """`auto` is `chunked` where frames are clustered and no norm of the stem trains; a choice is kept."""
    assert _sweep(_config(**settings)).engine == engine


def test_chunks_with_a_training_norm_are_refused() -> None:
    """`--engine chunked` with a training batch norm in the stem is refused with both ways out."""
    with pytest.raises(ConfigError) as caught:
        _sweep(_config(norm="partial", engine="chunked"))
    assert str(caught.value) == (
        "--engine chunked: the stem's batch norm trains, and a chunk's statistics are not the batch's; "
        "set norm = 'frozen' or 'stem-frozen' in --config, or use --engine plain"
    )


@pytest.mark.parametrize("clustering", ["uniform", "none"])
def test_chunks_without_clusters_are_refused(clustering: str) -> None:
    """`--engine chunked` where every frame is a row is refused and names the clustering."""
    with pytest.raises(ConfigError) as caught:
        _sweep(_config(clustering=clustering, norm="frozen", engine="chunked"))
    assert str(caught.value) == (
        f"--engine chunked: clustering {clustering} gives every frame a row, so there are no means to "
        "chunk; use --engine plain or another --clustering"
    )


@pytest.mark.parametrize("clustering", ["cumulative", "slope", "even", "random", "uniform", "none"])
def test_clusterings_are_methods_or_none(clustering: str) -> None:
    """`uniform` and `none` are no clustering; every other name is the method of that name."""
    expected = None if clustering in ("uniform", "none") else clustering
    assert clustering_method(_config(clustering=clustering)) == expected


@pytest.mark.parametrize(
    ("norm", "weights", "expected"),
    [
        ("auto", "none", "train"),
        ("auto", "imagenet", "frozen"),
        ("auto", "file.pt", "frozen"),
        ("train", "imagenet", "train"),
        ("partial", "none", "partial"),
    ],
)
def test_auto_norm_keeps_pretrained_statistics(norm: str, weights: str, expected: str) -> None:
    """Norm `auto` freezes pretrained statistics and trains those of a fresh network; a choice is kept."""
    assert norm_mode(_config(norm=norm, weights=weights)) == expected


@pytest.mark.parametrize("freeze", [False, True])
def test_a_frozen_stem_has_no_gradient(*, freeze: bool) -> None:
    """With `freeze_stem` the stem's parameters ask for no gradient, all others do."""
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


def test_weights_none_changes_nothing() -> None:
    """`--weights none` leaves the fresh parameters."""
    backbone = settled_backbone("tiny")
    before = backbone.network.conv1.weight.clone()
    assert load_weights(backbone, _config()) == []
    assert torch.equal(backbone.network.conv1.weight, before)


def test_weights_of_a_file_are_loaded(tmp_path: Path) -> None:
    """`--weights FILE` loads the file and returns the classifier's keys that were left out."""
    source = settled_backbone("tiny", seed=4, dtype=torch.float32).network
    path = tmp_path / "tiny.pt"
    torch.save(source.state_dict() | {"fc.weight": torch.zeros(2, 128)}, path)
    backbone = settled_backbone("tiny", seed=5, dtype=torch.float32)
    assert load_weights(backbone, _config(weights=str(path))) == ["fc.weight"]
    assert torch.equal(backbone.network.conv1.weight, source.conv1.weight)


def test_a_file_of_another_backbone_is_refused_by_name(tmp_path: Path) -> None:
    """A file that does not fit is an error that starts with its path."""
    path = tmp_path / "resnet18.pt"
    torch.save(cut_backbone(NETWORKS["resnet18"](), stage=1).network.state_dict(), path)
    with pytest.raises(WeightsError, match=r"resnet18\.pt: has unknown layer1\.1"):
        load_weights(settled_backbone("tiny"), _config(weights=str(path)))


@pytest.mark.parametrize(
    ("weights", "files"), [("none", []), ("imagenet", []), ("a/b.pt", [Path("a/b.pt")])]
)
def test_only_a_file_of_weights_is_an_input(weights: str, files: list[Path]) -> None:
    """Starting weights are a file among a training's inputs unless they are `none` or `imagenet`."""
    assert starting_files(_config(weights=weights)) == files


def test_imagenet_weights_are_those_of_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--weights imagenet` asks for the backbone's own weights and loads them."""
    source = settled_backbone("tiny", seed=4, dtype=torch.float32).network.state_dict()
    asked: list[str] = []
    monkeypatch.setattr(build, "imagenet_state", lambda name: asked.append(name) or source)
    backbone = settled_backbone("tiny", dtype=torch.float32)
    assert load_weights(backbone, _config(weights="imagenet")) == []
    assert asked == ["tiny"]
    assert torch.equal(backbone.network.conv1.weight, source["conv1.weight"])


@pytest.mark.parametrize(
    ("weights", "norm", "freeze_stem", "freezes"),
    [
        ("some.pt", "auto", None, True),
        ("imagenet", "stem-frozen", None, True),
        ("none", "auto", None, False),
        ("some.pt", "train", None, False),
        ("some.pt", "partial", None, False),
        ("some.pt", "auto", False, False),
        ("none", "auto", True, True),
    ],
)
def test_pretrained_stem_is_kept_unless_told_otherwise(
    weights: str, norm: NormName, freeze_stem: bool | None, freezes: bool
) -> None:
    """A pretrained stem keeps its parameters, unless it or its batch norm is asked to train."""
    config = _config(weights=weights, norm=norm, freeze_stem=freeze_stem)
    assert freezes_stem(config) == freezes


@pytest.mark.parametrize(
    ("chunk_frames", "device", "expected"), [(None, "cpu", 8), (None, "cuda", 64), (5, "cuda", 5)]
)
def test_chunks_suit_the_device_unless_they_are_set(
    chunk_frames: int | None, device: str, expected: int
) -> None:
    """A CPU gets 8 frames at once, a GPU 64; a setting holds on both."""
    assert _sweep(_config(chunk_frames=chunk_frames), device).chunk_frames == expected
