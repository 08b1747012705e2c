"""Evaluation: every frame of every video of a split, as in training, with nothing missing or replaced."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import (
    ROWS,
    Row,
    sample_pictures,
    sample_video,
    sample_videos,
    tiny_config,
    write_frames,
)

from fvar.config import EvalConfig
from fvar.errors import FvarError, StoppedError
from fvar.loading.dataset import collate
from fvar.model.build import build_recognizer
from fvar.model.recognizer import Recognizer
from fvar.reporting import SilentReporter
from fvar.stages import evaluate as stage
from fvar.stages.evaluate import evaluate
from fvar.stages.train import train
from fvar.store.manifest import EvalSummary, PredictionsManifest, read_manifest
from fvar.store.provenance import check_files
from fvar.training import inputs as views
from fvar.training import loop
from fvar.training.checkpoint import load_checkpoint, save_checkpoint
from fvar.training.metrics import Prediction
from fvar.training.predict import predict

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `frames` and `train`; nobody writes into those."""
    folder = tmp_path_factory.mktemp("run")
    write_frames(folder / "frames")
    train(folder / "frames", folder / "train", tiny_config(), SilentReporter())
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """Return a copy of the run, to be damaged."""
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("eval*"))
    return tmp_path / "run"


def _evaluate(
    run: Path, out: Path, *, frames: Path | None = None, overwrite: bool = False, **changes: Any
) -> EvalSummary:
    config = EvalConfig(**({"workers": 0, "device": "cpu"} | changes))
    reporter = SilentReporter()
    return evaluate(
        run / "train", out, config, reporter, frames=frames, overwrite=overwrite
    ).summary


def _refusal(run: Path, out: Path, **changes: Any) -> str:
    with pytest.raises(FvarError) as error:
        _evaluate(run, out, **changes)
    assert error.value.exit_code == 2
    assert not out.exists()
    return str(error.value)


