"""The picture of a confusion matrix: right in its numbers, readable at any number of classes."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fvar.report.pictures.confusion import MAX_NAMED, confusion_figure, write_confusion_png


def matrix_of(num_classes: int) -> np.ndarray:
    rng = np.random.default_rng(num_classes)
    return rng.integers(0, 4, (num_classes, num_classes)) + np.diag(np.full(num_classes, 9))


def names_of(figure: Figure) -> tuple[list[str], list[str]]:
    axes = figure.axes[0]
    return (
        [label.get_text() for label in axes.get_yticklabels()],
        [label.get_text() for label in axes.get_xticklabels()],
    )


def test_cells_show_counts_and_fractions_of_the_row() -> None:
    """Counts stand in their cells, zeros are left out, colors are fractions of the row's videos."""
    figure = confusion_figure(np.array([[3, 1], [0, 2000]]), ["wave", "clap"])
    axes = figure.axes[0]
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "3", (1, 0): "1", (1, 1): "2,000"}
    fractions = axes.images[0].get_array()
    assert fractions is not None
    np.testing.assert_allclose(fractions, [[0.75, 0.25], [0, 1]])
    assert names_of(figure) == (["wave (4)", "clap (2,000)"], ["wave", "clap"])
    assert axes.get_title(loc="left") == "2,003 of 2,004 right, 100.0%"


def test_a_class_without_videos_has_an_empty_row() -> None:
    """A class that no video has, or no videos at all, give zeros and no warning."""
    for matrix in (np.array([[0, 0], [1, 1]]), np.zeros((2, 2), dtype=np.int64)):
        fractions = confusion_figure(matrix, ["a", "b"]).axes[0].images[0].get_array()
        assert fractions is not None
        assert not fractions[0].any()
        assert np.isfinite(fractions).all()


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [1, 2, 20, 21, 400])
def test_any_number_of_classes_makes_a_picture(tmp_path: Path, num_classes: int) -> None:
    """From 1 to 400 classes the PNG is written, no side above 4,000 px."""
    path = tmp_path / "confusion.png"
    names = [f"class {i}" for i in range(num_classes)]
    write_confusion_png(path, matrix_of(num_classes), names)
    with Image.open(path) as image:
        assert min(image.size) > 300
        assert max(image.size) < 4000


def test_too_many_names_become_numbers() -> None:
    """Above 120 classes the axes count classes, and say so."""
    few, many = MAX_NAMED, MAX_NAMED + 1
    assert names_of(confusion_figure(matrix_of(few), ["n"] * few))[1] == ["n"] * few
    axes = confusion_figure(matrix_of(many), ["n"] * many).axes[0]
    assert axes.get_xlabel() == "predicted, number of the class"
    assert "n" not in [label.get_text() for label in axes.get_xticklabels()]


def test_any_name_is_drawn(tmp_path: Path) -> None:
    """Formulas, line breaks, letters that the font lacks and long names neither fail nor warn."""
    names = ["$a_{b$", "two\nlines", "握手", "x" * 200]
    write_confusion_png(tmp_path / "c.png", matrix_of(4), names)
    shown = names_of(confusion_figure(matrix_of(4), names))[1]
    assert shown == ["$a_{b$", "two\\nlines", "\\u63e1\\u624b", "x" * 27 + "…"]
