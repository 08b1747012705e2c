"""Kept representations: the same numbers to the bit, without a frame read twice."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import FROZEN, ROWS, assert_same_training, cache_entries, run_training

from fvar.config import EvalConfig, InspectConfig, VerifyConfig
from fvar.loading import clip
from fvar.loading.clip import EncodedClip
from fvar.reporting import SilentReporter
from fvar.stages.evaluate import evaluate
from fvar.stages.inspect_clusters import inspect_clusters
from fvar.stages.verify import verify

TRAIN_AND_VAL = {row.id for row in ROWS if row.split != "test"}


def test_the_cache_changes_no_bit(fresh: Path, kept: Path) -> None:
    """Weights, momenta and metrics are those of a training that keeps nothing."""
    assert not (fresh.parent / "fvar-cache").exists()
    assert cache_entries(kept.parent)
    assert_same_training(fresh, kept)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"crop": "multi-scale", "views": 2},
        {"crop": "multi-scale", "views": 0},
        {"clustering": "random"},
        {"clustering": "even", "engine": "plain"},
        {"sampled_epochs": 1, "epochs": 3},
        {"precision": "bf16"},
        {"clustering": "uniform"},
        {"norm": "stem-frozen"},
    ],
)
def test_no_setting_changes_a_bit(frames: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Also with drawn crops and cuts, other engines and precisions, or where nothing can be kept."""
    settings = FROZEN | {"epochs": 2} | changes
    without = run_training(frames, tmp_path / "without", cache=False, **settings)
    assert_same_training(without, run_training(frames, tmp_path / "with", **settings))


def test_each_view_is_kept_once(kept: Path) -> None:
    """Both mirror images of the training videos that needed both, one view of those to choose by."""
    counts = len(cache_entries(kept.parent))
    assert len(TRAIN_AND_VAL) < counts <= 2 * sum(row.split == "train" for row in ROWS) + 2


@pytest.mark.slow
def test_frames_are_read_and_decoded_once(
    frames: Path, tmp_path: Path, read_ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many epochs: both mirror images are made when a video is first decoded."""
    decode, decoded = clip._decode, list[int]()

    def counting(encoded: Sequence[torch.Tensor], *, threads: int) -> list[torch.Tensor]:
        decoded.append(len(encoded))
        return decode(encoded, threads=threads)

    monkeypatch.setattr(clip, "_decode", counting)
    run_training(frames, tmp_path / "train", **FROZEN)
    assert sorted(read_ids) == sorted(TRAIN_AND_VAL)
    assert sum(decoded) == sum(row.num_frames for row in ROWS if row.split != "test")


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"crop": "multi-scale", "views": 2}])
def test_a_second_training_reads_no_frame(
    frames: Path, weights: str, tmp_path: Path, read_ids: list[str], changes: dict[str, Any]
) -> None:
    """With another seed and rate: in enough epochs every view was seen, and views do not depend on them."""
    settings = FROZEN | {"weights": weights, "epochs": 6} | changes
    run_training(frames, tmp_path / "first", **settings, seed=1)
    read_ids.clear()
    run_training(frames, tmp_path / "second", **settings, seed=2, lr=0.002)
    assert read_ids == []


@pytest.mark.slow
def test_evaluation_and_inspection_share_them(
    kept: Path, tmp_path: Path, read_ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one of them made, the others find; an inspection reads frames for its pictures alone."""
    shutil.copytree(kept.parent, tmp_path / "run")
    run, frames = tmp_path / "run" / "train", kept.parent.parent / "frames"
    out = tmp_path / "run"
    evaluate(run, out / "one", EvalConfig(device="cpu"), SilentReporter(), frames=frames)
    assert sorted(read_ids) == ["x", "y", "z"]
    read_ids.clear()
    evaluate(run, out / "two", EvalConfig(device="cpu"), SilentReporter(), frames=frames)
    assert read_ids == []
    monkeypatch.setattr(EncodedClip, "pictures", lambda *_: pytest.fail("the stem runs"))
    inspect_clusters(
        [run], out / "three", InspectConfig(device="cpu"), SilentReporter(), frames=frames
    )
    monkeypatch.undo()
    never = EvalConfig(device="cpu", cache=False)
    evaluate(run, out / "four", never, SilentReporter(), frames=frames)
    tables = [(out / name / "predictions.csv").read_bytes() for name in ("one", "two", "four")]
    assert tables[0] == tables[1] == tables[2]
    fresh = InspectConfig(device="cpu", cache=False)
    inspect_clusters([run], out / "five", fresh, SilentReporter(), frames=frames)
    for name in ("clusters.h5", "clusters.csv"):
        assert (out / "three" / name).read_bytes() == (out / "five" / name).read_bytes()


def test_verify_tells_the_size(kept: Path) -> None:
    """The cache is no part of the chain: verify names it and its size, and that it may be deleted."""
    verdict = verify(kept, VerifyConfig(workers=1), SilentReporter())
    assert verdict.faults == ()
    (note,) = (note for note in verdict.notes if "fvar-cache" in note)
    assert "MB" in note
    assert "may be deleted" in note
