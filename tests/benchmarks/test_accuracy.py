"""The accuracy benchmarks: data sets keep their clips, shared passes change no bit, intervals are right."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import report
import torch
from experiments import TABLES
from places import Place
from run import append, is_done, refuse_reading
from shared_pass import fill_cache
from training_samples import (
    FROZEN,
    ROWS,
    assert_same_training,
    run_training,
    tiny_config,
    write_frames,
)
from videos import DRIFT, NOISE_SIGMA, surround_scenes, surround_still

from fvar.model.build import build_recognizer


def test_a_clip_keeps_its_frames_between_still_ones() -> None:
    """The frames of the true place are the clip's, and all others its ends, but for noise and drift."""
    clip = (
        np.full((10, 24, 32, 3), 128, np.uint8)
        + np.arange(10, dtype=np.uint8)[:, None, None, None] * 8
    )
    video, start = surround_still(clip, 5, np.random.default_rng(3))
    assert len(video) == 50
    expected = np.concatenate(
        [clip[:1].repeat(start, 0), clip, clip[-1:].repeat(40 - start, 0)]
    ).astype(float)
    off = (video - expected).mean(axis=(1, 2, 3))
    assert np.abs(off).max() < DRIFT + 1
    assert (video - expected).std(axis=(1, 2, 3)) == pytest.approx(NOISE_SIGMA, rel=0.15)


def test_a_clip_keeps_its_frames_between_scenes() -> None:
    """The frames of the true place are the clip's, the others are consecutive frames of the scenes."""
    clip = np.full((6, 4, 4, 3), 255, np.uint8)
    scenes = (
        np.arange(9, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2).repeat(3, 3)
    )
    video, start = surround_scenes(clip, 5, scenes, np.random.default_rng(1))
    assert np.array_equal(video[start : start + 6], clip)
    others = np.delete(video, range(start, start + 6), axis=0)[:, 0, 0, 0].astype(int)
    assert len(others) == 24
    assert np.abs(np.diff(others)).max() <= 1


def test_a_cluster_lies_in_its_place_with_half_of_its_frames() -> None:
    """A cluster belongs to the action when at least half of its frames do."""
    place = Place(10, 20)
    assert [place.holds(span) for span in ((8, 12), (7, 12), (0, 5), (18, 22), (10, 11))] == [
        *(True, False, False, True, True)
    ]


@pytest.mark.slow
def test_a_shared_pass_changes_no_bit(tmp_path: Path) -> None:
    """Trainings that find what a shared pass made read no frame, and equal trainings that keep nothing."""
    frames = write_frames(tmp_path / "frames", [row for row in ROWS if row.split != "val"])
    network = build_recognizer(tiny_config(), num_classes=3).backbone.network
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    settings = FROZEN | {"weights": str(tmp_path / "weights.pt")}
    del settings["clustering"]
    names = ("cumulative", "variance", "windowed")
    configs = [tiny_config(**settings, clustering=name) for name in names]
    assert fill_cache(frames, tmp_path / "train", configs) > 0
    for name in names:
        with refuse_reading():
            kept = run_training(frames, tmp_path / name, clustering=name, **settings)
        fresh = tmp_path / "fresh" / name
        assert_same_training(
            kept, run_training(frames, fresh, clustering=name, cache=False, **settings)
        )
    assert fill_cache(frames, tmp_path / "train", configs) == 0
    # Another fold: of what was tested, one view is there already, and training wants the others.
    other = {"train": "test", "test": "train"}
    rows = [replace(row, split=other[row.split]) for row in ROWS if row.split != "val"]
    swapped = write_frames(tmp_path / "swapped", rows)
    assert fill_cache(swapped, tmp_path / "train", configs) > 0
    with refuse_reading():
        run_training(swapped, tmp_path / "again", clustering="windowed", **settings)


def test_a_run_is_done_when_its_row_is_written(tmp_path: Path) -> None:
    """A run is found by its description; the table can be read back, seeds and folds joined."""
    table = tmp_path / "trimmed.csv"
    runs = [run for run in TABLES["trimmed"]() if run.clustering == "even"]
    for run in runs:
        assert not is_done(run, table)
        append(table, run, {"right": "1101" if run.seed else "1001", "train_seconds": 3})
        assert is_done(run, table)
    found = report.read_results(table)["trimmed"]["even 8"]
    assert found.right.shape == (3, 12)
    assert found.by_video[:4].tolist() == pytest.approx([1, 2 / 3, 0, 1])


def test_tables_and_plot_are_made_from_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report compares methods on the same videos and draws the toy runs that are complete."""
    rights = {"uniform": "0001", "cumulative": "0111", "windowed": "1111"}
    for name in ("trimmed", "toy"):
        for run in TABLES[name]():
            if run.clustering in rights and run.clusters == 8:
                measured = {"right": rights[run.clustering], "train_seconds": 3}
                append(tmp_path / f"{name}.csv", run, measured)
    plot = tmp_path / "plot.png"
    monkeypatch.setattr("sys.argv", ["report", "--results", str(tmp_path), "--plot", str(plot)])
    report.main()
    printed = capsys.readouterr().out
    # 9 of 12 videos more than `uniform`, none fewer
    line = next(line for line in printed.splitlines() if line.startswith("| windowed 8"))
    assert "| 100.0 (100.0 to 100.0) | 75.0 (50.0 to 100.0), p = 0.0039 |" in line
    assert "| burst | 5 | 8 | 75 | 25 | 100 |" in printed
    assert plot.stat().st_size > 1000
