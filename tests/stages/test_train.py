"""Training: exact when resumed, the same with the same seed, and stopped by nan and by damage."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import ROWS, Listener, tiny_config, write_frames

from fvar.config import TrainConfig
from fvar.errors import FrameStoreError, FvarError, StoppedError, WeightsError
from fvar.model.build import build_recognizer
from fvar.reporting import SilentReporter
from fvar.stages.train import train
from fvar.store.manifest import CheckpointManifest, read_manifest
from fvar.store.provenance import check_files
from fvar.training import loop
from fvar.training.checkpoint import Checkpoint, load_checkpoint
from fvar.training.loop import Trainer

TIMINGS = {"frames_per_second", "seconds"}
SHARD = "shards/shard-00000.h5"  # of a, b, c and d, in the train split


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small extraction; no test writes into it."""
    return write_frames(tmp_path_factory.mktemp("run") / "frames")


@pytest.fixture(scope="module")
def whole(frames: Path) -> Path:
    """Return the folder of an uninterrupted training; no test writes into it."""
    return _train(frames, frames.parent / "whole")


def _train(
    frames: Path, out: Path, *, resume: bool = False, overwrite: bool = False, **changes: Any
) -> Path:
    config = tiny_config(**changes)
    train(frames, out, config, SilentReporter(), resume=resume, overwrite=overwrite)
    return out


def _last(folder: Path) -> Checkpoint:
    return load_checkpoint(folder / "checkpoints" / "last.pt")


def _metrics(folder: Path) -> list[dict[str, float]]:
    rows = _last(folder).history
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]


def _same(a: Any, b: Any) -> bool:
    """Return whether two trees of containers and tensors are equal to the bit."""
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
    header, *rows = (whole / "metrics.csv").read_text().splitlines()
    assert header == (
        "epoch,lr,train_loss,train_top1,val_top1,val_mean_class_accuracy,"
        "frames,frames_per_second,seconds"
    )
    assert [row.split(",")[0] for row in rows] == ["0", "1"]
    assert float(rows[1].split(",")[2]) == pytest.approx(summary.train_loss)
    assert [row["frames"] for row in _metrics(whole)] == [37, 37]


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
    """Ctrl-C in the second of three epochs, then ``--resume``: weights, momenta, metrics to the bit.

    The number of workers changes no number, so a resumed training may change it.
    """
    uninterrupted = _train(frames, tmp_path / "a", epochs=3, **changes)
    with monkeypatch.context() as patch:
        _interrupt(patch, epoch=1)
        with pytest.raises(KeyboardInterrupt):
            _train(frames, tmp_path / "b", epochs=3, **changes)
    assert not (tmp_path / "b" / "manifest.json").exists()
    assert _last(tmp_path / "b").epoch == 1
    _train(frames, tmp_path / "b", epochs=3, resume=True, workers=1, **changes)
    _assert_same_training(uninterrupted, tmp_path / "b")
    best = [load_checkpoint(tmp_path / run / "checkpoints" / "best.pt") for run in ("a", "b")]
    assert best[0].epoch == best[1].epoch
    assert _same(best[0].model, best[1].model)


class _Damaging(Listener):
    """Flips a byte of a picture when it reads a message that begins with `at`."""

    def __init__(self, shard: Path, at: str) -> None:
        super().__init__()
        self._shard, self._at = shard, at

    def info(self, message: str) -> None:
        if message.startswith(self._at):
            _flip_byte(self._shard)


def _flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2000] ^= 1  # in the last video's pictures
    path.write_bytes(content)


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
    _flip_byte(frames / SHARD)
    if code == 3:
        assert found.value.fix.endswith("; then go on with --resume")
        assert not (out / "manifest.json").exists()
    _assert_same_training(whole, _train(frames, out, resume=code == 3))


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


def test_same_seed_same_numbers(frames: Path, whole: Path, tmp_path: Path) -> None:
    """A second run with the same seed is the same to the bit, also with threads that read ahead."""
    _assert_same_training(whole, _train(frames, tmp_path / "again", workers=2))


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
    ("changes", "seen"),
    [
        ({"clustering": "none", "norm": "train"}, [37]),
        ({"clustering": "uniform"}, [6 * 4]),
        ({"sampled_epochs": 1, "epochs": 2}, [6 * 4, 37]),
        ({"clustering": "slope", "norm": "partial"}, [37]),
        ({"clustering": "even", "norm": "frozen", "freeze_stem": True}, [37]),
        ({"engine": "plain", "stage": 4, "precision": "bf16"}, [37]),
        ({"engine": "chunked", "batch_size": 1, "frames_per_batch": 1}, [37]),
    ],
)
def test_every_way_of_training_runs(
    frames: Path, tmp_path: Path, changes: dict[str, Any], seen: list[int]
) -> None:
    """Each clustering, engine and norm trains an epoch on every frame, or on the sampled ones."""
    folder = _train(frames, tmp_path / "train", **({"epochs": 1} | changes))
    assert [row["frames"] for row in _metrics(folder)] == seen


