"""Evaluation: every frame of every video of a split, as in training, with nothing missing or replaced."""

import csv
import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import (
    ROWS,
    Row,
    flip_byte,
    sample_clip,
    sample_pictures,
    sample_video,
    sample_videos,
    tiny_config,
    write_frames,
)

from fvar.config import EvalConfig, VerifyConfig
from fvar.errors import FvarError, ManifestError, StoppedError
from fvar.loading.view import evaluation_view
from fvar.model.build import build_recognizer, build_sweep
from fvar.reporting import SilentReporter
from fvar.stages import evaluate as stage
from fvar.stages.compare import compare
from fvar.stages.evaluate import evaluate
from fvar.stages.train import train
from fvar.stages.verify import verify
from fvar.store.files import atomic_path
from fvar.store.manifest import EvalSummary, PredictionsManifest
from fvar.store.manifest_file import read_manifest
from fvar.store.provenance import check_files, input_file
from fvar.training import loop
from fvar.training.checkpoint import load_checkpoint, save_checkpoint
from fvar.training.metrics import Prediction, Results
from fvar.training.predict import predict


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `frames`, `train` and `eval`, of the test split; no test writes into those."""
    folder = tmp_path_factory.mktemp("run")
    write_frames(folder / "frames")
    train(folder / "frames", folder / "train", tiny_config(), SilentReporter())
    _evaluate(folder, folder / "eval")
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """Return a copy of the run, to be damaged."""
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("eval"))
    return tmp_path / "run"


def _evaluate(
    run: Path, out: Path, *, frames: Path | None = None, overwrite: bool = False, **changes: Any
) -> EvalSummary:
    config = EvalConfig(**({"workers": 0, "device": "cpu"} | changes))
    settings = (config, SilentReporter())
    return stage.evaluate(run / "train", out, *settings, frames=frames, overwrite=overwrite).summary


def _refusal(run: Path, out: Path, **changes: Any) -> str:
    with pytest.raises(FvarError) as error:
        _evaluate(run, out, **changes)
    assert error.value.exit_code == 2
    assert not out.exists()
    return str(error.value)


def _rows(folder: Path) -> dict[str, list[str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return {row[0]: row[1:] for row in list(csv.reader(file))[1:]}


def test_evaluation_leaves_a_complete_folder(run: Path) -> None:
    """Tables, picture and manifest are there, and the figures are those of the tables."""
    manifest = read_manifest(run / "eval" / "manifest.json", PredictionsManifest)
    check_files(run / "eval" / "manifest.json", manifest)
    assert [entry.path for entry in manifest.outputs] == [*stage.OUTPUTS, "report.html"]
    assert [Path(entry.path).name for entry in manifest.inputs] == [
        "manifest.json",
        "best.pt",
        "manifest.json",
    ]
    report = (run / "eval" / "report.html").read_text()
    source, frames = run / "source.csv", run / "frames" / "manifest.json"
    behind = [*manifest.inputs, input_file(run, source), input_file(run, frames)]
    assert all(entry.sha256 in report for entry in behind)
    assert f"fvar eval {run / 'train'} --split test --checkpoint best" in report
    summary, rows = manifest.summary, _rows(run / "eval")
    right = [row[0] == row[1] for row in rows.values()]
    assert summary.top1 == pytest.approx(sum(right) / 3)
    assert summary.mean_class_accuracy == pytest.approx(sum(right) / 3)  # one video per class
    assert summary.top5 is None
    assert (summary.evaluated, summary.expected, summary.frames) == (3, 3, 8 + 2 + 11)
    assert (summary.split, summary.checkpoint, summary.crops) == ("test", "best", 1)
    assert (summary.clustering, summary.clusters) == ("windowed", 4)


@pytest.mark.slow
def test_an_output_is_a_line_in_a_table(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer in `OUTPUTS` is all that a new output takes: the manifest lists it, `fvar verify` checks it.

    Another evaluation into the same folder writes it again.
    """

    def write_wrong(path: Path, results: Results) -> None:
        path.write_text("\n".join(p.id for p in results.predictions if p.label != p.predicted))

    monkeypatch.setitem(stage.OUTPUTS, "wrong.txt", write_wrong)
    out = tmp_path / "eval"
    for overwrite in (False, True):
        _evaluate(run, out, overwrite=overwrite)
        manifest = read_manifest(out / "manifest.json", PredictionsManifest)
        assert [output.path for output in manifest.outputs] == [
            "predictions.csv",
            "per_class.csv",
            "confusion.csv",
            "confusion.png",
            "wrong.txt",
            "report.html",
        ]
        assert not verify(out, VerifyConfig(workers=1), SilentReporter()).faults
        (out / "wrong.txt").write_text("altered")
        (fault,) = verify(out, VerifyConfig(workers=1), SilentReporter()).faults
        assert fault.thing == str(out / "wrong.txt")


