"""Hostile weights and checkpoints: nothing is run, nothing is inflated, no type is believed."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from training_samples import tiny_config

from fvar.errors import WeightsError
from fvar.model.weights import read_state
from fvar.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def _compressed(path: Path, *, num_bytes: int) -> None:
    """Turn a file that torch.save wrote into an archive whose tensor inflates to `num_bytes`."""
    with zipfile.ZipFile(path) as archive:
        records = {record.filename: archive.read(record) for record in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            archive.writestr(name, bytes(num_bytes) if name.endswith("data/0") else content)


@pytest.mark.parametrize("load", [read_state, load_checkpoint])
def test_a_zip_bomb_is_not_inflated(
    tmp_path: Path, load: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive of tensors that is compressed, and may be any size, is refused before torch opens it."""
    path = tmp_path / "bomb.pt"
    torch.save({"conv1.weight": torch.zeros(2)}, path)
    _compressed(path, num_bytes=1 << 24)
    assert path.stat().st_size < 1 << 16
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises(WeightsError, match=r"bomb\.pt: cannot be read .*is compressed"):
        load(path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("load", [read_state, load_checkpoint])
def test_weights_are_read_from_a_file(tmp_path: Path, load: Callable[[Path], object]) -> None:
    """A pipe, a device or a folder in the place of weights is refused at once."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(WeightsError, match="is not a file"):
            load(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", 3), ("classes", [1, 2]), ("epoch", "one"), ("model", [torch.zeros(1)]),
        ("model", {"a": 3}), ("optimizer", 7), ("history", {}), ("history", [3]), ("config", "x"),
        ("config", {"backbone": "tiny", "evil": 1}), ("frames_sha256", None), ("format", []),
    ],
)  # fmt: skip
def test_a_checkpoint_of_other_types(tmp_path: Path, key: str, value: object) -> None:
    """A checkpoint with all the keys and another type under one of them is refused by name."""
    path = tmp_path / "last.pt"
    kept = Checkpoint(tiny_config(), ["a", "b"], "0" * 64, 1, {"a": torch.zeros(1)})
    save_checkpoint(path, kept)
    torch.save(torch.load(path, weights_only=True) | {key: value}, path)
    with pytest.raises(WeightsError, match=r"last\.pt"):
        load_checkpoint(path)
