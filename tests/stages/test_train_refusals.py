"""What `fvar train` refuses, before it writes anything, and how it says so."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import ROWS, Row, tiny_config, write_frames

from fvar.errors import ConfigError, FvarError, ManifestError
from fvar.reporting import SilentReporter
from fvar.stages.train import train
from fvar.training import memory_check as plain_memory
from fvar.training.checkpoint import Checkpoint, load_checkpoint

TIMINGS = {"frames_per_second", "seconds"}


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


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"lr": 0.02},
            "--resume: lr: is 0.02, the training began with 0.01; pass the same settings",
        ),
        ({"seed": 4}, "--resume: seed: is 4, the training began with 0; pass"),
        ({"epochs": 9}, "--resume: epochs: is 9, the training began with 2; pass"),
        (
            {"backbone": "resnet18"},
            "--resume: backbone: is 'resnet18', the training began with 'tiny'; ",
        ),
    ],
)
def test_resume_with_another_setting_is_refused(
    frames: Path, whole: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    """A resumed run that would not be the run it resumes is refused, naming the setting and both values."""
    shutil.copytree(whole, tmp_path / "train")
    (tmp_path / "train" / "manifest.json").unlink()
    with pytest.raises(ConfigError) as error:
        _train(frames, tmp_path / "train", resume=True, **changes)
    assert str(error.value).startswith(told)


def _refusal(frames: Path, out: Path, **changes: Any) -> str:
    with pytest.raises(FvarError) as error:
        _train(frames, out, **changes)
    assert error.value.exit_code == 2
    return str(error.value)


def test_folders_are_not_written_over(frames: Path, whole: Path, tmp_path: Path) -> None:
    """Complete and unfinished trainings, other stages' folders and mixed wishes are told apart."""
    before = _last(whole).history
    assert _refusal(frames, whole) == (
        f"{whole}: holds a complete run; choose another --out or pass --overwrite to replace it"
    )
    assert _refusal(frames, whole, resume=True).startswith(
        f"{whole}: holds a complete training, nothing"
    )
    assert _refusal(frames, whole, resume=True, overwrite=True) == (
        "--resume --overwrite: one goes on, the other starts anew; pass one of them"
    )
    assert _refusal(frames, tmp_path / "new", resume=True) == (
        f"{tmp_path / 'new' / 'checkpoints' / 'last.pt'}: does not exist, no epoch was finished; "
        "train without --resume"
    )
    assert "was written by `fvar extract`" in _refusal(frames, frames, overwrite=True)
    half = tmp_path / "half"
    shutil.copytree(whole, half)
    (half / "manifest.json").unlink()
    assert _refusal(frames, half) == (
        f"{half}: holds an unfinished training; pass --resume to go on or --overwrite to start anew"
    )
    assert _last(whole).history == before
    assert not (tmp_path / "new").exists()


def test_label_that_only_val_has_is_refused(tmp_path: Path) -> None:
    """A val video whose class cannot be predicted is an error, before anything is written."""
    frames = write_frames(tmp_path / "frames", [*ROWS, Row("q", "sideways", "val", 2)])
    assert _refusal(frames, tmp_path / "train").startswith(
        f"{frames / 'manifest.json'}: video 'q' has label 'sideways', which the training did not have"
    )
    assert not (tmp_path / "train").exists()


def test_splits_that_cannot_train_are_refused(tmp_path: Path) -> None:
    """No train videos, or a single class: refused with what there is."""
    tests = write_frames(tmp_path / "a" / "frames", [row for row in ROWS if row.split == "test"])
    assert "split 'train' has no videos; use one of test" in _refusal(tests, tmp_path / "t")
    one = write_frames(tmp_path / "b" / "frames", [row for row in ROWS if row.label == "up"])
    assert _refusal(one, tmp_path / "t") == (
        f"{one / 'manifest.json'}: its train videos have 1 class (up); label at least two"
    )
    assert not (tmp_path / "t").exists()


