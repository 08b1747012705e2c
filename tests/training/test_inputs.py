"""The videos of a split: all of them, in order, with labels that the classifier has."""

from pathlib import Path

import pytest
import torch
from training_samples import ROWS, Row, write_frames

from fvar.errors import ManifestError
from fvar.fields import Split
from fvar.training.distributed import World
from fvar.training.inputs import StoredFrames, open_frames

ALONE = World(0, 1, torch.device("cpu"))
MIXED = (
    Row("a", "up", "train", 2),
    Row("b", "down", "train", 3, "partial"),
    Row("c", "up", "test", 0, "failed"),
    Row("d", "down", "val", 3, "partial"),
)


def _frames(folder: Path, rows: tuple[Row, ...] = ROWS) -> StoredFrames:
    return open_frames(write_frames(folder / "frames", rows), ALONE)


def _refusal(frames: StoredFrames, split: Split, *, allow: bool = False) -> str:
    with pytest.raises(ManifestError) as error:
        frames.videos(split, ["up"], allow_partial=allow)
    assert error.value.thing == str(frames.path)
    return f"{error.value.problem}; {error.value.fix}"


def test_videos_are_those_of_the_split(tmp_path: Path) -> None:
    """They come in the source's order; a label is the position of its class, the shard as in the manifest."""
    frames = _frames(tmp_path)
    videos = frames.videos("test", ["up", "down", "left"], allow_partial=False)
    assert [(v.id, v.label, v.num_frames, v.shard) for v in videos] == [
        ("x", 1, 8, "shards/shard-00002.h5"),
        ("y", 2, 2, "shards/shard-00002.h5"),
        ("z", 0, 11, "shards/shard-00002.h5"),
    ]


def test_splits_without_usable_videos_are_refused(tmp_path: Path) -> None:
    """An empty split names those that are not; a label that the training never had names its video."""
    frames = _frames(tmp_path, MIXED[:3])
    refusal = _refusal(frames, "val")
    assert "split 'val' has no videos" in refusal
    assert "use one of test, train" in refusal
    assert "video 'b' has label 'down'" in _refusal(frames, "train", allow=True)


@pytest.mark.parametrize(
    ("split", "allow", "problem"),
    [
        ("train", False, "1 of 2 train videos are not complete, first 'b' (partial: made so)"),
        ("val", False, "1 of 1 val videos are not complete, first 'd' (partial: made so)"),
        ("test", False, "1 of 1 test videos are not complete, first 'c' (failed: made so)"),
        ("test", True, "1 of 1 test videos are not complete, first 'c' (failed: made so)"),
    ],
)
def test_incomplete_videos_are_refused(
    tmp_path: Path, split: Split, allow: bool, problem: str
) -> None:
    """Partial ones unless allowed, failed ones always; the first is named with its reason."""
    frames = _frames(tmp_path, MIXED)
    assert problem in _refusal(frames, split, allow=allow)
    allowed = frames.videos("train", ["up", "down"], allow_partial=True)
    assert [(video.id, video.num_frames) for video in allowed] == [("a", 2), ("b", 3)]