def test_frozen_stem_stays(frames: Path, tmp_path: Path) -> None:
    """With `freeze_stem` the layers before the clustering stay as they were; those behind it do not."""
    config = tiny_config(freeze_stem=True, norm="frozen", epochs=1)
    torch.manual_seed(config.seed)
    one = build_recognizer(config, num_classes=3).state_dict()
    two = _last(_train(frames, tmp_path / "a", freeze_stem=True, norm="frozen", epochs=1)).model
    moved = {name for name in one if not torch.equal(one[name], two[name])}
    assert not any(
        name.startswith(("backbone.network.conv1", "backbone.network.layer1")) for name in moved
    )
    assert any(name.startswith("backbone.network.layer2") for name in moved)


def test_starts_from_weights(frames: Path, whole: Path, tmp_path: Path) -> None:
    """``--weights FILE`` takes a checkpoint of ours too, but for its classifier, and says so."""
    listener = Listener()
    config = tiny_config(weights=str(whole / "checkpoints" / "last.pt"), epochs=1)
    train(frames, tmp_path / "train", config, listener)
    assert any("left out 2 keys of its classifier" in line for line in listener.lines)
    with pytest.raises(WeightsError, match=r"no\.pt: cannot be read as weights"):
        _train(frames, tmp_path / "no", weights=str(tmp_path / "no.pt"))
    assert not (tmp_path / "no").exists()


def test_reports_what_it_does(frames: Path, whole: Path, tmp_path: Path) -> None:
    """The first line names videos, frames, classes, network, clustering, engine, device and processes.

    The seed decides the numbers: with another one the first loss is another.
    """
    listener = Listener()
    train(frames, tmp_path / "train", tiny_config(epochs=1, seed=1), listener)
    assert listener.lines[0] == (
        "6 videos, 37 frames, 3 classes; tiny, clustering cumulative to 4 after stage 1, "
        "stem trained, engine chunked, cpu, 1 process(es)"
    )
    assert listener.lines[1].startswith("epoch 1/1: loss ")
    assert _metrics(tmp_path / "train")[0]["train_loss"] != _metrics(whole)[0]["train_loss"]


def test_overwrite_starts_again(whole: Path, tmp_path: Path) -> None:
    """``--overwrite`` removes all of the old run; a file that fvar did not write stays."""
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

    settings: dict[str, Any] = {"schedule": "step", "milestones": (9,)}
    _train(frames, tmp_path / "a", epochs=1, **settings)
    monkeypatch.setattr(loop.functional, "cross_entropy", spoilt)
    with pytest.raises(StoppedError) as error:
        _train(frames, tmp_path / "b", epochs=2, **settings)
    assert error.value.thing == "epoch 2"
    expected = {"loss": "the loss is nan on videos ", "gradient": "the norm of the gradient is nan"}
    assert error.value.problem.startswith(expected[where])
    assert _last(tmp_path / "b").epoch == 1
    assert _same(_last(tmp_path / "a").model, _last(tmp_path / "b").model)
    assert len(_metrics(tmp_path / "b")) == 1
    assert not (tmp_path / "b" / "manifest.json").exists()


def test_label_that_only_test_has_is_no_class(tmp_path: Path) -> None:
    """The classes are those of the train videos, in the manifest's order."""
    rows = [row for row in ROWS if row.label != "up" or row.split == "test"]
    frames = write_frames(tmp_path / "frames", rows)
    manifest = train(frames, tmp_path / "train", tiny_config(epochs=1), SilentReporter())
    assert manifest.classes == ["down", "left"]


def test_defaults_train(frames: Path, tmp_path: Path) -> None:
    """The defaults are settings that train, given a network without downloads and a small picture."""
    config = TrainConfig(
        backbone="tiny", weights="none", size=32, epochs=1, device="cpu", workers=0
    )
    assert train(frames, tmp_path / "train", config, SilentReporter()).summary.epochs == 1
