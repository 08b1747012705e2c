"""Checkpoints: saved is loaded, nothing in a file runs, and other files are refused."""

import errno
import os
import pickle
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from training_samples import tiny_config

from fvar.errors import StoppedError, WeightsError
from fvar.model.build import build_recognizer
from fvar.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fvar.training.optim import build_optimizer, build_scheduler


def _checkpoint() -> Checkpoint:
    """Return a checkpoint of a network that took one step."""
    config = tiny_config()
    recognizer = build_recognizer(config, num_classes=3)
    optimizer = build_optimizer(recognizer, lr=0.1, momentum=0.9, weight_decay=0)
    scheduler = build_scheduler(optimizer, schedule="one-cycle", milestones=(), steps=[4])
    sum(parameter.sum() for parameter in recognizer.parameters()).backward()  # type: ignore[union-attr]  # a tensor
    optimizer.step()
    scheduler.step()
    return Checkpoint(
        config=config,
        classes=["down", "left", "up"],
        frames_sha256="0" * 64,
        epoch=1,
        model=recognizer.state_dict(),
        optimizer=optimizer.state_dict(),
        scheduler=scheduler.state_dict(),
        scaler={"scale": 65536.0},
        history=[{"epoch": 0.0, "train_loss": 1.5}],
    )


@contextmanager
def _room_for(num_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond `num_bytes`: what a full disk is like."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_saved_is_loaded(tmp_path: Path) -> None:
    """Settings, classes, epoch, history and every tensor come back as they were; nothing in it executes."""
    saved = _checkpoint()
    save_checkpoint(tmp_path / "checkpoints" / "last.pt", saved)
    loaded = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    content = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    assert list(content) == list(vars(saved))
    assert content["format"] == "fvar.checkpoint/1"
    for name in ("config", "classes", "epoch", "scaler", "history"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert loaded.model.keys() == saved.model.keys()
    assert all(torch.equal(loaded.model[name], saved.model[name]) for name in saved.model)
    momenta = saved.optimizer["state"]
    assert momenta.keys() == loaded.optimizer["state"].keys()
    for key, state in momenta.items():
        assert torch.equal(
            loaded.optimizer["state"][key]["momentum_buffer"], state["momentum_buffer"]
        )
    assert loaded.optimizer["param_groups"] == saved.optimizer["param_groups"]
    assert loaded.scheduler == saved.scheduler


class _Payload:
    """Makes a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_payload_is_not_executed(tmp_path: Path, how: str) -> None:
    """A file that would run code on loading is refused, and the code does not run."""
    path = tmp_path / "evil.pt"
    payload = {"format": "fvar.checkpoint/1", "model": _Payload(tmp_path / "pwned")}
    if how == "torch":
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload, protocol=2))
    with pytest.raises(WeightsError) as error:
        load_checkpoint(path)
    assert str(error.value).startswith(f"{path}: cannot be read as a checkpoint (UnpicklingError: ")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("keep", [0, 10, 0.99])
def test_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    """A file that was cut anywhere is an error with its name."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, _checkpoint())
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(WeightsError) as error:
        load_checkpoint(path)
    assert str(error.value).startswith(f"{path}: cannot be read as a checkpoint (")


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    """No file, another zip, a bare state dict, another version, no tensors: each with its name."""
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("a.txt", "x")
    for name in ("no.pt", "zip.pt"):
        with pytest.raises(WeightsError, match=f"{name}: cannot be read as a checkpoint"):
            load_checkpoint(tmp_path / name)
    torch.save(_checkpoint().model, tmp_path / "state.pt")
    save_checkpoint(tmp_path / "last.pt", _checkpoint())
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    torch.save(content | {"format": "fvar.checkpoint/2"}, tmp_path / "next.pt")
    torch.save(content | {"model": {"a": 1}}, tmp_path / "odd.pt")
    with pytest.raises(WeightsError, match=r"odd\.pt: model\.a: "):
        load_checkpoint(tmp_path / "odd.pt")
    for name in ("state.pt", "next.pt"):
        with pytest.raises(WeightsError, match=rf"{name}: is not a fvar\.checkpoint/1"):
            load_checkpoint(tmp_path / name)


def test_settings_of_another_version_are_named(tmp_path: Path) -> None:
    """A setting that this version does not know is an error with file and key."""
    save_checkpoint(tmp_path / "last.pt", _checkpoint())
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    content["config"]["color"] = "red"
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(WeightsError, match=r"last\.pt: config\.color: is not a known key"):
        load_checkpoint(tmp_path / "last.pt")


def test_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    """When the disk fills up midway, training stops with the file's name and the old file is whole."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, _checkpoint())
    later = _checkpoint().model_copy(update={"epoch": 2})
    with _room_for(100_000), pytest.raises(StoppedError) as error:
        save_checkpoint(path, later)
    assert error.value.thing == str(path)
    assert os.strerror(errno.EFBIG) in error.value.problem
    assert load_checkpoint(path).epoch == 1
    assert list(tmp_path.iterdir()) == [path]


def test_other_failures_are_not_taken_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not the disk's fault is not blamed on it."""

    def fail(*_: object) -> None:
        raise RuntimeError("another cause")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="another cause"):
        save_checkpoint(tmp_path / "last.pt", _checkpoint())
    assert list(tmp_path.iterdir()) == []
