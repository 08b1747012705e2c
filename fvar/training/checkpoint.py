"""Checkpoints: everything that a training needs to go on, in a file that loads without executing code."""

from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import ConfigDict
from torch import Tensor

from fvar.config import TrainConfig
from fvar.errors import ConfigError, ManifestError, WeightsError, in_brief
from fvar.model.weights import load_tensors
from fvar.settings import Settings, parse
from fvar.store.files import atomic_path
from fvar.training.inputs import StoredFrames

FORMAT: Final = "fvar.checkpoint/1"
LAST, BEST = "checkpoints/last.pt", "checkpoints/best.pt"

_WITHOUT_EFFECT = ("workers", "cache", "cache_gb")  # settings that change no number
_FIX = "give last, best or a file that fvar train wrote"


class Checkpoint(Settings):
    """A training after `epoch` finished epochs; `model` to `scaler` are state dicts.

    Attributes:
        format: Name and version of the format.
        config: The resolved settings.
        classes: Names of the classifier's rows.
        frames: Path of the manifest of the frames that were trained on, from the folder of the training; None
            in checkpoints of earlier versions.
        frames_sha256: Of that manifest.
        epoch: Number of finished epochs.
        model: Of the recognizer.
        optimizer: Of the optimizer.
        scheduler: Of the learning rate's schedule.
        scaler: Of the gradient scaler; empty where it is off.
        history: One row of metrics per finished epoch.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=True)

    format: Literal["fvar.checkpoint/1"] = FORMAT
    config: TrainConfig
    classes: list[str]
    frames: str | None = None
    frames_sha256: str
    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    scaler: dict[str, Any]
    history: list[dict[str, float]]

    def __repr__(self) -> str:
        return f"Checkpoint(epoch={self.epoch}, classes={len(self.classes)}, tensors={len(self.model)})"


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; it appears under `path` only when it is complete.

    Raises:
        StoppedError: The disk is full.
    """
    content = vars(checkpoint) | {"config": checkpoint.config.model_dump(mode="json")}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's writer hides the error of the disk
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint into the host's memory; nothing in the file is executed.

    Raises:
        WeightsError: It cannot be read, or is not a checkpoint of this version.
    """
    try:
        content = load_tensors(path)
    except Exception as error:  # torch raises a dozen classes on a damaged file
        problem = f"cannot be read as a checkpoint ({in_brief(error)})"
        raise WeightsError(path, problem, fix=_FIX) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise WeightsError(path, f"is not a {FORMAT}", fix=_FIX)
    return parse(Checkpoint, content, source=path, error=WeightsError)


def load_last(run: Path) -> Checkpoint:
    """Return the checkpoint of the last finished epoch.

    Raises:
        ManifestError: There is none.
        WeightsError: It does not load.
    """
    path = run / LAST
    if not path.is_file():
        raise ManifestError(
            path, "does not exist, no epoch was finished", fix="train without --resume"
        )
    return load_checkpoint(path)


def load_matching(run: Path, config: TrainConfig, stored: StoredFrames) -> Checkpoint:
    """Return the last checkpoint of a training with the same settings and frames.

    Raises:
        ConfigError: A setting differs.
        ManifestError: There is none, or it was trained on other frames.
        WeightsError: It does not load.
    """
    checkpoint = load_last(run)
    for name, value in checkpoint.config:
        more_epochs = name == "epochs" and config.schedule == "step" and config.epochs > value
        if name not in _WITHOUT_EFFECT and not more_epochs and value != getattr(config, name):
            raise ConfigError(
                f"--resume: {name}",
                f"is {getattr(config, name)!r}, the training began with {value!r}",
                fix="leave it out, or start again with --overwrite",
            )
    if checkpoint.frames_sha256 != stored.sha256:
        raise ManifestError(
            run / LAST,
            f"was trained on other frames than those in {stored.folder} now",
            fix="restore them, or start again with --overwrite",
        )
    return checkpoint