def test_predictions_are_those_of_the_network(run: Path) -> None:
    """Each row is the softmax of `Recognizer.infer` on all frames of that video, in the source's order."""
    loaded = load_checkpoint(run / "train" / "checkpoints" / "best.pt")
    recognizer = build_recognizer(loaded.config, num_classes=3)
    recognizer.load_state_dict(loaded.model)
    sweep = build_sweep(loaded.config, recognizer.backbone)
    rows, view = _rows(run / "eval"), evaluation_view(tiny_config())
    assert list(rows) == ["x", "y", "z"]
    for row in ROWS[-3:]:
        clip = sample_clip(row.id, sample_pictures(row.id, row.num_frames), view)
        scores = recognizer.eval().infer(clip, sweep).logits.softmax(0).tolist()
        assert rows[row.id] == [
            row.label,
            ("down", "left", "up")[scores.index(max(scores))],
            *(f"{value:.9g}" for value in scores),
        ]


@pytest.mark.slow
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
    alone = write_frames(tmp_path / "a" / "frames", [row for row in ROWS if row.id == "z"])
    _evaluate(run, tmp_path / "alone", frames=alone)
    assert _rows(tmp_path / "alone") == {"z": _rows(run / "eval")["z"]}


def test_workers_change_nothing(run: Path, tmp_path: Path) -> None:
    """The same bytes are written with and without threads that read ahead."""
    _evaluate(run, tmp_path / "eval", workers=2)
    for name in ("predictions.csv", "per_class.csv", "confusion.csv"):
        assert (tmp_path / "eval" / name).read_bytes() == (run / "eval" / name).read_bytes()


@pytest.mark.slow
def test_checkpoint_is_chosen(run: Path, tmp_path: Path) -> None:
    """best, last or a file; the manifest says which, and the scores are that file's."""
    last = run / "train" / "checkpoints" / "last.pt"
    assert _evaluate(run, tmp_path / "last", checkpoint="last").checkpoint == "last"
    assert _evaluate(run, tmp_path / "file", checkpoint=str(last)).checkpoint == str(last)
    assert _rows(tmp_path / "last") == _rows(tmp_path / "file")


@pytest.mark.slow
def test_without_best_last_is_taken(tmp_path: Path) -> None:
    """A training without a `val` split has no best: eval takes the last, and asking for best says why not."""
    frames = write_frames(tmp_path / "frames", [row for row in ROWS if row.split != "val"])
    train(frames, tmp_path / "train", tiny_config(epochs=1), SilentReporter())
    assert _evaluate(tmp_path, tmp_path / "eval").checkpoint == "last"
    best = tmp_path / "train" / "checkpoints" / "best.pt"
    refusal = _refusal(tmp_path, tmp_path / "no", checkpoint="best")
    assert refusal.startswith(f"--checkpoint best: {best} does not exist; there is one only where")


