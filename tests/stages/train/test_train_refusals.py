"""Input that `fvar train` refuses before it writes anything, with an error that names it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import ROWS, Row, run_training, tiny_config, write_frames
from video_samples import Recorder

from fvar.errors import FvarError, StoppedError
from fvar.stages.train import train
from fvar.training import memory_check


def _refusal(frames: Path, out: Path, **changes: Any) -> str:
    with pytest.raises(FvarError) as error:
        run_training(frames, out, **changes)
    assert error.value.exit_code == 2
    return str(error.value)


@pytest.fixture
def half(whole: Path, tmp_path: Path) -> Path:
    """Return the folder of a training that has epochs but no manifest."""
    shutil.copytree(whole, tmp_path / "half")
    (tmp_path / "half" / "manifest.json").unlink()
    return tmp_path / "half"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lr": 0.02}, "--resume: lr: is 0.02, the training began with 0.01; "),
        ({"seed": 4}, "--resume: seed: is 4, the training began with 0; "),
        (
            {"backbone": "resnet18"},
            "--resume: backbone: is 'resnet18', the training began with 'tiny'",
        ),
    ],
)
def test_resume_with_another_setting_is_refused(
    frames: Path, half: Path, changes: dict[str, Any], problem: str
) -> None:
    """A resumed run that would not be the run it resumes is refused, naming the setting and both values."""
    assert _refusal(frames, half, resume=True, **changes).startswith(problem)


def test_folders_are_not_written_over(
    frames: Path, whole: Path, half: Path, tmp_path: Path
) -> None:
    """Complete and unfinished trainings, other stages' folders and contradicting flags are refused."""
    before = (whole / "checkpoints" / "last.pt").read_bytes()
    assert "holds a complete run" in _refusal(frames, whole)
    assert "holds a complete training" in _refusal(frames, whole, resume=True)
    assert "pass one of them" in _refusal(frames, whole, resume=True, overwrite=True)
    assert "no epoch was finished" in _refusal(frames, tmp_path / "new", resume=True)
    assert "was written by `fvar extract`" in _refusal(frames, frames, overwrite=True)
    assert _refusal(frames, half).startswith(f"{half}: holds an unfinished training; ")
    assert (whole / "checkpoints" / "last.pt").read_bytes() == before
    assert not (tmp_path / "new").exists()


def test_splits_that_cannot_train_are_refused(tmp_path: Path) -> None:
    """A single class, or a val video whose class cannot be predicted: refused before anything is written."""
    one = write_frames(tmp_path / "a" / "frames", [row for row in ROWS if row.label == "up"])
    assert "its train videos have 1 class (up)" in _refusal(one, tmp_path / "train")
    odd = write_frames(tmp_path / "b" / "frames", [*ROWS, Row("q", "sideways", "val", 2)])
    assert "video 'q' has label 'sideways'" in _refusal(odd, tmp_path / "train")
    assert not (tmp_path / "train").exists()


def test_partial_videos_are_refused_unless_allowed(tmp_path: Path) -> None:
    """A video known to be incomplete is refused, unless it is allowed."""
    frames = write_frames(tmp_path / "frames", [*ROWS, Row("q", "up", "train", 2, "partial")])
    assert "1 of 7 train videos are not complete, first 'q'" in _refusal(frames, tmp_path / "train")
    run_training(frames, tmp_path / "train", allow_partial=True, epochs=1)


def test_incomplete_videos_are_left_out_if_wanted(tmp_path: Path) -> None:
    """One failed video does not block a training: it is named, counted and in the manifest."""
    rows = [*ROWS, Row("q", "up", "train", 0, "failed"), Row("r", "left", "val", 2, "partial")]
    rows.append(Row("s", "none", "train", 0, "failed"))
    frames, recorder = write_frames(tmp_path / "frames", rows), Recorder()
    refusal = _refusal(frames, tmp_path / "train")
    assert "2 of 8 train videos are not complete, first 'q' (failed: made so)" in refusal
    assert refusal.endswith("rerun fvar extract; --skip-incomplete leaves all of them out")
    config = tiny_config(skip_incomplete=True, epochs=1)
    manifest = train(frames, tmp_path / "train", config, recorder)
    assert manifest.summary.skipped == ["q", "s", "r"]
    assert (manifest.summary.num_videos, manifest.classes) == (6, ["down", "left", "up"])
    line = "3 videos that are not complete are left out: q (failed), s (failed), r (partial)"
    assert line in recorder.lines
    allowed = tiny_config(skip_incomplete=True, allow_partial=True, epochs=1)
    assert train(frames, tmp_path / "b", allowed, recorder).summary.skipped == ["q", "s"]


def test_plain_engine_refuses_a_video_beyond_the_budget(frames: Path, tmp_path: Path) -> None:
    """Where memory grows with the video, one that is too long is named before it fills the memory."""
    refusal = _refusal(frames, tmp_path / "train", norm="train", frames_per_batch=11)
    assert refusal.startswith("video e: has 12 frames, more than --frames-per-batch 11")
    assert not (tmp_path / "train").exists()
    run_training(frames, tmp_path / "chunked", engine="chunked", frames_per_batch=11, epochs=1)


@pytest.mark.parametrize(
    ("changes", "problem"),
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
    frames: Path, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    """Settings that a network cannot follow are refused before anything is written."""
    assert _refusal(frames, tmp_path / "train", **changes).startswith(problem)
    assert not (tmp_path / "train").exists()


def test_gpu_that_is_not_there_is_named(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--device cuda`` without a GPU is refused, never replaced."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refusal = _refusal(frames, tmp_path / "train", device="cuda")
    assert refusal.startswith("--device cuda: torch finds no GPU; ")


def test_resume_on_other_frames_is_refused(half: Path, tmp_path: Path) -> None:
    """A training does not go on with another extraction than the one it began with."""
    other = write_frames(tmp_path / "frames", [row for row in ROWS if row.label != "up"])
    assert _refusal(other, half, resume=True).startswith(
        f"{half / 'checkpoints' / 'last.pt'}: was trained on other frames than those in {other} now"
    )


def test_batches_that_the_plain_engine_cannot_hold_are_refused(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With memory for 12 frames a batch of 37 is refused with the numbers; what --out held is untouched."""
    out = run_training(frames, tmp_path / "out", epochs=1)
    before = (out / "checkpoints" / "last.pt").read_bytes()
    monkeypatch.setattr(memory_check, "bytes_per_frame", lambda *_, **__: 10**9)
    monkeypatch.setattr(memory_check, "total_host_memory", lambda: 12 * 10**9 + 1)
    refusal = _refusal(frames, out, norm="train", engine="plain", overwrite=True, batch_size=6)
    assert "a batch of 37 frames needs 37 GB, cpu has 12 GB" in refusal
    assert "--frames-per-batch (to 12 at most)" in refusal
    assert (out / "checkpoints" / "last.pt").read_bytes() == before
    run_training(
        frames, tmp_path / "fits", norm="train", engine="plain", frames_per_batch=12, epochs=1
    )


def test_a_diverged_training_says_so(frames: Path, tmp_path: Path) -> None:
    """A finite loss far above that of guessing is told after each epoch, and at the end with code 3."""
    recorder, config = Recorder(), tiny_config(lr=30.0, epochs=2)
    with pytest.raises(StoppedError, match="the training diverged; train again with a lower --lr"):
        train(frames, tmp_path / "train", config, recorder)
    told = [line for line in recorder.lines if "the training diverges; try a lower --lr" in line]
    assert len(told) == 2
    assert (tmp_path / "train" / "manifest.json").is_file()