def _rows(folder: Path) -> dict[str, list[str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return {row[0]: row[1:] for row in list(csv.reader(file))[1:]}


def _recognizer(run: Path, name: str = "best") -> Recognizer:
    loaded = load_checkpoint(run / "train" / "checkpoints" / f"{name}.pt")
    recognizer = build_recognizer(loaded.config, num_classes=3)
    recognizer.load_state_dict(loaded.model)
    return recognizer.eval()


def _flip_byte(path: Path, *, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_evaluation_leaves_a_complete_folder(run: Path, tmp_path: Path) -> None:
    """Tables, picture and manifest are there, and the figures are those of the tables."""
    out = tmp_path / "eval"
    summary = _evaluate(run, out)
    manifest = read_manifest(out / "manifest.json", PredictionsManifest)
    check_files(out / "manifest.json", manifest)
    assert [entry.path for entry in manifest.outputs] == list(stage.OUTPUTS)
    assert [Path(entry.path).name for entry in manifest.inputs] == [
        "manifest.json",
        "best.pt",
        "manifest.json",
    ]
    rows = _rows(out)
    right = [row[0] == row[1] for row in rows.values()]
    assert summary.top1 == pytest.approx(sum(right) / 3)
    assert summary.mean_class_accuracy == pytest.approx(sum(right) / 3)  # one video a class
    assert summary.top5 is None
    assert (summary.evaluated, summary.expected, summary.frames) == (3, 3, 8 + 2 + 11)
    assert (summary.split, summary.checkpoint, summary.crops) == ("test", "best", 1)
    assert (summary.clustering, summary.clusters) == ("cumulative", 4)


def test_predictions_are_what_the_network_says(run: Path, tmp_path: Path) -> None:
    """Each row is the softmax of `Recognizer.infer` on all frames of that video, in the source's order."""
    _evaluate(run, tmp_path / "eval")
    rows = _rows(tmp_path / "eval")
    assert list(rows) == ["x", "y", "z"]
    recognizer, view = _recognizer(run), views.testing_view(tiny_config())
    for row in ROWS[-3:]:
        batch = collate([(sample_video(sample_pictures(row.id, row.num_frames)), 0, row.id, 0)])
        (clip,) = batch.clips(view, device=CPU)
        scores = recognizer.infer(clip).logits.softmax(0).tolist()
        assert rows[row.id] == [
            row.label,
            ("down", "left", "up")[scores.index(max(scores))],
            *(f"{value:.9g}" for value in scores),
        ]


@pytest.mark.parametrize(("clustering", "matters"), [("cumulative", True), ("uniform", False)])
def test_every_frame_matters(tmp_path: Path, clustering: str, matters: bool) -> None:
    """Another picture in place of a frame that sampling skips changes the scores, unless one samples.

    Of the 11 frames of z, sampling takes the middles of [0,2), [2,5), [5,8), [8,11): 1, 3, 6 and 9.
    """
    config = tiny_config(clustering=clustering, epochs=1)
    train(write_frames(tmp_path / "frames"), tmp_path / "train", config, SilentReporter())
    videos = sample_videos(ROWS)
    pictures = sample_pictures("z", 11)
    pictures[4] = sample_pictures("another", 1)[0]
    altered = write_frames(tmp_path / "b" / "frames", videos=videos | {"z": sample_video(pictures)})
    summary = _evaluate(tmp_path, tmp_path / "eval")
    _evaluate(tmp_path, tmp_path / "altered", frames=altered)
    before, after = _rows(tmp_path / "eval"), _rows(tmp_path / "altered")
    assert (before["z"] != after["z"]) is matters
    assert (before["x"], before["y"]) == (after["x"], after["y"])
    assert summary.frames == (21 if matters else 3 * 4)


def test_a_videos_prediction_is_its_own(run: Path, tmp_path: Path) -> None:
    """Alone in its split a video gets the scores, to the last digit, that it gets among others."""
    _evaluate(run, tmp_path / "among")
    alone = write_frames(tmp_path / "a" / "frames", [row for row in ROWS if row.id == "z"])
    _evaluate(run, tmp_path / "alone", frames=alone)
    assert _rows(tmp_path / "alone") == {"z": _rows(tmp_path / "among")["z"]}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(run: Path, tmp_path: Path, workers: int) -> None:
    """The same bytes are written with and without threads that read ahead."""
    _evaluate(run, tmp_path / "a")
    _evaluate(run, tmp_path / "b", workers=workers)
    for name in stage.OUTPUTS[:3]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_checkpoint_is_chosen(run: Path, tmp_path: Path) -> None:
    """best, last or a file; the manifest says which, and the scores are that file's."""
    last = run / "train" / "checkpoints" / "last.pt"
    assert _evaluate(run, tmp_path / "best", checkpoint="best").checkpoint == "best"
    assert _evaluate(run, tmp_path / "last", checkpoint="last").checkpoint == "last"
    assert _evaluate(run, tmp_path / "file", checkpoint=str(last)).checkpoint == str(last)
    assert _rows(tmp_path / "last") == _rows(tmp_path / "file")


def test_without_best_last_is_taken(tmp_path: Path) -> None:
    """A training without a `val` split has no best: eval takes the last, and asking for best says why not."""
    frames = write_frames(tmp_path / "frames", [row for row in ROWS if row.split != "val"])
    train(frames, tmp_path / "train", tiny_config(epochs=1), SilentReporter())
    assert _evaluate(tmp_path, tmp_path / "eval").checkpoint == "last"
    best = tmp_path / "train" / "checkpoints" / "best.pt"
    assert _refusal(tmp_path, tmp_path / "no", checkpoint="best") == (
        f"--checkpoint best: {best} does not exist; "
        "there is one only where a val split chose it: use --checkpoint last"
    )


def test_checkpoint_that_does_not_fit_is_named(run: Path, tmp_path: Path) -> None:
    """No such file, other classes, another network: each with the file's name."""
    out, file = tmp_path / "eval", tmp_path / "other.pt"
    assert _refusal(run, out, checkpoint=str(file)) == (
        f"--checkpoint {file}: {file} does not exist; give best, last or a file"
    )
    loaded = load_checkpoint(run / "train" / "checkpoints" / "last.pt")
    content = vars(loaded)
    save_checkpoint(file, type(loaded)(**content | {"classes": ["a", "b", "c"]}))
    assert _refusal(run, out, checkpoint=str(file)) == (
        f"{file}: knows the classes a, b, c, its training down, left, up; "
        "give a checkpoint of this training"
    )
    model = {f"{name}x": value for name, value in loaded.model.items()}
    save_checkpoint(file, type(loaded)(**content | {"model": model}))
    assert _refusal(run, out, checkpoint=str(file)).startswith(
        f"{file}: does not fit the network tiny ("
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("train/checkpoints/best.pt", "is not what `fvar train` wrote"),
        ("train/metrics.csv", "is not what `fvar train` wrote"),
        ("frames/manifest.json", "changed since `fvar train` read it"),
        ("frames/shards/shard-00002.h5", "is not what `fvar extract` wrote"),
        ("source.csv", "changed since `fvar extract` read it"),
    ],
)
def test_one_changed_byte_is_named(copy: Path, tmp_path: Path, name: str, told: str) -> None:
    """Whatever of the chain changed, the error names that file and what to rerun; nothing is written."""
    _flip_byte(copy / name, at=-30 if name.endswith("json") else -8)
    message = _refusal(copy, tmp_path / "eval")
    assert message.startswith(f"{copy / name}: {told}")
    stage_name = told.split("`")[1]
    assert f"or rerun `{stage_name}` with --out" in message


def test_moved_frames_are_asked_for(copy: Path, tmp_path: Path) -> None:
    """Without the frames it was trained on, eval names them and ``--frames``; with it, it goes on."""
    moved = shutil.move(copy / "frames", tmp_path / "elsewhere")
    message = _refusal(copy, tmp_path / "eval")
    assert message.startswith(f"{copy / 'train' / '../frames/manifest.json'}: is not there, ")
    assert message.endswith("put the folder back or pass --frames with another extraction")
    assert _evaluate(copy, tmp_path / "eval", frames=Path(moved)).evaluated == 3


def test_training_without_inputs_is_refused(copy: Path, tmp_path: Path) -> None:
    """A manifest that names no frames is an error, not a traceback."""
    path = copy / "train" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"inputs": []}))
    assert _refusal(copy, tmp_path / "eval") == (
        f"{path}: names no input, the frames are unknown; rerun `fvar train`, or pass --frames"
    )