def test_checkpoint_that_does_not_fit_is_named(run: Path, tmp_path: Path) -> None:
    """No such file, other classes, another network: each with the file's name."""
    out, file = tmp_path / "eval", tmp_path / "other.pt"
    assert f"--checkpoint {file}: {file} does not exist" in _refusal(run, out, checkpoint=str(file))
    loaded = load_checkpoint(run / "train" / "checkpoints" / "last.pt")
    save_checkpoint(file, loaded.model_copy(update={"classes": ["a", "b", "c"]}))
    assert _refusal(run, out, checkpoint=str(file)).startswith(
        f"{file}: has the classes a, b, c, its training down, left, up; "
    )
    model = {f"{name}x": value for name, value in loaded.model.items()}
    save_checkpoint(file, loaded.model_copy(update={"model": model}))
    assert _refusal(run, out, checkpoint=str(file)).startswith(
        f"{file}: does not fit the network tiny ("
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("train/checkpoints/best.pt", "is not what `fvar train` wrote"),
        ("train/metrics.csv", "is not what `fvar train` wrote"),
        ("frames/manifest.json", "changed since `fvar train` read it"),
        ("frames/shards/shard-00002.h5", "is not what `fvar extract` wrote"),
        ("source.csv", "changed since `fvar extract` read it"),
    ],
)
def test_one_changed_byte_is_named(copy: Path, tmp_path: Path, name: str, problem: str) -> None:
    """Whatever of the chain changed, the error names that file and what to rerun; nothing is written."""
    flip_byte(copy / name, at=-30 if name.endswith("json") else -8)
    message = _refusal(copy, tmp_path / "eval")
    assert message.startswith(f"{copy / name}: {problem}")
    stage_name = problem.split("`")[1]
    assert f"or rerun `{stage_name}` with --out" in message


def test_moved_frames_are_asked_for(copy: Path, tmp_path: Path) -> None:
    """Without the frames it was trained on, eval names them and ``--frames``; with it, it goes on."""
    moved = shutil.move(copy / "frames", tmp_path / "elsewhere")
    message = _refusal(copy, tmp_path / "eval")
    assert message.startswith(f"{copy / 'train' / '../frames/manifest.json'}: is not there, ")
    assert "--frames" in message
    assert _evaluate(copy, tmp_path / "eval", frames=Path(moved)).evaluated == 3


def test_training_without_inputs_is_refused(copy: Path, tmp_path: Path) -> None:
    """A manifest that names no frames is an error, not a traceback."""
    path = copy / "train" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"inputs": []}))
    refusal = _refusal(copy, tmp_path / "eval")
    assert refusal.startswith(f"{path}: names no input, the frames are unknown; ")


def test_partial_videos_are_refused_unless_allowed(run: Path, tmp_path: Path) -> None:
    """A video known to be incomplete is named and nothing is written; allowed, it is evaluated."""
    partial = write_frames(tmp_path / "frames", [*ROWS, Row("q", "up", "test", 2, "partial")])
    refusal = _refusal(run, tmp_path / "eval", frames=partial)
    assert "1 of 4 test videos are not complete, first 'q'" in refusal
    assert _evaluate(run, tmp_path / "eval", frames=partial, allow_partial=True).evaluated == 4
    rest = _evaluate(run, tmp_path / "rest", frames=partial, skip_incomplete=True)
    assert (rest.evaluated, rest.expected, rest.skipped) == (3, 4, ["q"])


def test_videos_without_a_label_are_predicted_and_not_counted(run: Path, tmp_path: Path) -> None:
    """They stand in the table with an empty label; accuracies and comparisons are those of the rest."""
    rows = [*ROWS, Row("unknown", "", "test", 5)]
    more = write_frames(tmp_path / "frames", rows)
    summary = _evaluate(run, tmp_path / "eval", frames=more)
    labelled = read_manifest(run / "eval" / "manifest.json", PredictionsManifest).summary
    assert (summary.evaluated, summary.expected, summary.unlabelled) == (4, 4, 1)
    assert (summary.top1, summary.mean_class_accuracy) == (
        labelled.top1,
        labelled.mean_class_accuracy,
    )
    found, before = _rows(tmp_path / "eval"), _rows(run / "eval")
    assert found.pop("unknown")[0] == ""
    assert found == before
    for name in ("per_class.csv", "confusion.csv"):
        assert (tmp_path / "eval" / name).read_bytes() == (run / "eval" / name).read_bytes()
    _, compared = compare([run / "eval", tmp_path / "eval"], None)
    assert (compared.gained, compared.lost) == ([], [])
    assert compared.top1.mean == pytest.approx(summary.top1)


