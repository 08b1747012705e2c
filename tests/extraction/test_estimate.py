"""The estimate of an extraction against what it then takes."""

from pathlib import Path

import numpy as np
import pytest
from video_samples import write_source

from fvar.config import ExtractConfig
from fvar.extraction.probe.container import glance
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


def test_a_header_that_lies_is_bounded_by_the_bytes(samples: Path, tmp_path: Path) -> None:
    """25 frames whose header claims 40,000: their size says that about three times 25 are the most."""
    content = bytearray((samples / "b frames.avi").read_bytes())
    length = content.index(b"strh") + 8 + 32  # dwLength of the stream's header
    assert int.from_bytes(content[length : length + 4], "little") == 25
    assert glance(samples / "b frames.avi").frames == 25
    content[length : length + 4] = (40_000).to_bytes(4, "little")
    (tmp_path / "lies.avi").write_bytes(content)
    assert 25 <= glance(tmp_path / "lies.avi").frames <= 200  # the file is not packets alone
