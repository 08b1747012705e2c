"""What an interrupted inspection keeps: found again where nothing changed, never where something did."""

from pathlib import Path

from clusters_samples import sample_clusters

from fvar.store.clusters.kept_clusters import KeptClusters

MADE_FROM = ["1.0", {"split": "test", "limit": None}, ("a", "b")]


def test_kept_clusters_are_found_again(tmp_path: Path) -> None:
    """By a later command that makes them from the same; numbers and arrays are equal."""
    runs = [sample_clusters(30, 4), sample_clusters(30, 8)]
    first = KeptClusters(tmp_path, MADE_FROM)
    assert not first.matches()
    first.write(3, runs)
    again = KeptClusters(tmp_path, MADE_FROM)
    assert again.matches()
    assert [again.has(number) for number in (2, 3)] == [False, True]
    assert [c.boundaries.tolist() for c in again.read(3)] == [c.boundaries.tolist() for c in runs]
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_was_made_from_something_else_does_not_match(tmp_path: Path) -> None:
    """Another setting, or a record that is damaged."""
    KeptClusters(tmp_path, MADE_FROM).write(0, [sample_clusters()])
    assert not KeptClusters(tmp_path, [*MADE_FROM[:2], ["a", "c"]]).matches()
    (tmp_path / "unfinished" / "made_from.json").write_text("[")
    assert not KeptClusters(tmp_path, MADE_FROM).matches()


def test_a_damaged_file_counts_as_not_kept(tmp_path: Path) -> None:
    """So the video is done again."""
    kept = KeptClusters(tmp_path, MADE_FROM)
    kept.write(0, [sample_clusters()])
    file = tmp_path / "unfinished" / "00000.h5"
    file.write_bytes(file.read_bytes()[:100])
    assert not kept.has(0)