def test_nothing_is_evaluated_where_no_video_has_a_label(run: Path, tmp_path: Path) -> None:
    """The error comes before the work and names the command that needs no label."""
    rows = [row if row.split != "test" else replace(row, label="") for row in ROWS]
    frames = write_frames(tmp_path / "frames", rows)
    assert "use `fvar predict`" in _refusal(run, tmp_path / "eval", frames=frames)


def test_predictions_outlive_a_full_disk(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What took long to compute is kept elsewhere, and the error names the file."""

    def fail(path: Path, _: Results) -> None:
        with atomic_path(path):
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setitem(stage.OUTPUTS, "predictions.csv", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(StoppedError, match="No space left") as error:
        _evaluate(run, tmp_path / "eval")
    kept = Path(str(error.value).rpartition("the predictions are in ")[2])
    assert kept.read_bytes() == (run / "eval" / "predictions.csv").read_bytes()
    assert not (tmp_path / "eval" / "manifest.json").exists()


def test_out_dir_is_kept_safe(run: Path) -> None:
    """A complete evaluation is replaced with ``--overwrite`` alone, a training never."""
    with pytest.raises(FvarError, match="eval: holds a complete run"):
        _evaluate(run, run / "eval")
    with pytest.raises(FvarError, match=r"was written by `fvar train`"):
        _evaluate(run, run / "train", overwrite=True)


def test_missing_prediction_stops(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N evaluated must be N expected, or there is no result."""
    original = stage.predict
    monkeypatch.setattr(stage, "predict", lambda *args, **kwargs: original(*args, **kwargs)[:-1])
    with pytest.raises(StoppedError) as error:
        _evaluate(run, tmp_path / "eval")
    assert str(error.value).startswith("split test: 2 of 3 videos were evaluated; ")
    assert not (tmp_path / "eval").exists()


@pytest.mark.slow
@pytest.mark.parametrize("sampled_epochs", [0, 1])
def test_validation_is_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampled_epochs: int
) -> None:
    """The logits of `val` in training are those of an evaluation afterwards, also in sampled epochs."""
    found: list[list[torch.Tensor]] = []

    def listened(*args: Any, **kwargs: Any) -> list[Prediction]:
        predictions = predict(*args, **kwargs)
        found.append([prediction.logits for prediction in predictions])
        return predictions

    monkeypatch.setattr(loop, "predict", listened)
    monkeypatch.setattr(stage, "predict", listened)
    config = tiny_config(epochs=1, sampled_epochs=sampled_epochs)
    train(write_frames(tmp_path / "frames"), tmp_path / "train", config, SilentReporter())
    _evaluate(tmp_path, tmp_path / "eval", split="val", checkpoint="last")
    in_training, in_evaluation = found
    assert len(in_training) == 2
    assert all(map(torch.equal, in_training, in_evaluation))


def test_the_results_of_another_training_are_never_replaced(copy: Path) -> None:
    """`overwrite` replaces what the same training gave, also after it was trained again, and nothing else."""
    out = copy / "train" / "eval-test"
    _evaluate(copy, out)
    _evaluate(copy, out, overwrite=True)
    train(copy / "frames", copy / "other", tiny_config(seed=1), SilentReporter())
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(ManifestError) as error:
        evaluate(copy / "other", out, EvalConfig(), SilentReporter(), overwrite=True)
    assert error.value.problem == f"was made from {copy / 'train'}, not from {copy / 'other'}"
    assert error.value.fix == "choose another --out, or delete the folder"
    assert (out / "manifest.json").read_bytes() == before


def test_a_video_is_no_training(tmp_path: Path) -> None:
    """A file where a run is expected is called so; nobody is told to delete it."""
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(ManifestError) as error:
        evaluate(tmp_path / "clip.mp4", tmp_path / "out", EvalConfig(), SilentReporter())
    assert error.value.problem == "is a file, must be the folder of a run"
    assert "fvar predict" in error.value.fix
    assert "delete" not in str(error.value)
