"""Training that stops: exact when resumed, and stopped by nan and by damage before a weight is spoilt."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import (
    assert_same_training,
    flip_byte,
    last_checkpoint,
    run_training,
    same_tree,
    tiny_config,
    training_metrics,
    write_frames,
)
from video_samples import Recorder

from fvar.errors import ConfigError, FrameStoreError, FvarError, ManifestError, StoppedError
from fvar.reporting import Progress, SilentReporter
from fvar.stages.train import resume_training, train
from fvar.store.manifest import CheckpointManifest
from fvar.store.manifest_file import read_manifest
from fvar.training import loop
from fvar.training.checkpoint import load_checkpoint
from fvar.training.loop import Trainer

SHARD = "shards/shard-00000.h5"  # of a, b, c and d, in the train split


def _interrupt(monkeypatch: pytest.MonkeyPatch, *, epoch: int, step: int = 1) -> None:
    """Let Ctrl-C arrive in the middle of an epoch (counted from 0)."""
    original: Callable[..., torch.Tensor] = Trainer._step
    steps = iter(range(1000))

    def stepped(self: Trainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if kwargs["epoch"] == epoch and next(steps) == step:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "_step", stepped)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "clustering": "random",
            "schedule": "step",
            "milestones": (1,),
            "norm": "frozen",
            "keep_mb": 1,
        },
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Ctrl-C in the second of three epochs, then ``--resume``: weights, momenta, metrics to the bit.

    The number of workers changes no number, so a resumed training may change it, and nothing else.
    """
    uninterrupted = run_training(frames, tmp_path / "a", epochs=3, **changes)
    with monkeypatch.context() as patch:
        _interrupt(patch, epoch=1)
        with pytest.raises(StoppedError) as stopped:
            run_training(frames, tmp_path / "b", epochs=3, **changes)
    assert stopped.value.problem == "was stopped in epoch 2/3, epochs up to 1 are kept"
    assert stopped.value.fix == f"go on with `fvar train --resume {tmp_path / 'b'}`"
    assert not (tmp_path / "b" / "manifest.json").exists()
    assert last_checkpoint(tmp_path / "b").epoch == 1
    with pytest.raises(
        ConfigError, match=r"--resume: lr: is 0\.5, the training began with 0\.01; leave"
    ):
        resume_training(tmp_path / "b", {"lr": 0.5}, SilentReporter())
    resume_training(tmp_path / "b", {"workers": 1}, SilentReporter())
    assert_same_training(uninterrupted, tmp_path / "b")
    best = [load_checkpoint(tmp_path / run / "checkpoints" / "best.pt") for run in ("a", "b")]
    assert best[0].epoch == best[1].epoch
    assert same_tree(best[0].model, best[1].model)


class _Damaging(Recorder):
    """Flips a byte of a picture when it reads a message that begins with `at`."""

    def __init__(self, shard: Path, at: str) -> None:
        super().__init__()
        self._shard, self._at = shard, at

    def info(self, message: str) -> None:
        if message.startswith(self._at):
            flip_byte(self._shard, at=-2000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "error", "code"), [("6 videos, ", FrameStoreError, 2), ("epoch 1/2", StoppedError, 3)]
)
def test_a_video_that_is_damaged_meanwhile_stops(
    whole: Path, tmp_path: Path, at: str, error: type[FvarError], code: int
) -> None:
    """Damage found in the first epoch is wrong input, and nothing is written; later, epochs are kept.

    Once the shard is as it was, ``--resume`` makes of them what an undisturbed training is.
    """
    frames, out = write_frames(tmp_path / "frames"), tmp_path / "train"
    with pytest.raises(error, match="video 'd'") as found:
        train(frames, out, tiny_config(), _Damaging(frames / SHARD, at))
    assert found.value.exit_code == code
    assert out.exists() == (code == 3)
    flip_byte(frames / SHARD, at=-2000)
    if code == 3:
        assert found.value.fix.endswith(f"; then go on with `fvar train --resume {out}`")
        assert not (out / "manifest.json").exists()
    assert_same_training(whole, run_training(frames, out, resume=code == 3))


def test_resumed_after_the_last_epoch_only_finishes(
    frames: Path, whole: Path, tmp_path: Path
) -> None:
    """A run killed between its last checkpoint and its manifest needs no further epoch."""
    shutil.copytree(whole, tmp_path / "train")
    (tmp_path / "train" / "manifest.json").unlink()
    run_training(frames, tmp_path / "train", resume=True)
    manifest = read_manifest(tmp_path / "train" / "manifest.json", CheckpointManifest)
    assert manifest.summary.epochs == 2
    assert_same_training(whole, tmp_path / "train")


