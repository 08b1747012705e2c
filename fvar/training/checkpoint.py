"""Checkpoints: everything a training needs to go on, in a file that loads without executing anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fvar.config import TrainConfig, parse
from fvar.errors import WeightsError, in_brief
from fvar.model.weights import load_tensors
from fvar.store.files import atomic_path

FORMAT = "fvar.checkpoint/1"
LAST, BEST = "checkpoints/last.pt", "checkpoints/best.pt"
_KINDS: dict[str, type] = {
    "format": str,
    "config": dict,
    "classes": list,
    "frames_sha256": str,
    "epoch": int,
    "model": dict,
    "optimizer": dict,
    "scheduler": dict,
    "scaler": dict,
    "history": list,
}


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """A training after `epoch` whole epochs.

    Attributes:
        config: The resolved settings.
        classes: Names of the classifier's rows.
        frames_sha256: Of the manifest of the frames that were trained on.
        epoch: Epochs done.
        model: The recogniser's state dict.
        optimizer: Its state dict.
        scheduler: Its state dict.
        scaler: The gradient scaler's state dict; empty without one.
        history: A row of metrics for each epoch done.
    """

    config: TrainConfig
    classes: list[str]
    frames_sha256: str
    epoch: int
    model: Mapping[str, Any]
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    scaler: Mapping[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Checkpoint(epoch={self.epoch}, classes={len(self.classes)}, tensors={len(self.model)})"


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint that appears under `path` only when it is whole.

    Raises:
        StoppedError: The disk is full.
    """
    content = {
        "format": FORMAT,
        "config": checkpoint.config.model_dump(mode="json"),
        "classes": checkpoint.classes,
        "frames_sha256": checkpoint.frames_sha256,
        "epoch": checkpoint.epoch,
        "model": dict(checkpoint.model),
        "optimizer": dict(checkpoint.optimizer),
        "scheduler": dict(checkpoint.scheduler),
        "scaler": dict(checkpoint.scaler),
        "history": checkpoint.history,
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's writer covers up what the disk said
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to the host; nothing in the file is executed.

    Raises:
        WeightsError: It cannot be read, or is not a checkpoint of this version.
    """
    try:
        content = load_tensors(path)
    except Exception as error:  # torch raises a dozen kinds on a damaged file
        raise WeightsError(
            path,
            f"cannot be read as a checkpoint ({in_brief(error)})",
            fix="give last, best or a file that fvar train wrote",
        ) from error
    if not _is_checkpoint(content):
        raise WeightsError(
            path, f"is not a {FORMAT}", fix="give last, best or a file that fvar train wrote"
        )
    config = parse(TrainConfig, content["config"], source=path, error=WeightsError)
    rest = {name: content[name] for name in _KINDS.keys() - {"format", "config"}}
    return Checkpoint(config=config, **rest)


def _is_checkpoint(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and content.keys() == _KINDS.keys()
        and all(isinstance(content[name], kind) for name, kind in _KINDS.items())
        and content["format"] == FORMAT
        and all(isinstance(name, str) for name in content["classes"])
        and all(isinstance(tensor, torch.Tensor) for tensor in content["model"].values())
        and all(isinstance(row, dict) for row in content["history"])
    )
