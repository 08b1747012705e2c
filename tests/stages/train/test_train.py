"""Training: what it writes, reports and learns, with every setting."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import (
    ROWS,
    last_checkpoint,
    run_training,
    tiny_config,
    training_metrics,
    write_frames,
)
from video_samples import Recorder

from fvar.config import TrainConfig
from fvar.errors import WeightsError
from fvar.model.build import build_recognizer
from fvar.reporting import SilentReporter
from fvar.stages.train import resume_training, train
from fvar.store.manifest import CheckpointManifest
from fvar.store.manifest_file import read_manifest
from fvar.store.provenance import check_files
from fvar.training.batches import TrainingSet, balanced_weights
from fvar.training.checkpoint import load_checkpoint
from fvar.training.distributed import World
from fvar.training.inputs import open_frames
from fvar.training.loop import Trainer


def test_training_leaves_a_complete_folder(whole: Path) -> None:
    """Checkpoints, metrics and events are in the manifest with their hashes, and the figures are right."""
    manifest = read_manifest(whole / "manifest.json", CheckpointManifest)
    check_files(whole / "manifest.json", manifest)
    names = [output.path for output in manifest.outputs]
    assert names[:4] == [
        *("checkpoints/last.pt", "metrics.csv", "curves.png", "checkpoints/best.pt"),
    ]
    assert names[4].startswith("tensorboard/events.")
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
    assert [row.split(",")[0] for row in rows] == ["1", "2"]
    assert float(rows[1].split(",")[2]) == pytest.approx(summary.train_loss)
    assert [row["frames"] for row in training_metrics(whole)] == [37, 37]


@pytest.mark.slow
def test_training_learns(tmp_path: Path) -> None:
    """On videos it sees again and again the loss falls far below chance, which is ln 3."""
    frames = write_frames(tmp_path / "frames", [row for row in ROWS if row.split == "train"])
    config = tiny_config(epochs=12, dropout=0.0, crop="center", flip=False, label_smoothing=0.0)
    summary = train(frames, tmp_path / "train", config, SilentReporter()).summary
    assert summary.train_loss < 0.5
    assert summary.best_epoch is None
    assert not (tmp_path / "train" / "checkpoints" / "best.pt").exists()


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
    assert last_checkpoint(tmp_path / "train").epoch == 3


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"clustering": "none", "norm": "train"}, [37]),
        ({"clustering": "uniform"}, [6 * 4]),
        ({"sampled_epochs": 1, "epochs": 2}, [6 * 4, 37]),
        ({"clustering": "slope", "norm": "partial"}, [37]),
        ({"clustering": "even", "norm": "frozen", "freeze_stem": True}, [37]),
        ({"engine": "plain", "stage": 4, "precision": "bf16"}, [37]),
        ({"clustering": "variance", "precision": "bf16"}, [37]),
        ({"clustering": "cumulative", "precision": "bf16"}, [37]),
        ({"engine": "chunked", "batch_size": 1, "frames_per_batch": 1}, [37]),
    ],
)
def test_every_way_of_training_runs(
    frames: Path, tmp_path: Path, changes: dict[str, Any], seen: list[int]
) -> None:
    """Each clustering, engine and norm trains an epoch on every frame, or on the sampled ones."""
    folder = run_training(frames, tmp_path / "train", **({"epochs": 1} | changes))
    assert [row["frames"] for row in training_metrics(folder)] == seen


def test_frozen_stem_stays(frames: Path, tmp_path: Path) -> None:
    """With `freeze_stem` the layers before the clustering stay as they were; those behind it do not."""
    config = tiny_config(freeze_stem=True, norm="frozen", epochs=1)
    torch.manual_seed(config.seed)
    one = build_recognizer(config, num_classes=3).state_dict()
    two = last_checkpoint(
        run_training(frames, tmp_path / "a", freeze_stem=True, norm="frozen", epochs=1)
    ).model
    moved = {name for name in one if not torch.equal(one[name], two[name])}
    assert not any(
        name.startswith(("backbone.network.conv1", "backbone.network.layer1")) for name in moved
    )
    assert any(name.startswith("backbone.network.layer2") for name in moved)


def test_starts_from_weights(frames: Path, whole: Path, tmp_path: Path) -> None:
    """``--weights FILE`` takes a checkpoint of ours too, but for its classifier, and says so."""
    listener = Recorder()
    config = tiny_config(weights=str(whole / "checkpoints" / "last.pt"), epochs=1)
    train(frames, tmp_path / "train", config, listener)
    assert any("left out 2 keys of its classifier" in line for line in listener.lines)
    with pytest.raises(WeightsError, match=r"no\.pt: cannot be read as weights"):
        run_training(frames, tmp_path / "no", weights=str(tmp_path / "no.pt"))
    assert not (tmp_path / "no").exists()


def test_reports_what_it_does(frames: Path, whole: Path, tmp_path: Path) -> None:
    """The first line names videos, frames, classes, network, clustering, engine, device and processes.

    The seed decides the numbers: with another one the first loss is another.
    """
    listener = Recorder()
    train(frames, tmp_path / "train", tiny_config(epochs=1, seed=1), listener)
    assert listener.lines[0] == (
        "6 videos, 37 frames, 3 classes; tiny, clustering windowed to 4 after residual stage 1, "
        "stem trained, engine chunked, cpu, 1 process(es)"
    )
    assert listener.lines[1].startswith("epoch 1/1: loss ")
    assert (
        training_metrics(tmp_path / "train")[0]["train_loss"]
        != training_metrics(whole)[0]["train_loss"]
    )


def test_overwrite_starts_again(whole: Path, tmp_path: Path) -> None:
    """``--overwrite`` removes all of the old run; a file that fvar did not write stays."""
    out = tmp_path / "train"
    shutil.copytree(whole, out)
    (out / "notes.txt").write_text("mine")
    old_events = {path.name for path in (out / "tensorboard").iterdir()}
    rows = [row for row in ROWS if row.split != "val"]
    no_val = write_frames(tmp_path / "frames", rows)
    run_training(no_val, out, overwrite=True, epochs=1)
    assert not (out / "checkpoints" / "best.pt").exists()
    assert len(training_metrics(out)) == 1
    assert not old_events & {path.name for path in (out / "tensorboard").iterdir()}
    assert (out / "notes.txt").read_text() == "mine"


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


def test_rare_classes_weigh_more(frames: Path, tmp_path: Path) -> None:
    """`balanced` gives each class the same total weight, N / C, and changes the numbers of a training."""
    stored = open_frames(frames, World(0, 1, torch.device("cpu")))
    classes = stored.manifest.classes
    videos = stored.videos("train", classes, allow_partial=False)
    uneven = TrainingSet(stored, classes, [*videos, videos[0], videos[0]], [])
    weights = balanced_weights(uneven)
    counts = torch.tensor([4.0, 2.0, 2.0])  # of down, left and up
    torch.testing.assert_close(weights * counts, torch.full((3,), 8 / 3))
    rows = [row for row in ROWS if row.id != "a"]
    fewer = write_frames(tmp_path / "frames", rows)
    plain, balanced = (
        training_metrics(run_training(fewer, tmp_path / name, epochs=1, class_weights=name))
        for name in ("none", "balanced")
    )
    assert plain[0]["train_loss"] != balanced[0]["train_loss"]


def test_balanced_sampling_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    """It draws from seed and epoch alone, and trains on other videos than `each` does."""
    uneven = write_frames(tmp_path / "frames", [row for row in ROWS if row.id != "a"])
    step: dict[str, Any] = {"schedule": "step", "milestones": (2,)}
    balanced = {"sampling": "balanced"} | step
    whole = run_training(uneven, tmp_path / "whole", epochs=3, **balanced)
    parts = run_training(uneven, tmp_path / "parts", epochs=2, **balanced)
    resume_training(parts, {"epochs": 3}, SilentReporter())
    plain = run_training(uneven, tmp_path / "plain", epochs=3, **step)
    runs = (whole, parts, plain)
    losses = [[row["train_loss"] for row in training_metrics(run)] for run in runs]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(("best_by", "best"), [("top-1", 2), ("mean-class", 3)])
def test_the_best_epoch_by_either_accuracy(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best_by: str, best: int
) -> None:
    """Top-1 is highest in the second epoch, mean class accuracy in the third."""
    values = iter([(0.0, 0.0), (0.9, 0.3), (0.5, 0.6)])
    monkeypatch.setattr(
        Trainer,
        "_validate",
        lambda _: dict(zip(("val_top1", "val_mean_class_accuracy"), next(values), strict=True)),
    )
    manifest = train(
        frames, tmp_path / "t", tiny_config(epochs=3, best_by=best_by), SilentReporter()
    )
    assert manifest.summary.best_epoch == best
