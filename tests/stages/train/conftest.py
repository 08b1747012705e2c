"""A small extraction and trainings on it, for all tests of `fvar train`."""

from pathlib import Path

import pytest
import torch
from training_samples import FROZEN, run_training, tiny_config, write_frames

from fvar.model.build import build_recognizer
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import FrameStore


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small extraction; no test writes into it."""
    return write_frames(tmp_path_factory.mktemp("run") / "frames")


@pytest.fixture(scope="session")
def whole(frames: Path) -> Path:
    """Return the folder of an uninterrupted training; no test writes into it."""
    return run_training(frames, frames.parent / "whole")


@pytest.fixture(scope="session")
def fresh(frames: Path) -> Path:
    """Return a training of a frozen stem that kept nothing."""
    return run_training(frames, frames.parent / "fresh" / "train", cache=False, **FROZEN)


@pytest.fixture(scope="session")
def kept(frames: Path) -> Path:
    """Return the same training, with its cache beside it; no test writes into its parent folder."""
    return run_training(frames, frames.parent / "kept" / "train", **FROZEN)


@pytest.fixture(scope="session")
def weights(frames: Path) -> str:
    """Return a file of starting weights, so that the stem does not depend on the seed."""
    path = frames.parent / "weights.pt"
    network = build_recognizer(tiny_config(), num_classes=3).backbone.network
    torch.save(network.state_dict(), path)
    return str(path)


@pytest.fixture
def read_ids(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the id of every video whose frames are read."""
    found: list[str] = []
    read = FrameStore.read

    def reading(self: FrameStore, shard: str, video_id: str) -> EncodedVideo:
        found.append(video_id)
        return read(self, shard, video_id)

    monkeypatch.setattr(FrameStore, "read", reading)
    return found
