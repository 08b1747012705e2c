"""The estimate of an extraction against what it then takes."""

from pathlib import Path

import numpy as np
import pytest
from video_samples import write_source

from fvar.config import ExtractConfig
from fvar.reporting import SilentReporter
from fvar.sources.toy.mp4 import write_mp4
from fvar.stages.extract import extract, preview


@pytest.mark.slow
def test_a_long_video_counts_as_often_as_it_has_frames(tmp_path: Path) -> None:
    """A long still video among short noisy ones decides the size, though of each as little is tried."""
    noise = np.random.default_rng(0).integers(0, 256, (10, 64, 64), dtype=np.uint8)
    write_mp4(tmp_path / "still.mp4", np.full((400, 64, 64), 128, np.uint8))
    names = ["still.mp4", "noise 0.mp4", "noise 1.mp4"]
    for name in names[1:]:
        write_mp4(tmp_path / name, noise)
    source = write_source(tmp_path, names)
    config = ExtractConfig(videos=str(tmp_path), short_side=64, reserve_gb=0)
    seen = preview(source, tmp_path / "out", config, SilentReporter()).estimate
    summary = extract(source, tmp_path / "out", config, SilentReporter()).summary
    assert seen is not None
    assert seen.frames == summary.frames == 420
    assert seen.num_bytes == pytest.approx(summary.num_bytes, rel=0.1)
