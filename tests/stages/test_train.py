"""Training: exact when resumed, the same with the same seed, and stopped by what is no number."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import ROWS, tiny_config, write_frames

from fvar.config import TrainConfig
from fvar.errors import StoppedError, WeightsError
from fvar.reporting import SilentReporter
from fvar.stages.train import train
from fvar.store.manifest import CheckpointManifest, read_manifest
from fvar.store.provenance import check_files
from fvar.training import loop
from fvar.training.checkpoint import Checkpoint, load_checkpoint
from fvar.training.loop import Trainer

TIMINGS = {"frames_per_second", "seconds"}


class _Listener(SilentReporter):
    """Keeps the lines it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small extraction; nobody writes into it."""
    return write_frames(tmp_path_factory.mktemp("run") / "frames")


@pytest.fixture(scope="module")
def whole(frames: Path) -> Path:
    """Return the folder of an uninterrupted training; nobody writes into it."""
    return _train(frames, frames.parent / "whole")


def _train(
    frames: Path, out: Path, *, resume: bool = False, overwrite: bool = False, **changes: Any
) -> Path:
    config = tiny_config(**changes)
    train(frames, out, config, SilentReporter(), resume=resume, overwrite=overwrite)
    return out


def _last(folder: Path) -> Checkpoint:
    return load_checkpoint(folder / "checkpoints" / "last.pt")


def _metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMINGS} for row in csv.DictReader(file)]


def _same(a: Any, b: Any) -> bool:
    """Tell whether two trees of containers and tensors are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _assert_same_training(a: Path, b: Path) -> None:
    one, other = _last(a), _last(b)
    for part in ("model", "optimizer", "scheduler", "scaler"):
        assert _same(getattr(one, part), getattr(other, part)), part
    assert _metrics(a) == _metrics(b)


def _interrupt(monkeypatch: pytest.MonkeyPatch, *, epoch: int, step: int = 1) -> None:
    """Let Ctrl-C arrive in the middle of an epoch (counted from 0)."""
    original: Callable[..., torch.Tensor] = Trainer._step
    steps = iter(range(1000))

    def stepped(self: Trainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if kwargs["epoch"] == epoch and next(steps) == step:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "_step", stepped)


def test_training_leaves_a_complete_folder(whole: Path) -> None:
    """Checkpoints, metrics and events are in the manifest with their hashes, and the figures are right."""
    manifest = read_manifest(whole / "manifest.json", CheckpointManifest)
    check_files(whole / "manifest.json", manifest)
    names = [output.path for output in manifest.outputs]
    assert names[:3] == ["checkpoints/last.pt", "metrics.csv", "checkpoints/best.pt"]
    assert names[3].startswith("tensorboard/events.")
    assert [entry.path for entry in manifest.inputs] == ["../frames/manifest.json"]
    assert manifest.classes == ["down", "left", "up"]
    assert manifest.config == tiny_config()
    summary = manifest.summary
    assert (summary.epochs, summary.num_videos, summary.frames) == (2, 6, 3 + 9 + 5 + 7 + 12 + 1)
    rows = _metrics(whole)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert float(rows[1]["train_loss"]) == pytest.approx(summary.train_loss)
    assert [float(row["frames"]) for row in rows] == [37, 37]


def test_training_learns(tmp_path: Path) -> None:
    """On videos it sees again and again the loss falls far below chance, which is ln 3."""
    frames = write_frames(tmp_path / "frames", [row for row in ROWS if row.split == "train"])
    config = tiny_config(epochs=12, dropout=0.0, crop="center", flip=False, label_smoothing=0.0)
    summary = train(frames, tmp_path / "train", config, SilentReporter()).summary
    assert summary.train_loss < 0.5
    assert summary.best_epoch is None
    assert not (tmp_path / "train" / "checkpoints" / "best.pt").exists()


