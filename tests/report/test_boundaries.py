"""Boundaries against known segments: the numbers are those of the best matching; wrong files are refused."""

from pathlib import Path

import pytest
from clusters_samples import sample_clusters
from hypothesis import given
from hypothesis import strategies as st

from fvar.errors import InputError
from fvar.report.boundaries import (
    Agreement,
    KnownSegment,
    compare_boundaries,
    equal_parts,
    found_boundaries,
    known_boundaries,
    num_matched,
    read_segments,
    write_agreements,
)
from fvar.store.clusters.clusters_file import write_clusters

HEADER = "id,start_seconds,stop_seconds,name\n"
TIMES = st.lists(st.integers(0, 40).map(lambda n: n / 4), max_size=7, unique=True).map(sorted)


def _best(found: list[float], known: list[float], tolerance: float) -> int:
    """Return the largest number of pairs, by trying all."""
    if not found:
        return 0
    rest = found[1:]
    pairs = [
        1 + _best(rest, known[:at] + known[at + 1 :], tolerance)
        for at, time in enumerate(known)
        if abs(time - found[0]) <= tolerance
    ]
    return max([_best(rest, known, tolerance), *pairs])


@given(TIMES, TIMES, st.sampled_from([0, 0.25, 1.0]))
def test_as_many_pairs_as_possible(
    found: list[float], known: list[float], tolerance: float
) -> None:
    """No boundary is in two pairs, and no other choice makes more pairs."""
    assert num_matched(found, known, tolerance=tolerance) == _best(found, known, tolerance)


def test_a_distance_of_the_tolerance_agrees() -> None:
    """Also where its binary fraction is a little larger: 10.2 - 9.7 > 0.5."""
    assert num_matched([10.2], [9.7], tolerance=0.5) == 1
    assert num_matched([10.2], [9.69], tolerance=0.5) == 0


def test_agreement_sums_over_videos() -> None:
    """Precision, recall and F1 come from the sums; what has no boundary has no figure."""
    empty = Agreement(0.5)
    assert (empty.precision, empty.recall, empty.f1) == (None, None, None)
    both = empty.plus([1.0, 2.0, 3.0], [1.1]).plus([4.0], [4.4, 9.0])
    assert both == Agreement(0.5, videos=2, found=4, known=3, matched=2)
    assert (both.precision, both.recall, both.f1) == (0.5, 2 / 3, pytest.approx(4 / 7))
    assert empty.plus([], [1.0]).f1 == 0


def test_known_boundaries_lie_inside_the_video() -> None:
    """Segments that touch share one; what is near the video's ends or beyond is none."""
    clusters = sample_clusters(50, 4)  # 2 s
    parts = [KnownSegment(0, 0.5, "a"), KnownSegment(0.5, 2.0, "b"), KnownSegment(1.5, 9, "c")]
    assert known_boundaries(parts, clusters, tolerance=0) == [0.5, 1.5]
    assert known_boundaries(parts, clusters, tolerance=0.5) == []
    assert equal_parts(clusters, tolerance=0) == pytest.approx([0.5, 1.0, 1.5])
    assert equal_parts(clusters, tolerance=0.6) == pytest.approx([1.0])
    assert found_boundaries(clusters, tolerance=0.6) == pytest.approx([1.0])
    twice = [KnownSegment(0, 0.3, "a"), KnownSegment(0.1 + 0.2, 2, "b")]
    assert known_boundaries(twice, clusters, tolerance=0) == [0.3]


def test_runs_and_equal_parts_are_compared(tmp_path: Path) -> None:
    """Only videos with segments count; cutting into equal parts has as many cuts as the first run."""
    for name, k in (("a", 4), ("b", 2)):
        write_clusters(tmp_path / name, [sample_clusters(50, k, id=n) for n in ("x", "y")])
    known = {"y": [KnownSegment(0.5, 1.02, "walk")], "gone": [KnownSegment(0, 1, "")]}
    runs = {name: tmp_path / name for name in "ab"}
    found = compare_boundaries(runs, known, tolerance=0.1)
    assert found == {
        "a": Agreement(0.1, videos=1, found=3, known=2, matched=2),
        "b": Agreement(0.1, videos=1, found=1, known=2, matched=1),
        "equal parts": Agreement(0.1, videos=1, found=3, known=2, matched=2),
    }
    write_agreements(tmp_path / "boundaries.csv", found)
    lines = (tmp_path / "boundaries.csv").read_text().splitlines()
    assert lines[0] == "run,tolerance,videos,found,known,matched,precision,recall,f1"
    assert lines[2] == "b,0.1,1,1,2,1,1.000000,0.500000,0.666667"


def test_segments_are_read_by_video(tmp_path: Path) -> None:
    """In any order of columns, with more of them, and with the mark that spreadsheets write."""
    path = tmp_path / "segments.csv"
    path.write_text("\ufeffname,id,stop_seconds,start_seconds,who\npour,a,2.5,1,me\n,b,1,0,me\n")
    assert read_segments(path) == {
        "a": [KnownSegment(1.0, 2.5, "pour")],
        "b": [KnownSegment(0.0, 1.0, "")],
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id,start_seconds,name\na,1,b\n", "segments.csv: lacks the column stop_seconds"),
        ("", "segments.csv: lacks the column id"),
        (HEADER + "a,0,1,x\na,2,1,x\n", "segments.csv: line 3: start_seconds '2' and stop"),
        (HEADER + "a,-1,1,x\n", "line 2: start_seconds '-1'"),
        (HEADER + "a,0,inf,x\n", "line 2: .*'inf' are no interval"),
        (HEADER + "a,0,nan,x\n", "line 2: .*'nan' are no interval"),
        (HEADER + "a,zero,1,x\n", "line 2: start_seconds 'zero'"),
        (HEADER + ",0,1,x\n", "line 2: has no id"),
        (HEADER + "a,0\n", "line 2: start_seconds '0' and stop_seconds None"),
    ],
)
def test_wrong_segments_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    """The error names the column or the line and what stands there."""
    path = tmp_path / "segments.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        read_segments(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file, and one that is no text."""
    with pytest.raises(InputError, match="cannot be read"):
        read_segments(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        read_segments(tmp_path / "binary.csv")
