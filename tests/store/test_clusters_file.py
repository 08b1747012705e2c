"""clusters.h5 and clusters.csv: what is written is what is read, and damage is named."""

import csv
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest
from clusters_samples import sample_clusters
from hypothesis import given, settings
from hypothesis import strategies as st
from page_samples import with_logits

from fvar.errors import ManifestError
from fvar.store.clusters.clusters_file import (
    CSV_COLUMNS,
    read_clusters,
    write_clusters,
    write_clusters_csv,
    write_frames_csv,
)
from fvar.store.clusters.video_clusters import VideoClusters


def assert_same(found: VideoClusters, wanted: VideoClusters) -> None:
    for field in fields(VideoClusters):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(wanted, field.name))


def _maybe_with_logits(clusters: VideoClusters, seed: int) -> VideoClusters:
    return clusters if seed % 2 else with_logits(clusters, seed=seed)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12)), max_size=4),
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    fps=st.none() | st.floats(1, 120),
)
def test_h5_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    shapes: list[tuple[int, int]],
    name: str,
    fps: float | None,
) -> None:
    """Writing then reading clusters.h5 is the identity, for any lengths, names and rates, T = 1 included."""
    path = tmp_path_factory.mktemp("h5") / "clusters.h5"
    videos = [
        _maybe_with_logits(
            sample_clusters(num_frames, k, seed=i, id=f"{name}{i}", label=name, fps=fps), i
        )
        for i, (num_frames, k) in enumerate(shapes)
    ]
    write_clusters(path, iter(videos))
    found = list(read_clusters(path))
    assert len(found) == len(videos)
    for one, other in zip(found, videos, strict=True):
        assert_same(one, other)


def test_h5_layout(tmp_path: Path) -> None:
    """The file holds the groups, attributes and datasets with the dtypes that the format names."""
    write_clusters(tmp_path / "clusters.h5", [sample_clusters(10, 4)])
    with h5py.File(tmp_path / "clusters.h5") as file:
        assert dict(file.attrs) == {"format": "fvar.clusters", "version": 1, "num_videos": 1}
        group = file["videos/00000000"]
        assert set(group.attrs) == {"id", "label", "predicted", "num_bits", "fps"}
        found = {name: (data.dtype.str, data.shape) for name, data in group.items()}
    assert found == {
        "boundaries": ("<i8", (5,)),
        "assignment": ("<i4", (10,)),
        "sizes": ("<i8", (4,)),
        "step_distances": ("<i8", (9,)),
        "pts_seconds": ("<f8", (10,)),
    }


def test_csv_has_one_row_per_cluster(tmp_path: Path) -> None:
    """clusters.csv covers every video by clusters [start, stop), with seconds that read back exactly."""
    videos = [sample_clusters(7, 3, id='a,"b"\U0001f600'), sample_clusters(2, 8, id="short")]
    write_clusters(tmp_path / "clusters.h5", videos)
    write_clusters_csv(tmp_path / "clusters.csv", tmp_path / "clusters.h5")
    with (tmp_path / "clusters.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == CSV_COLUMNS
    assert [row[0] for row in rows] == [videos[0].id] * 3 + ["short"] * 2
    for video in videos:
        mine = [row for row in rows if row[0] == video.id]
        assert [int(row[1]) for row in mine] == list(range(video.num_clusters))
        assert [int(row[2]) for row in mine] == video.starts.tolist()
        assert [int(row[3]) for row in mine] == video.stops.tolist()
        assert [float(row[4]) for row in mine] == video.start_seconds.tolist()
        assert [float(row[5]) for row in mine] == video.stop_seconds.tolist()
        assert sum(int(row[6]) for row in mine) == video.num_frames


_VIDEO = "videos/00000000"


def _replace(file: h5py.File, name: str, data: object) -> None:
    del file[_VIDEO][name]
    file[_VIDEO].create_dataset(name, data=data)


def _link(file: h5py.File, name: str) -> None:
    del file[name]
    file[name] = h5py.ExternalLink("other.h5", "/")


@pytest.mark.parametrize(
    ("damage", "thing", "problem"),
    [
        (lambda f: f.attrs.__setitem__("format", "other"), "", "has format 'other' version 1"),
        (lambda f: f.attrs.__setitem__("version", 2), "", "version 2, must be 'fvar.clusters'"),
        (lambda f: f.attrs.__setitem__("num_videos", 2), "/videos/00000001", "is missing"),
        (lambda f: f.attrs.__setitem__("num_videos", "x"), "", "num_videos is object[], must be"),
        (lambda f: f[_VIDEO].attrs.__setitem__("id", 3), f"/{_VIDEO}", "id is int64[], must be"),
        (lambda f: f[_VIDEO].attrs.__setitem__("id", f.ref), f"/{_VIDEO}", "id is object[]"),
        (lambda f: f[_VIDEO].attrs.__setitem__("num_bits", 0), f"/{_VIDEO}", "num_bits is 0"),
        (lambda f: f[_VIDEO].pop("sizes"), f"/{_VIDEO}", "'sizes' is missing"),
        (lambda f: _link(f, f"{_VIDEO}/sizes"), f"/{_VIDEO}", "is a ExternalLink"),
        (lambda f: _link(f, "videos"), "", "'videos' is a ExternalLink"),
        (lambda f: _replace(f, "sizes", [1.0]), f"/{_VIDEO}", "must be int64[:]"),
        (lambda f: _replace(f, "sizes", np.array([1, 3])), f"/{_VIDEO}", "sizes contradicts"),
        (lambda f: _replace(f, "assignment", np.zeros(4, "i4")), f"/{_VIDEO}", "assignment contra"),
        (lambda f: _replace(f, "boundaries", np.array([0, 3, 3, 4])), f"/{_VIDEO}", "is [3, 3)"),
    ],
)
def test_damage_is_named(
    tmp_path: Path, damage: Callable[[h5py.File], None], thing: str, problem: str
) -> None:
    """A file that is not what was written is refused with its path, the part, the value and the rule."""
    path = tmp_path / "clusters.h5"
    write_clusters(path, [sample_clusters(4, 2)])
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(ManifestError) as caught:
        list(read_clusters(path))
    assert caught.value.thing == (f"{path}: {thing}" if thing else str(path))
    assert problem in caught.value.problem


def test_a_file_that_is_no_hdf5_is_named(tmp_path: Path) -> None:
    """Text in place of the file is an error with its path, not a traceback of HDF5."""
    path = tmp_path / "clusters.h5"
    path.write_text("not a table")
    with pytest.raises(ManifestError, match=r"clusters\.h5: cannot be read"):
        list(read_clusters(path))


def test_frames_csv(tmp_path: Path) -> None:
    """One row per frame with its cluster and the change to the next, by hand."""
    cut = {"boundaries": np.array([0, 1, 3]), "step_distances": np.array([7, 9])}
    video = sample_clusters(3, 2, id="a, b", label="", predicted="up", **cut)
    write_clusters(tmp_path / "c.h5", [video, sample_clusters(1, seed=1)])
    write_frames_csv(tmp_path / "frames.csv", tmp_path / "c.h5")
    with (tmp_path / "frames.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["id", "frame", "seconds", "cluster", "step_distance", "label", "predicted"],
        ["a, b", "0", "0.0", "0", "7", "", "up"],
        ["a, b", "1", "0.04", "1", "9", "", "up"],
        ["a, b", "2", "0.08", "1", "", "", "up"],
        ["clip-1", "0", "0.0", "0", "", "left", "right"],
    ]