def test_videos_that_do_not_fit_are_refused(run: Path, tmp_path: Path) -> None:
    """An empty split, a label the training never had, a partial video: each named, nothing written."""
    out = tmp_path / "eval"
    rows = [row for row in ROWS if row.split != "val"]
    no_val = write_frames(tmp_path / "a" / "frames", rows)
    assert "split 'val' has no videos" in _refusal(run, out, frames=no_val, split="val")
    sideways = write_frames(tmp_path / "b" / "frames", [*ROWS, Row("q", "side", "test", 2)])
    assert "video 'q' has label 'side', which the training did not have" in _refusal(
        run, out, frames=sideways
    )
    partial = write_frames(tmp_path / "c" / "frames", [*ROWS, Row("q", "up", "test", 2, "partial")])
    assert "1 of 4 test videos are not complete, first 'q'" in _refusal(run, out, frames=partial)
    assert _evaluate(run, out, frames=partial, allow_partial=True).evaluated == 4


def test_out_dir_is_kept_safe(run: Path, tmp_path: Path) -> None:
    """A complete evaluation wants ``--overwrite``, and a training is never replaced by an evaluation."""
    out = tmp_path / "eval"
    _evaluate(run, out)
    with pytest.raises(FvarError, match="eval: holds a complete run"):
        _evaluate(run, out)
    assert _evaluate(run, out, overwrite=True, split="train").expected == 6
    with pytest.raises(
        FvarError, match=r"was written by `fvar train`, wanted 'fvar\.predictions/1'"
    ):
        _evaluate(run, run / "train", overwrite=True)


def test_missing_prediction_stops(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N evaluated must be N expected, or there is no result."""
    original = stage.predict
    monkeypatch.setattr(stage, "predict", lambda *args, **kwargs: original(*args, **kwargs)[:-1])
    with pytest.raises(StoppedError) as error:
        _evaluate(run, tmp_path / "eval")
    assert str(error.value) == (
        "split test: 2 of 3 videos were evaluated; run again; if it stays so, report it"
    )
    assert not (tmp_path / "eval").exists()


@pytest.mark.parametrize("sampled_epochs", [0, 1])
def test_validation_is_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampled_epochs: int
) -> None:
    """What `val` is told in training is what eval says afterwards, to the bit, in sampled epochs too."""
    told: list[list[torch.Tensor]] = []

    def listened(*args: Any, **kwargs: Any) -> list[Prediction]:
        predictions = predict(*args, **kwargs)
        told.append([prediction.logits for prediction in predictions])
        return predictions

    monkeypatch.setattr(loop, "predict", listened)
    monkeypatch.setattr(stage, "predict", listened)
    config = tiny_config(epochs=1, sampled_epochs=sampled_epochs)
    train(write_frames(tmp_path / "frames"), tmp_path / "train", config, SilentReporter())
    _evaluate(tmp_path, tmp_path / "eval", split="val", checkpoint="last")
    in_training, in_evaluation = told
    assert len(in_training) == 2
    assert all(map(torch.equal, in_training, in_evaluation))
