"""The cache of representations when something happens to it: interruptions, damage, full disks, deletion."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import fvar_processes
from training_samples import (
    FROZEN,
    ROWS,
    assert_same_training,
    cache_entries,
    flip_byte,
    run_training,
    tiny_config,
)

from fvar.errors import StoppedError
from fvar.reporting import SilentReporter
from fvar.stages.train import train
from fvar.training import representer
from fvar.training.loop import Trainer

TRAIN_AND_VAL = {row.id for row in ROWS if row.split != "test"}


@pytest.fixture
def copied(kept: Path, tmp_path: Path) -> Path:
    """Return a copy of the cache that a test may change."""
    return Path(shutil.copytree(kept.parent / "fvar-cache", tmp_path / "fvar-cache"))


class _Warned(SilentReporter):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, message: str) -> None:
        self.warnings.append(message)


def _interrupt(monkeypatch: pytest.MonkeyPatch, training: Callable[[], object]) -> None:
    """Let Ctrl-C arrive in the second epoch of a training."""
    step = Trainer._step

    def stopping(self: Trainer, *args: Any, epoch: int, **kwargs: Any) -> torch.Tensor:
        if epoch == 1:
            raise KeyboardInterrupt
        return step(self, *args, epoch=epoch, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", stopping)
        with pytest.raises(StoppedError, match="was stopped in epoch 2"):
            training()


@pytest.mark.slow
def test_a_resumed_training_knows_its_own_stem(
    frames: Path, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the starting weights is replaced before `--resume`: nothing is kept under its name."""
    path = tmp_path / "weights.pt"
    shutil.copy(weights, path)
    settings = FROZEN | {"weights": str(path), "epochs": 2}
    _interrupt(monkeypatch, lambda: run_training(frames, tmp_path / "old" / "train", **settings))
    changed = {n: -x if "conv" in n else x for n, x in torch.load(path).items()}
    torch.save(changed, path)
    run_training(frames, tmp_path / "old" / "train", resume=True, **settings)
    without = run_training(frames, tmp_path / "without", cache=False, **settings)
    assert_same_training(without, run_training(frames, tmp_path / "old" / "new", **settings))


@pytest.mark.slow
def test_the_cache_may_be_deleted_at_any_time(
    frames: Path, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before every step; the training is the same, and goes on keeping."""
    step = Trainer._step

    def deleting(self: Trainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        shutil.rmtree(tmp_path / "fvar-cache", ignore_errors=True)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "_step", deleting)
    assert_same_training(fresh, run_training(frames, tmp_path / "train", **FROZEN))
    assert cache_entries(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["bit", "end", "nothing", "text", "gone"])
def test_damage_is_computed_again(
    frames: Path, fresh: Path, copied: Path, read_ids: list[str], damage: str
) -> None:
    """An entry that is not as it was written is not used, and is written again."""
    before = {path: path.read_bytes() for path in cache_entries(copied)}
    for path, content in before.items():
        if damage == "bit":
            flip_byte(path, at=len(content) // 2)
        elif damage == "gone":
            path.unlink()
        else:
            path.write_bytes({"end": content[:-1], "nothing": b"", "text": b"x" * 99}[damage])
    assert_same_training(fresh, run_training(frames, copied.parent / "train", **FROZEN))
    assert sorted(set(read_ids)) == sorted(TRAIN_AND_VAL)
    assert {path: path.read_bytes() for path in cache_entries(copied)} == before


@pytest.mark.slow
def test_a_full_cache_is_said_once(
    frames: Path, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room training goes on, one warning tells what to do, and no view is made for later."""
    made, make = list[str](), representer.represent_without_tape
    monkeypatch.setattr(
        representer, "represent_without_tape", lambda *given: made.append("view") or make(*given)
    )
    reporter = _Warned()
    config = tiny_config(**FROZEN, cache_gb=1e-5)
    train(frames, tmp_path / "train", config, reporter)
    (warning,) = reporter.warnings
    assert "fvar-cache" in warning
    assert "--cache-gb" in warning
    assert sum(path.stat().st_size for path in cache_entries(tmp_path)) <= 10_000
    assert_same_training(fresh, tmp_path / "train")
    # One view of each of 8 videos in 3 epochs; mirror images for the first batch alone, which found no room.
    assert 8 * 3 <= len(made) <= 8 * 3 + 3


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_stops_nothing(
    frames: Path, fresh: Path, tmp_path: Path
) -> None:
    """A file stands where the folder should be: one warning, and the same training."""
    (tmp_path / "fvar-cache").write_text("mine")
    reporter = _Warned()
    train(frames, tmp_path / "train", tiny_config(**FROZEN), reporter)
    (warning,) = reporter.warnings
    assert "cannot be written" in warning
    assert (tmp_path / "fvar-cache").read_text() == "mine"
    assert_same_training(fresh, tmp_path / "train")


@pytest.mark.slow
@pytest.mark.parametrize("keeps", [True, False])
def test_resumed_equals_undisturbed(
    frames: Path, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    """An interrupted training goes on to the same bit, with what it kept or without."""
    _interrupt(monkeypatch, lambda: run_training(frames, tmp_path / "train", **FROZEN))
    run_training(frames, tmp_path / "train", resume=True, cache=keeps, **FROZEN)
    assert_same_training(fresh, tmp_path / "train")


@pytest.mark.slow
def test_two_processes_keep_representations(frames: Path, tmp_path: Path) -> None:
    """What either of them kept changes no bit, whichever process reads it later."""
    settings = ["--backbone", "tiny", "--weights", "none", "--size", 32, "--freeze-stem"]
    settings += ["--clusters", 4, "--epochs", 3, "--batch-size", 5, "--device", "cpu"]
    for folder, more in (("fresh", "--no-cache"), ("kept", "--cache")):
        out = tmp_path / folder / "train"
        ended = fvar_processes(2, ["train", frames, "--out", out, *settings, more])
        assert [code for code, _, _ in ended] == [0, 0], ended
    assert cache_entries(tmp_path / "kept")
    assert_same_training(tmp_path / "fresh" / "train", tmp_path / "kept" / "train")
