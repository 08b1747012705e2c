"""clusters.h5 and clusters.csv: what is written is what is read, and damage is named."""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest
from clusters_samples import sample_clusters
from hypothesis import given, settings
from hypothesis import strategies as st

from fvar.errors import ManifestError, StoppedError
from fvar.store.clusters_file import (
    CSV_COLUMNS,
    read_clusters,
    write_clusters,
    write_clusters_csv,
)
from fvar.store.video_clusters import VideoClusters


def assert_same(found: VideoClusters, wanted: VideoClusters) -> None:
    for field in fields(VideoClusters):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(wanted, field.name))


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
        sample_clusters(num_frames, k, seed=i, id=f"{name}{i}", label=name, fps=fps)
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


def test_csv_has_a_row_a_run(tmp_path: Path) -> None:
    """clusters.csv covers every video by runs [start, stop), with seconds that read back exactly."""
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


def test_nothing_appears_when_the_source_of_videos_fails(tmp_path: Path) -> None:
    """An error halfway leaves neither clusters.h5 nor a temporary file."""

    def broken() -> Iterator[VideoClusters]:
        yield sample_clusters()
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write_clusters(tmp_path / "clusters.h5", broken())
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_clean_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 notices a full disk on closing, as a RuntimeError; the user gets a StoppedError."""
    close = h5py.File.close

    def fails(file: h5py.File) -> None:
        close(file)
        raise RuntimeError("Can't decrement id ref count (file write failed: errno = 28)")

    monkeypatch.setattr(h5py.File, "close", fails)
    with pytest.raises(
        StoppedError, match=r"clusters\.h5: cannot be written \(No space left on device\)"
    ):
        write_clusters(tmp_path / "clusters.h5", [sample_clusters()])


def _replace(group: str, name: str, data: object, **options: object) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        del file[group][name]
        file[group].create_dataset(name, data=data, **options)

    return damage


def _link(file: h5py.File) -> None:
    del file["videos/00000000/sizes"]
    file["videos/00000000/sizes"] = h5py.ExternalLink("other.h5", "/sizes")


def _delete(name: str) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        del file[name]

    return damage


def _attribute(where: str, name: str, value: object) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        file[where].attrs[name] = value

    return damage


_VIDEO = "videos/00000000"


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_attribute("/", "format", "other"), "has format 'other' version 1"),
        (_attribute("/", "version", 2), "has format 'fvar.clusters' version 2"),
        (_attribute("/", "num_videos", 2), "videos/00000001: is missing"),
        (_attribute("/", "num_videos", "x"), "attribute num_videos is 'x', must be of type int"),
        (_attribute(_VIDEO, "id", 3), "attribute id is np.int64(3), must be of type str"),
        (_attribute(_VIDEO, "num_bits", 0), "videos/00000000: num_bits is 0"),
        (_delete(f"{_VIDEO}/sizes"), "sizes: is missing"),
        (_link, "sizes: must be a Dataset in the file itself"),
        (_replace(_VIDEO, "sizes", [1.0]), "sizes: is float64[1], must be int64[:]"),
        (_replace(_VIDEO, "sizes", np.array([1, 3])), "sizes contradicts boundaries"),
        (
            _replace(_VIDEO, "assignment", np.zeros(4, dtype=np.int32)),
            "assignment contradicts boundaries",
        ),
        (_replace(_VIDEO, "boundaries", np.array([0, 3, 3, 4])), "cluster 1 is [3, 3)"),
        (
            _replace(_VIDEO, "sizes", np.zeros(10**6, dtype=np.int64), chunks=True, fillvalue=0),
            "does not store the 8000000 bytes it claims",
        ),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[h5py.File], None], problem: str) -> None:
    """A file that is not what was written is refused with its path, the part, the value and the rule."""
    path = tmp_path / "clusters.h5"
    write_clusters(path, [sample_clusters(4, 2)])
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(ManifestError, match=re.escape(problem)) as caught:
        list(read_clusters(path))
    assert str(caught.value).startswith(str(path))


def test_a_claimed_size_takes_no_memory(tmp_path: Path) -> None:
    """A dataset that claims a terabyte without storing it is refused before it is read."""
    path = tmp_path / "clusters.h5"
    write_clusters(path, [sample_clusters(4, 2)])
    with h5py.File(path, "r+") as file:
        del file[f"{_VIDEO}/sizes"]
        file[_VIDEO].create_dataset("sizes", shape=(2**37,), dtype="<i8")
    with pytest.raises(ManifestError, match="does not store the 1099511627776 bytes"):
        list(read_clusters(path))


def test_a_file_that_is_no_hdf5_is_named(tmp_path: Path) -> None:
    """Text in place of the file is an error with its path, not a traceback of HDF5."""
    path = tmp_path / "clusters.h5"
    path.write_text("not a table")
    with pytest.raises(ManifestError, match="is not a readable HDF5 file"):
        list(read_clusters(path))
