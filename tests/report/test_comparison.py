"""Comparisons: intervals and tests are right, differences are paired, other videos are refused."""

from pathlib import Path

import numpy as np
import pytest
from page_samples import sample_evaluation

from fvar.errors import ConfigError
from fvar.report.comparison import Evaluation, compare_evaluations
from fvar.report.comparison_page import (
    draw_comparison,
    write_comparison_csv,
    write_comparison_page,
    write_flips_csv,
)
from fvar.report.intervals import bootstrap, bootstrap_class_mean, mcnemar_p
from fvar.store.predictions_file import PredictionsTable


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(5, 15, 0.04138947), (15, 5, 0.04138947), (0, 6, 2 / 64), (3, 3, 1), (0, 0, 1)],
)
def test_mcnemar_p(only_first: int, only_second: int, p: float) -> None:
    """P is that of the two-sided binomial test with a half: 5 of 20 give 0.0414 (scipy's binomtest)."""
    assert mcnemar_p(only_first, only_second) == pytest.approx(p)


def test_bootstrap_interval_is_that_of_a_mean() -> None:
    """For 400 videos, half of them right, the interval is 1.96 standard errors (0.049) wide on each side."""
    found = bootstrap(np.repeat([0.0, 1.0], 200))
    assert found.mean == 0.5
    assert (found.low, found.high) == pytest.approx((0.451, 0.549), abs=0.003)
    assert bootstrap(np.full(7, 0.25)).high == 0.25


def test_class_mean_counts_each_class_alike() -> None:
    """Of 90 videos of one class all are right, of 10 of another none: the mean is a half, surely."""
    right, labels = np.repeat([1.0, 0.0], [90, 10]), np.repeat([0, 1], [90, 10])
    found = bootstrap_class_mean(right, labels)
    assert found.mean == 0.5
    assert found.low == 0.5
    # A resample without the second class has an accuracy of 1: 0.9**100 of them, none here.
    assert found.high == 0.5


def test_differences_are_paired_by_video_whatever_the_order(tmp_path: Path) -> None:
    """Videos are found by their ids; gained and lost ones are named; tables and page hold them."""
    first = sample_evaluation("first", "xyyx")  # right: a, c
    other = sample_evaluation("<other>", "xxyy")  # right: all
    shuffled = PredictionsTable(
        *(("d", "c", "b", "a"), tuple("yyxx"), tuple("yyxx")), ("x", "y"), np.ones((4, 2))
    )
    other = Evaluation(other.name, other.path, other.summary, shuffled, None)
    _, found = compare_evaluations([first, other])
    assert (found.gained, found.lost, found.p) == (["d", "b"], [], 0.5)
    assert found.difference is not None
    assert found.difference.mean == 0.5
    both = compare_evaluations([first, other])
    write_comparison_csv(tmp_path / "c.csv", both)
    rows = (tmp_path / "c.csv").read_text().splitlines()
    assert rows[1].startswith("first,cumulative,8,test,4,100,12.0,0.500000,")
    assert rows[2].endswith(",0.5,2,0")
    write_flips_csv(tmp_path / "f.csv", both)
    assert (tmp_path / "f.csv").read_text() == (
        "evaluation,id,flip\n<other>,d,gained\n<other>,b,gained\n"
    )
    write_comparison_page(tmp_path / "i.html", both, draw_comparison(both))
    page = (tmp_path / "i.html").read_text()
    assert "&lt;other&gt; against first" in page
    assert "<other>" not in page
    assert "d, b" in page


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (sample_evaluation("other", "xxy", "abc"), "'d' is in first and not in other"),
        (sample_evaluation("other", "xxyy", "abcz"), "'d' is in first and not in other"),
        (sample_evaluation("other", "xxyy", "acbd"), "labels 'b' 'y', in first it is 'x'"),
    ],
)
def test_evaluations_of_other_videos_are_refused(other: Evaluation, problem: str) -> None:
    """Other videos or labels are an error that names one of them."""
    with pytest.raises(ConfigError, match=problem):
        compare_evaluations([sample_evaluation("first", "xyyx"), other])
