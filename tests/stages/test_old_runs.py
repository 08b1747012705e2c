"""Runs that fvar 0.1.0 wrote stay readable: `tests/data/README.md` says how they were made."""

import csv
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cli.main import app
from fvar.extraction.ffmpeg import find_ffmpeg

ARCHIVE = Path(__file__).parents[1] / "data" / "v1.tar.xz"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the old runs; a test may add folders to it."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "v1"


def _run(*arguments: object) -> str:
    ended = CliRunner().invoke(app, list(map(str, arguments)))
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def _summary(folder: Path) -> dict[str, object]:
    summary: dict[str, object] = json.loads((folder / "manifest.json").read_text())["summary"]
    return summary


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _scores(path: Path) -> np.ndarray:
    rows = _table(path)
    return np.array([[float(row[name]) for name in row if name[:6] == "score:"] for row in rows])


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["frames", "train", "eval", "clusters"])
def test_old_runs_verify(old: Path, stage: str) -> None:
    """Every hash, count and picture of an old run is found right."""
    assert not json.loads(_run("verify", old / stage, "--json"))["faults"]


@pytest.mark.slow
def test_an_old_extraction_is_kept(old: Path) -> None:
    """`--update` finds nothing to make again, as long as the ffmpeg is the one that made the shards."""
    manifest = json.loads((old / "frames" / "manifest.json").read_text())
    if (version := find_ffmpeg().version) != manifest["versions"]["ffmpeg"]:
        pytest.skip(f"the bundled ffmpeg is {version}, another than the one that made the old run")
    source = ("extract", old / "toy.csv", "--videos", old / "videos", "--short-side", 32)
    said = _run(*source, "--out", old / "frames", "--update", "--dry-run")
    assert "0 of 17 videos to extract, into 0 shards" in said


@pytest.mark.slow
def test_an_old_checkpoint_evaluates(old: Path) -> None:
    """The scores of the old evaluation come out again, to float32 precision."""
    _run("eval", old / "train", "--out", old / "eval again", "--device", "cpu")
    found, expected = (_scores(old / name / "predictions.csv") for name in ("eval again", "eval"))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    ours, theirs = _summary(old / "eval again"), _summary(old / "eval")
    for name in ("top1", "top5", "mean_class_accuracy", "evaluated", "checkpoint", "frames"):
        assert ours[name] == theirs[name], name


@pytest.mark.slow
def test_an_old_training_is_inspected(old: Path) -> None:
    """The same videos are cut at the same frames."""
    _run("inspect-clusters", old / "train", "--limit", 1, "--out", old / "again")
    assert _table(old / "again" / "clusters.csv") == _table(old / "clusters" / "clusters.csv")


@pytest.mark.slow
def test_an_interrupted_old_training_goes_on(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--resume` makes of it what the old training was that nobody interrupted."""
    monkeypatch.chdir(old)  # the path of the weights is a setting of the training
    refused = CliRunner().invoke(app, ["train", "--resume", "interrupted"])
    assert "fvar train FRAMES --resume RUN" in refused.stderr
    _run("train", old / "frames", "--resume", old / "interrupted")
    for found, expected in zip(
        _table(old / "interrupted" / "metrics.csv"),
        _table(old / "train" / "metrics.csv"),
        strict=True,
    ):
        assert int(found["epoch"]) == int(expected["epoch"]) + 1  # they counted from 0
        for column in ("lr", "train_loss", "train_top1", "val_top1", "frames"):
            assert float(found[column]) == pytest.approx(float(expected[column]), rel=1e-4), column
    resumed, whole = (
        torch.load(old / name / "checkpoints" / "last.pt", weights_only=True)["model"]
        for name in ("interrupted", "train")
    )
    assert resumed.keys() == whole.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=1e-3, atol=1e-5)
