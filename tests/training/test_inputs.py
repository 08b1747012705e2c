"""How settings look at videos, and which videos a split holds."""

from pathlib import Path

import pytest
from training_samples import ROWS, Row, tiny_config, write_frames

from fvar.errors import ManifestError
from fvar.store.manifest import FramesManifest, read_manifest
from fvar.training import inputs as views
from fvar.training.inputs import select_videos, stored_videos, training_view

MIXED = (
    Row("a", "up", "train", 2),
    Row("b", "down", "train", 3, "partial"),
    Row("c", "up", "test", 0, "failed"),
    Row("d", "down", "val", 3, "partial"),
)


def _manifest(folder: Path, rows: tuple[Row, ...]) -> FramesManifest:
    return read_manifest(write_frames(folder / "frames", rows) / "manifest.json", FramesManifest)


def test_training_draws_and_testing_does_not() -> None:
    """Training crops, flips and samples at random; testing takes the middle; both the same size."""
    config = tiny_config(clustering="uniform", seed=5)
    train, test = training_view(config, sampled=True), views.testing_view(config)
    assert (train.random, train.samples, train.seed) == (True, 4, 5)
    assert (test.random, test.samples, test.seed) == (False, 4, 5)
    assert train.size == test.size == 32


@pytest.mark.parametrize("clustering", ["cumulative", "slope", "even", "random", "none"])
def test_testing_sees_every_frame(clustering: str) -> None:
    """Only `uniform` samples frames in testing, also after epochs that sampled in training."""
    config = tiny_config(clustering=clustering, sampled_epochs=1)
    assert views.testing_view(config).samples is None
    assert training_view(config, sampled=False).samples is None
    assert training_view(config, sampled=True).samples == 4


def test_split_keeps_the_sources_order(tmp_path: Path) -> None:
    """Videos come as the source CSV has them."""
    chosen = select_videos(_manifest(tmp_path, ROWS), "test", allow_partial=False, source="s")
    assert [video.id for video in chosen] == ["x", "y", "z"]


def test_empty_split_is_named(tmp_path: Path) -> None:
    """A split without videos lists those that have some."""
    with pytest.raises(ManifestError) as error:
        select_videos(_manifest(tmp_path, MIXED[:3]), "val", allow_partial=False, source="frames")
    assert str(error.value) == (
        "frames: split 'val' has no videos; use one of test, train, or add rows to the CSV"
    )


@pytest.mark.parametrize(
    ("split", "allow", "told"),
    [
        ("train", False, "1 of 2 train videos are not complete, first 'b' (partial: made so)"),
        ("val", False, "1 of 1 val videos are not complete, first 'd' (partial: made so)"),
        ("test", False, "1 of 1 test videos are not complete, first 'c' (failed: made so)"),
        ("test", True, "1 of 1 test videos are not complete, first 'c' (failed: made so)"),
    ],
)
def test_incomplete_videos_are_refused(tmp_path: Path, split: str, allow: bool, told: str) -> None:
    """Partial ones unless allowed, failed ones always; the first is named with its reason."""
    with pytest.raises(ManifestError) as error:
        select_videos(_manifest(tmp_path, MIXED), split, allow_partial=allow, source="frames")
    assert str(error.value).startswith(f"frames: {told}; mend or remove their rows")


def test_partial_videos_are_allowed(tmp_path: Path) -> None:
    """Where they are asked for, partial videos are taken with the frames they have."""
    manifest = _manifest(tmp_path, MIXED)
    chosen = select_videos(manifest, "train", allow_partial=True, source="frames")
    assert [(v.id, v.num_frames) for v in chosen] == [("a", 2), ("b", 3)]


def test_labels_are_positions_among_the_classes(tmp_path: Path) -> None:
    """A video's label is its class's row of the classifier, its shard as in the manifest."""
    manifest = _manifest(tmp_path, ROWS)
    stored = stored_videos(manifest.videos[:3], ["up", "down", "left"], source="frames")
    assert [(v.id, v.label, v.num_frames, v.shard) for v in stored] == [
        ("a", 1, 3, "shards/shard-00000.h5"),
        ("b", 2, 9, "shards/shard-00000.h5"),
        ("c", 0, 5, "shards/shard-00000.h5"),
    ]


def test_unknown_label_is_named(tmp_path: Path) -> None:
    """A label that the training never had is an error with the video and the labels there are."""
    manifest = _manifest(tmp_path, ROWS)
    with pytest.raises(ManifestError) as error:
        stored_videos(manifest.videos, ["down", "left"], source="frames")
    assert str(error.value) == (
        "frames: video 'c' has label 'up', which the training did not have; use labels among down, left"
    )
