"""Kept representations: the same numbers to the bit, without a frame read twice."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import (
    ROWS,
    assert_same_training,
    flip_byte,
    run_training,
    tiny_config,
    write_frames,
)

from fvar.config import EvalConfig, InspectConfig, VerifyConfig
from fvar.loading import clip
from fvar.loading.clip import EncodedClip
from fvar.model.build import build_recognizer
from fvar.reporting import SilentReporter
from fvar.stages.evaluate import evaluate
from fvar.stages.inspect_clusters import inspect_clusters
from fvar.stages.train import train
from fvar.stages.verify import verify
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import FrameStore
from fvar.training import representer
from fvar.training.loop import Trainer

FROZEN: dict[str, Any] = {"freeze_stem": True, "norm": "frozen", "crop": "center", "epochs": 3}
TRAIN_AND_VAL = {row.id for row in ROWS if row.split != "test"}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small extraction, alone in its parent folder; no test writes into it."""
    return write_frames(tmp_path_factory.mktemp("run") / "frames")


@pytest.fixture(scope="module")
def fresh(frames: Path) -> Path:
    """Return a training of a frozen stem that kept nothing."""
    return run_training(frames, frames.parent / "fresh" / "train", cache=False, **FROZEN)


@pytest.fixture(scope="module")
def kept(frames: Path) -> Path:
    """Return the same training, with its cache beside it; no test writes into its parent folder."""
    return run_training(frames, frames.parent / "kept" / "train", **FROZEN)


@pytest.fixture(scope="module")
def weights(frames: Path) -> str:
    """Return a file of starting weights, so that the stem does not depend on the seed."""
    path = frames.parent / "weights.pt"
    network = build_recognizer(tiny_config(), num_classes=3).backbone.network
    torch.save(network.state_dict(), path)
    return str(path)


@pytest.fixture
def copied(kept: Path, tmp_path: Path) -> Path:
    """Return a copy of the cache that a test may change."""
    return Path(shutil.copytree(kept.parent / "fvar-cache", tmp_path / "fvar-cache"))


@pytest.fixture
def read_ids(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the id of every video whose frames are read."""
    found: list[str] = []
    read = FrameStore.read

    def reading(self: FrameStore, shard: str, video_id: str) -> EncodedVideo:
        found.append(video_id)
        return read(self, shard, video_id)

    monkeypatch.setattr(FrameStore, "read", reading)
    return found


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
        with pytest.raises(KeyboardInterrupt):
            training()


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.representations"))


def test_the_cache_changes_no_bit(fresh: Path, kept: Path) -> None:
    """Weights, momenta and metrics are those of a training that keeps nothing."""
    assert not (fresh.parent / "fvar-cache").exists()
    assert _entries(kept.parent)
    assert_same_training(fresh, kept)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"crop": "multi-scale", "views": 2},
        {"crop": "multi-scale", "views": 0},
        {"clustering": "random"},
        {"clustering": "even", "engine": "plain"},
        {"sampled_epochs": 1},
        {"precision": "bf16"},
        {"clustering": "uniform"},
        {"norm": "stem-frozen"},
    ],
)
def test_no_setting_changes_a_bit(frames: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Also with drawn crops and cuts, other engines and precisions, or where nothing can be kept."""
    settings = FROZEN | changes
    without = run_training(frames, tmp_path / "without", cache=False, **settings)
    assert_same_training(without, run_training(frames, tmp_path / "with", **settings))
    assert_same_training(without, run_training(frames, tmp_path / "again", **settings))


def test_each_view_is_kept_once(kept: Path) -> None:
    """Both mirror images of the training videos that needed both, one view of those to choose by."""
    counts = len(_entries(kept.parent))
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
    settings = FROZEN | {"weights": weights, "epochs": 10} | changes
    run_training(frames, tmp_path / "first", **settings, seed=1)
    read_ids.clear()
    run_training(frames, tmp_path / "second", **settings, seed=2, lr=0.002)
    assert read_ids == []


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
    assert _entries(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["bit", "end", "nothing", "text", "gone"])
def test_damage_is_computed_again(
    frames: Path, fresh: Path, copied: Path, read_ids: list[str], damage: str
) -> None:
    """An entry that is not as it was written is not used, and is written again."""
    before = {path: path.read_bytes() for path in _entries(copied)}
    for path, content in before.items():
        if damage == "bit":
            flip_byte(path, at=len(content) // 2)
        elif damage == "gone":
            path.unlink()
        else:
            path.write_bytes({"end": content[:-1], "nothing": b"", "text": b"x" * 99}[damage])
    assert_same_training(fresh, run_training(frames, copied.parent / "train", **FROZEN))
    assert sorted(set(read_ids)) == sorted(TRAIN_AND_VAL)
    assert {path: path.read_bytes() for path in _entries(copied)} == before


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
    assert sum(path.stat().st_size for path in _entries(tmp_path)) <= 10_000
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
        run, out / "three", InspectConfig(device="cpu"), SilentReporter(), frames=frames
    )
    monkeypatch.undo()
    never = EvalConfig(device="cpu", cache=False)
    evaluate(run, out / "four", never, SilentReporter(), frames=frames)
    tables = [(out / name / "predictions.csv").read_bytes() for name in ("one", "two", "four")]
    assert tables[0] == tables[1] == tables[2]
    fresh = InspectConfig(device="cpu", cache=False)
    inspect_clusters(run, out / "five", fresh, SilentReporter(), frames=frames)
    for name in ("clusters.h5", "clusters.csv"):
        assert (out / "three" / name).read_bytes() == (out / "five" / name).read_bytes()


def test_verify_tells_the_size(kept: Path) -> None:
    """The cache is no part of the chain: verify names it and its size, and that it may be deleted."""
    verdict = verify(kept, VerifyConfig(workers=1), SilentReporter())
    assert verdict.faults == ()
    (note,) = (note for note in verdict.notes if "fvar-cache" in note)
    assert "MB" in note
    assert "may be deleted" in note