def test_same_seed_same_numbers(frames: Path, whole: Path, tmp_path: Path) -> None:
    """A second run with the same seed is the same to the bit, also with threads that read ahead."""
    assert_same_training(whole, run_training(frames, tmp_path / "again", workers=2))


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_nan_stops_and_keeps_the_epoch_before(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A loss or gradient that is no number stops before it spoils a weight; whole epochs are kept."""
    original: Callable[..., torch.Tensor] = torch.nn.functional.cross_entropy
    steps = iter(range(1000))

    def spoilt(logits: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if next(steps) == 2:  # the second epoch's first step, two steps an epoch
            if where == "loss":
                return original(logits, *args, **kwargs) * float("nan")
            logits.register_hook(lambda gradient: gradient * float("nan"))
        return original(logits, *args, **kwargs)

    settings: dict[str, Any] = {"schedule": "step", "milestones": (9,)}
    run_training(frames, tmp_path / "a", epochs=1, **settings)
    monkeypatch.setattr(loop.functional, "cross_entropy", spoilt)
    with pytest.raises(StoppedError) as error:
        run_training(frames, tmp_path / "b", epochs=2, **settings)
    assert error.value.thing == "epoch 2"
    expected = {"loss": "the loss is nan on videos ", "gradient": "the norm of the gradient is nan"}
    assert error.value.problem.startswith(expected[where])
    assert last_checkpoint(tmp_path / "b").epoch == 1
    assert same_tree(last_checkpoint(tmp_path / "a").model, last_checkpoint(tmp_path / "b").model)
    assert len(training_metrics(tmp_path / "b")) == 1
    assert not (tmp_path / "b" / "manifest.json").exists()


def test_stopped_in_the_first_epoch(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user is told that nothing was kept, and what to type; the folder is free for that command."""
    with monkeypatch.context() as patch:
        _interrupt(patch, epoch=0)
        with pytest.raises(StoppedError) as stopped:
            run_training(frames, tmp_path / "train", epochs=1)
    assert stopped.value.problem == "was stopped in epoch 1/1, nothing was kept"
    assert stopped.value.fix == "run the same command again"
    with pytest.raises(ManifestError, match="no epoch was finished; train without --resume"):
        resume_training(tmp_path / "train", {}, SilentReporter())
    run_training(frames, tmp_path / "train", epochs=1)


def test_resumed_where_the_frames_have_moved(frames: Path, whole: Path, tmp_path: Path) -> None:
    """A moved extraction must be named; the training then ends as if nothing had moved."""
    shutil.copytree(whole, tmp_path / "here" / "train")
    (tmp_path / "here" / "train" / "manifest.json").unlink()
    with pytest.raises(ManifestError, match="fvar train FRAMES --resume RUN"):
        resume_training(tmp_path / "here" / "train", {}, SilentReporter())
    resume_training(tmp_path / "here" / "train", {}, SilentReporter(), frames=frames)
    assert_same_training(whole, tmp_path / "here" / "train")


def test_the_time_left_is_of_the_whole_training(frames: Path, tmp_path: Path) -> None:
    """From the second epoch on the bar says how long all epochs that are left will take."""
    recorder = _Bars()
    train(frames, tmp_path / "train", tiny_config(epochs=3), recorder)
    first, second, third = (text for text in recorder.descriptions if text.startswith("epoch"))
    assert first == "epoch 1/3"
    assert re.fullmatch(r"epoch 2/3 \(\d+ s left in all\)", second)
    assert re.fullmatch(r"epoch 3/3 \(\d+ s left in all\)", third)


class _Bars(SilentReporter):
    def __init__(self) -> None:
        self.descriptions: list[str] = []

    @contextmanager
    def progress(self, description: str, *, total: float | None, unit: str) -> Iterator[Progress]:
        self.descriptions.append(description)
        with super().progress(description, total=total, unit=unit) as bar:
            yield bar


def test_more_epochs_after_the_last(frames: Path, tmp_path: Path) -> None:
    """With steps of the rate, a finished training goes on as if it had been longer from the beginning."""
    steps: dict[str, Any] = {"schedule": "step", "milestones": (1, 2, 9)}
    whole = run_training(frames, tmp_path / "a", epochs=3, **steps)
    run_training(frames, tmp_path / "b", epochs=2, **steps)
    with pytest.raises(
        ManifestError, match="nothing is left; choose another --out, or pass more --epochs"
    ):
        resume_training(tmp_path / "b", {}, SilentReporter())
    resume_training(tmp_path / "b", {"epochs": 3}, SilentReporter())
    assert_same_training(whole, tmp_path / "b")


def test_more_epochs_need_a_rate_that_goes_on(whole: Path, tmp_path: Path) -> None:
    """One cycle ends at a rate of zero: the error names the weights to start from."""
    shutil.copytree(whole, tmp_path / "train")
    with pytest.raises(ConfigError) as error:
        resume_training(tmp_path / "train", {"epochs": 5}, SilentReporter())
    assert error.value.fix == f"train again with --weights {tmp_path / 'train/checkpoints/last.pt'}"
    assert (tmp_path / "train" / "manifest.json").is_file()