@pytest.mark.parametrize(
    "changes", [{}, {"clustering": "random", "schedule": "step", "milestones": (1,)}]
)
def test_interrupted_and_resumed_equals_uninterrupted(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Ctrl-C in the second of three epochs, then ``--resume``: weights, momenta, metrics to the bit."""
    uninterrupted = _train(frames, tmp_path / "a", epochs=3, **changes)
    with monkeypatch.context() as patch:
        _interrupt(patch, epoch=1)
        with pytest.raises(KeyboardInterrupt):
            _train(frames, tmp_path / "b", epochs=3, **changes)
    assert not (tmp_path / "b" / "manifest.json").exists()
    assert _last(tmp_path / "b").epoch == 1
    _train(frames, tmp_path / "b", epochs=3, resume=True, **changes)
    _assert_same_training(uninterrupted, tmp_path / "b")
    best = [load_checkpoint(tmp_path / run / "checkpoints" / "best.pt") for run in ("a", "b")]
    assert best[0].epoch == best[1].epoch
    assert _same(best[0].model, best[1].model)


def test_resumed_after_the_last_epoch_only_finishes(
    frames: Path, whole: Path, tmp_path: Path
) -> None:
    """A run killed between its last checkpoint and its manifest needs no further epoch."""
    shutil.copytree(whole, tmp_path / "train")
    (tmp_path / "train" / "manifest.json").unlink()
    _train(frames, tmp_path / "train", resume=True)
    manifest = read_manifest(tmp_path / "train" / "manifest.json", CheckpointManifest)
    assert manifest.summary.epochs == 2
    _assert_same_training(whole, tmp_path / "train")


@pytest.mark.parametrize("workers", [0, 2])
def test_same_seed_same_numbers(frames: Path, whole: Path, tmp_path: Path, workers: int) -> None:
    """A second run with the same seed is the same to the bit, with and without threads that read ahead."""
    _assert_same_training(whole, _train(frames, tmp_path / "again", workers=workers))


def test_another_seed_other_numbers(frames: Path, whole: Path, tmp_path: Path) -> None:
    """The seed is what decides: another one starts elsewhere."""
    other = _train(frames, tmp_path / "other", seed=1, epochs=1)
    assert _metrics(other)[0]["train_loss"] != _metrics(whole)[0]["train_loss"]


def test_best_is_the_first_best_epoch_on_val(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accuracies 0, 1/2, 1/2 on `val` (set by hand): the second epoch is kept, the third is last."""
    values = iter([0.0, 0.5, 0.5])
    monkeypatch.setattr(
        Trainer, "_validate", lambda _: {"val_top1": next(values), "val_mean_class_accuracy": 0.0}
    )
    config = tiny_config(epochs=3)
    summary = train(frames, tmp_path / "train", config, SilentReporter()).summary
    assert (summary.best_epoch, summary.best_val_top1) == (2, 0.5)
    assert load_checkpoint(tmp_path / "train" / "checkpoints" / "best.pt").epoch == 2
    assert _last(tmp_path / "train").epoch == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"clustering": "none", "norm": "train"},
        {"clustering": "uniform"},
        {"sampled_epochs": 1},
        {"sampled_epochs": 2},
        {"clustering": "slope", "norm": "partial"},
        {"clustering": "even", "norm": "frozen", "freeze_stem": True},
        {"engine": "plain", "stage": 4, "precision": "bf16"},
        {"batch_size": 1, "frames_per_batch": 1},
    ],
)
def test_every_way_of_training_runs(frames: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Each clustering, engine and norm trains an epoch or two and leaves a complete folder."""
    if "frames_per_batch" in changes:
        changes = changes | {"engine": "chunked"}
    manifest = train(frames, tmp_path / "train", tiny_config(**changes), SilentReporter())
    seen = {
        "uniform": [6 * 4, 6 * 4],
        "cumulative": [24 if e < changes.get("sampled_epochs", 0) else 37 for e in range(2)],
    }.get(manifest.config.clustering, [37, 37])
    assert [float(row["frames"]) for row in _metrics(tmp_path / "train")] == seen


def test_frozen_stem_stays(frames: Path, tmp_path: Path) -> None:
    """With `freeze_stem` the layers before the clustering are what they were; those behind it are not."""
    one = _last(_train(frames, tmp_path / "a", freeze_stem=True, epochs=1, norm="frozen")).model
    two = _last(_train(frames, tmp_path / "b", freeze_stem=True, epochs=2, norm="frozen")).model
    moved = {name for name in one if not torch.equal(one[name], two[name])}
    assert not any(
        name.startswith(("backbone.network.conv1", "backbone.network.layer1")) for name in moved
    )
    assert any(name.startswith("backbone.network.layer2") for name in moved)


def test_starts_from_weights(frames: Path, whole: Path, tmp_path: Path) -> None:
    """``--weights FILE`` takes a checkpoint of ours too, but for its classifier, and says so."""
    listener = _Listener()
    config = tiny_config(weights=str(whole / "checkpoints" / "last.pt"), epochs=1)
    train(frames, tmp_path / "train", config, listener)
    assert any("left out 2 keys of its classifier" in line for line in listener.lines)
    with pytest.raises(WeightsError, match=r"no\.pt: cannot be read as weights"):
        _train(frames, tmp_path / "no", weights=str(tmp_path / "no.pt"))
    assert not (tmp_path / "no").exists()


def test_says_what_it_does(frames: Path, tmp_path: Path) -> None:
    """The first line tells videos, frames, classes, network, clustering, engine, device and processes."""
    listener = _Listener()
    train(frames, tmp_path / "train", tiny_config(epochs=1), listener)
    assert listener.lines[0] == (
        "6 videos, 37 frames, 3 classes; tiny, clustering cumulative to 4 after stage 1, "
        "stem trained, engine chunked, cpu, 1 process(es)"
    )
    assert listener.lines[1].startswith("epoch 1/1: loss ")


def test_resume_may_change_the_workers(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of workers changes no number, so a resumed run may set it anew."""
    with monkeypatch.context() as patch:
        _interrupt(patch, epoch=1, step=0)
        with pytest.raises(KeyboardInterrupt):
            _train(frames, tmp_path / "train")
    _train(frames, tmp_path / "train", resume=True, workers=1)


def test_overwrite_starts_anew(whole: Path, tmp_path: Path) -> None:
    """``--overwrite`` replaces a run wholly: nothing of the old one is left, what is not ours stays."""
    out = tmp_path / "train"
    shutil.copytree(whole, out)
    (out / "notes.txt").write_text("mine")
    old_events = {path.name for path in (out / "tensorboard").iterdir()}
    rows = [row for row in ROWS if row.split != "val"]
    no_val = write_frames(tmp_path / "frames", rows)
    _train(no_val, out, overwrite=True, epochs=1)
    assert not (out / "checkpoints" / "best.pt").exists()
    assert len(_metrics(out)) == 1
    assert not old_events & {path.name for path in (out / "tensorboard").iterdir()}
    assert (out / "notes.txt").read_text() == "mine"


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

    reference = _train(frames, tmp_path / "a", epochs=1, lr=0.01, schedule="step", milestones=(9,))
    monkeypatch.setattr(loop.functional, "cross_entropy", spoilt)
    with pytest.raises(StoppedError) as error:
        _train(frames, tmp_path / "b", epochs=2, lr=0.01, schedule="step", milestones=(9,))
    told = {
        "loss": "epoch 2: the loss is nan on videos ",
        "gradient": "epoch 2: the norm of the gradient is nan",
    }
    assert str(error.value).startswith(told[where])
    assert str(error.value).endswith(
        "; train again with a lower --lr; epochs before this one are in --out"
    )
    assert _last(tmp_path / "b").epoch == 1
    assert _same(_last(tmp_path / "a").model, _last(tmp_path / "b").model)
    assert len(_metrics(tmp_path / "b")) == 1
    assert (reference / "manifest.json").exists()
    assert not (tmp_path / "b" / "manifest.json").exists()


def test_label_that_only_test_has_is_no_class(tmp_path: Path) -> None:
    """The classes are those of the train videos, in the manifest's order."""
    rows = [row for row in ROWS if row.label != "up" or row.split == "test"]
    frames = write_frames(tmp_path / "frames", rows)
    assert train(frames, tmp_path / "train", tiny_config(epochs=1), SilentReporter()).classes == [
        "down",
        "left",
    ]


def test_defaults_train(frames: Path, tmp_path: Path) -> None:
    """The defaults are settings that train, given a network without downloads and a small picture."""
    config = TrainConfig(
        backbone="tiny", weights="none", size=32, epochs=1, device="cpu", workers=0
    )
    assert train(frames, tmp_path / "train", config, SilentReporter()).summary.epochs == 1
