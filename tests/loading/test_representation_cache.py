"""The cache of representations: everything that makes them is in the key, and nothing else."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import tiny_config

from fvar.loading import representation_cache
from fvar.loading.clip import CropMemo
from fvar.loading.representation_cache import RepresentationCache
from fvar.loading.transforms import Framing
from fvar.model.build import build_recognizer, build_sweep
from fvar.model.clustering import Clusters
from fvar.model.interface import Representations
from fvar.reporting import SilentReporter
from fvar.training import representer
from fvar.training.distributed import World
from fvar.training.representer import open_cache

FRAMING = Framing(1, 2, 30, 40)
ALONE = World(0, 1, torch.device("cpu"))


def _opened(folder: Path, *, stem_seed: int = 0, **changes: Any) -> RepresentationCache | None:
    config = tiny_config(**({"freeze_stem": True} | changes))
    torch.manual_seed(stem_seed)
    backbone = build_recognizer(config, num_classes=3).backbone
    sweep = build_sweep(config, backbone)
    return open_cache(
        folder / "train",
        config,
        backbone,
        sweep,
        max_gb=config.max_cache_gb,
        world=ALONE,
        reporter=SilentReporter(),
    )


def _cache(folder: Path, **changes: Any) -> RepresentationCache:
    cache = _opened(folder, **changes)
    assert cache is not None
    return cache


def _key(folder: Path, **changes: Any) -> str:
    return _cache(folder, **changes).key("checksum", FRAMING, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"stem_seed": 1},
        {"clustering": "slope"},
        {"clusters": 5},
        {"stage": 2},
        {"size": 48},
        {"precision": "bf16"},
        {"chunk_frames": 5},
        {"backbone": "resnet18"},
    ],
)
def test_what_makes_representations_is_in_the_key(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Another stem, clustering, size or precision finds nothing of the others."""
    assert _key(tmp_path, **changes) != _key(tmp_path)


def test_what_does_not_make_them_is_not(tmp_path: Path) -> None:
    """Another rate, batch, number of epochs or seed finds what is there."""
    changes = {"lr": 0.5, "seed": 7, "epochs": 9, "batch_size": 2, "dropout": 0.0, "keep_mb": 1}
    assert _key(tmp_path, **changes) == _key(tmp_path)


def test_changed_code_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of a clustering or a network, no representations of the former one are found."""
    before = _key(tmp_path)
    monkeypatch.setattr(representer, "_code", lambda: "other")
    assert _key(tmp_path) != before


def test_the_video_is_in_the_key(tmp_path: Path) -> None:
    """Other frames, crops and mirror images have keys of their own; cuts count where they are drawn."""
    cache, drawing = _cache(tmp_path), _cache(tmp_path, clustering="random")
    framings = [replace(FRAMING, **{name: 3}) for name in ("top", "left", "height", "width")]
    framings += [FRAMING, replace(FRAMING, mirrored=True)]
    keys = [cache.key(checksum, f, 0) for f in framings for checksum in ("one", "two")]
    assert len(set(keys)) == len(keys)
    assert cache.key("one", FRAMING, 0) == cache.key("one", FRAMING, 1)
    assert drawing.key("one", FRAMING, 0) != drawing.key("one", FRAMING, 1)


def _representations(dtype: torch.dtype, *, steps: bool) -> Representations:
    activations = torch.randn(4, 3, 5, 6).to(dtype).contiguous(memory_format=torch.channels_last)
    starts = torch.tensor([[0, 2, 3, 7]])
    clusters = Clusters(starts, torch.tensor([[2, 3, 7, 9]]))
    return Representations(activations, (4,), clusters, torch.arange(9) if steps else None, 90)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_is_written_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    """Values, dtypes and the order in memory, on which the bits of a convolution depend."""
    cache, seen = _cache(tmp_path), _representations(dtype, steps=True)
    assert cache.read("ab") is None
    cache.write("ab", seen)
    assert "ab" in cache
    found = cache.read("ab")
    assert found is not None
    assert torch.equal(found.activations, seen.activations)
    assert found.activations.dtype == dtype
    assert found.activations.stride() == seen.activations.stride()
    assert found.clusters is not None
    assert seen.clusters is not None
    assert torch.equal(found.clusters.starts, seen.clusters.starts)
    assert torch.equal(found.clusters.stops, seen.clusters.stops)
    assert found.steps is not None
    assert found.steps.tolist() == list(range(9))
    assert (found.counts, found.num_bits) == ((4,), 90)


def test_an_entry_without_steps_does_not_serve_who_needs_them(tmp_path: Path) -> None:
    """`even` measures no distances; `cumulative` computes the video again, and so does an inspection."""
    cache = _cache(tmp_path, clustering="cumulative")
    cache.write("ab", _representations(torch.float32, steps=False))
    assert cache.read("ab") is None
    cache.write("ab", _representations(torch.float32, steps=True))
    assert cache.read("ab") is not None


def test_processes_share_the_room(tmp_path: Path) -> None:
    """Together they stay within the limit."""
    seen = _representations(torch.float32, steps=True)
    _cache(tmp_path).write("ab", seen)
    num_bytes = sum(path.stat().st_size for path in tmp_path.rglob("ab.*"))

    def writer(num_writers: int, max_bytes: int) -> RepresentationCache:
        return RepresentationCache(
            tmp_path / "fvar-cache",
            _cache(tmp_path)._maker,
            max_bytes=max_bytes,
            num_writers=num_writers,
            device=torch.device("cpu"),
            warn=warnings.append,
        )

    warnings: list[str] = []
    alone, half = writer(1, 3 * num_bytes), writer(2, 3 * num_bytes)
    for name in ("cd", "ef", "gh"):
        alone.write(name, seen)
    assert alone.num_written == 2
    half.write("ij", seen)
    half.write("kl", seen)
    assert half.num_written == 1
    assert len(warnings) == 2


@pytest.mark.parametrize(
    "changes", [{"freeze_stem": False}, {"clustering": "uniform"}, {"cache": False}]
)
def test_nothing_is_kept_where_the_stem_learns(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A stem that is trained, a training that clusters nothing, and `--no-cache` have no cache."""
    assert _opened(tmp_path, **changes) is None


def test_half_of_the_disk_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what was free at the start, whoever else writes meanwhile."""
    free, seen = [10_000], _representations(torch.float32, steps=True)
    monkeypatch.setattr(representation_cache, "_free_bytes", lambda _: free[0])
    cache = _cache(tmp_path)
    cache.write("ab", seen)
    free[0] = 5_001  # another program wrote
    cache.write("cd", seen)
    assert ("ab" in cache, "cd" in cache, cache.is_closed) == (True, False, True)


def test_leftovers_of_killed_writers_go(tmp_path: Path) -> None:
    """Temporary files of an hour ago are deleted, younger ones may still be written."""
    folder = tmp_path / "fvar-cache" / "ab"
    folder.mkdir(parents=True)
    old, new = folder / ".abc.representations.1.partial", folder / ".abd.representations.2.partial"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    _cache(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_memo_keeps_crops_alone() -> None:
    """Also where a crop is a view of whole pictures; what exceeds the budget is made again."""
    framing = Framing(4, 4, 8, 8)
    memo, made = CropMemo(2 * 3 * 8 * 8), list[int]()

    def make() -> torch.Tensor:
        made.append(1)
        return framing.crop(torch.zeros(1, 3, 40, 40, dtype=torch.uint8), size=8)

    for frame in (0, 1, 2, 0, 1, 2):
        crops = memo.get([frame], framing, make)
        assert crops.untyped_storage().nbytes() == crops.nbytes
    assert len(made) == 4
