"""A folder of three videos that a test may change, and their extraction."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from video_samples import NAMES, Run, extract_config, write_source

from fvar.reporting import SilentReporter
from fvar.stages.extract import extract
from fvar.store.manifest import FramesManifest


@pytest.fixture
def videos(samples: Path, tmp_path: Path) -> Path:
    """Return a folder of three videos that a test may change."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in [*NAMES, "turned.mp4"]:
        shutil.copy(samples / name, folder)
    return folder


@pytest.fixture
def run(videos: Path, tmp_path: Path) -> Run:
    """Return a function that extracts videos into `out`; it takes their names and any settings."""

    def extracted(
        names: list[str] = NAMES, *, update: bool = False, overwrite: bool = False, **settings: Any
    ) -> FramesManifest:
        source, config = write_source(tmp_path, names), extract_config(videos, **settings)
        flags = {"update": update, "overwrite": overwrite}
        return extract(source, tmp_path / "out", config, SilentReporter(), **flags)

    return extracted