def test_partial_videos_are_refused_unless_allowed(tmp_path: Path) -> None:
    """A video known to be incomplete is not trained on behind one's back."""
    frames = write_frames(tmp_path / "frames", [*ROWS, Row("q", "up", "train", 2, "partial")])
    assert "1 of 7 train videos are not complete, first 'q'" in _refusal(frames, tmp_path / "train")
    _train(frames, tmp_path / "train", allow_partial=True, epochs=1)
    failed = write_frames(tmp_path / "f" / "frames", [*ROWS, Row("q", "up", "train", 0, "failed")])
    assert "first 'q' (failed: made so)" in _refusal(failed, tmp_path / "no", allow_partial=True)


def test_plain_engine_refuses_a_video_beyond_the_budget(frames: Path, tmp_path: Path) -> None:
    """Where memory grows with the video, one that is too long is named before it takes the machine down."""
    told = _refusal(frames, tmp_path / "train", norm="train", frames_per_batch=11)
    assert told.startswith("video e: has 12 frames, more than --frames-per-batch 11")
    assert not (tmp_path / "train").exists()
    _train(frames, tmp_path / "chunked", engine="chunked", frames_per_batch=11, epochs=1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"engine": "chunked", "norm": "train"}, "--engine chunked: the stem's batch norm trains"),
        (
            {"engine": "chunked", "clustering": "uniform"},
            "--engine chunked: clustering uniform makes no clusters",
        ),
        ({"weights": "imagenet"}, "--weights imagenet: backbone tiny has no ImageNet weights"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    frames: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    """What a network cannot do is said before anything is written."""
    assert _refusal(frames, tmp_path / "train", **changes).startswith(told)
    assert not (tmp_path / "train").exists()


def test_gpu_that_is_not_there_is_named(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--device cuda`` without a GPU is refused, never replaced."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _refusal(frames, tmp_path / "train", device="cuda") == (
        "--device cuda: torch finds no GPU; use --device cpu, or install a CUDA torch"
    )


def test_resume_on_other_frames_is_refused(whole: Path, tmp_path: Path) -> None:
    """A training does not go on with another extraction than the one it began with."""
    out = tmp_path / "train"
    shutil.copytree(whole, out)
    (out / "manifest.json").unlink()
    other = write_frames(tmp_path / "frames", [row for row in ROWS if row.label != "up"])
    assert _refusal(other, out, resume=True) == (
        f"{out / 'checkpoints' / 'last.pt'}: was trained on other frames than those in {other} now; "
        "restore them, or start anew with --overwrite"
    )


def test_damaged_frames_are_refused(frames: Path, tmp_path: Path) -> None:
    """A shard that changed since the extraction is named, and nothing is written."""
    shutil.copytree(frames.parent, tmp_path / "run", ignore=shutil.ignore_patterns("whole"))
    shard = tmp_path / "run" / "frames" / "shards" / "shard-00000.h5"
    with shard.open("r+b") as file:
        file.seek(3000)
        byte = file.read(1)
        file.seek(3000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ManifestError) as error:
        _train(tmp_path / "run" / "frames", tmp_path / "train")
    assert str(error.value).startswith(f"{shard}: is not what `fvar extract` wrote")
    assert not (tmp_path / "train").exists()


def test_batches_that_the_plain_engine_cannot_hold_are_refused(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With memory for 12 frames a batch of 37 is refused with the numbers; what --out held is untouched."""
    out = _train(frames, tmp_path / "out", epochs=1)
    before = (out / "checkpoints" / "last.pt").read_bytes()
    monkeypatch.setattr(plain_memory, "bytes_of_a_frame", lambda *_, **__: 10**9)
    monkeypatch.setattr(plain_memory, "total_host_memory", lambda: 12 * 10**9 + 1)
    with pytest.raises(ConfigError) as error:
        _train(frames, out, norm="train", engine="plain", overwrite=True, batch_size=6)
    assert str(error.value) == (
        "engine plain: keeps every activation: a batch of 37 frames needs 37 GB, cpu has 12 GB; set norm = "
        "'frozen' in --config to train in chunks, or lower --frames-per-batch (to 12 at most) or --size"
    )
    assert (out / "checkpoints" / "last.pt").read_bytes() == before
    _train(frames, tmp_path / "fits", norm="train", engine="plain", frames_per_batch=12, epochs=1)
