"""A small extraction and one training on it, for all tests of `fvar train`."""

from pathlib import Path

import pytest
from training_samples import run_training, write_frames


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small extraction; no test writes into it."""
    return write_frames(tmp_path_factory.mktemp("run") / "frames")


@pytest.fixture(scope="session")
def whole(frames: Path) -> Path:
    """Return the folder of an uninterrupted training; no test writes into it."""
    return run_training(frames, frames.parent / "whole")
