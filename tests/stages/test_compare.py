"""``fvar compare`` on evaluations as they lie on the disk."""

import shutil
from pathlib import Path

import pytest
from training_samples import run_training, write_frames
from typer.testing import CliRunner

from cli.main import app
from fvar.config import EvalConfig, VerifyConfig
from fvar.errors import ConfigError, ManifestError
from fvar.reporting import SilentReporter
from fvar.stages.compare import compare
from fvar.stages.evaluate import evaluate
from fvar.stages.verify import verify


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the evaluations of two trainings; no test writes into them."""
    folder = tmp_path_factory.mktemp("compare")
    frames = write_frames(folder / "frames")
    found = []
    for name in ("cumulative", "even"):
        train = run_training(frames, folder / name, clustering=name, epochs=1)
        evaluate(train, folder / f"{name}-eval", EvalConfig(workers=0), SilentReporter())
        found.append(folder / f"{name}-eval")
    return found


def test_a_comparison_is_a_complete_run(evaluations: list[Path], tmp_path: Path) -> None:
    """The command prints the table and writes files that verify, down to the extraction."""
    out = tmp_path / "out"
    printed = CliRunner().invoke(app, ["compare", *map(str, evaluations), "--out", str(out)])
    assert printed.exit_code == 0, printed.output
    assert "minus first" in printed.stdout
    names = {path.name for path in out.iterdir()}
    assert names == {"comparison.csv", "flips.csv", "comparison.png", "index.html", "manifest.json"}
    assert verify(out, VerifyConfig(workers=1), SilentReporter()).faults == ()
    with pytest.raises(ManifestError, match="complete run"):
        compare(evaluations, out)


def test_a_training_that_is_gone_leaves_its_seconds_empty(
    evaluations: list[Path], tmp_path: Path
) -> None:
    """Evaluations may be compared without the trainings that they came from."""
    moved = [shutil.copytree(path, tmp_path / path.name) for path in evaluations]
    assert [found.evaluation.train_seconds for found in compare(moved, None)] == [None, None]


def test_what_cannot_be_compared_is_refused(evaluations: list[Path], tmp_path: Path) -> None:
    """One evaluation alone, and tables that were changed or are none, are errors."""
    with pytest.raises(ConfigError, match="at least two"):
        compare(evaluations[:1], None)
    broken = shutil.copytree(evaluations[0], tmp_path / "broken")
    (broken / "predictions.csv").write_text("id\n")
    with pytest.raises(ManifestError, match=r"predictions\.csv"):
        compare([evaluations[1], broken], None)
