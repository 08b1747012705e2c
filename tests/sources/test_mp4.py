"""The encoder keeps every frame, keeps faint noise, and always writes the same bytes."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from fvar.sources.toy.mp4 import write_mp4


def noisy_clip(num_frames: int = 12, *, height: int = 48, width: int = 64) -> np.ndarray:
    """Return a gray ramp with Gaussian noise of sigma 2: uint8 (T, H, W)."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(20, 230, width)[None, None]
    return np.rint(ramp + rng.normal(0, 2, (num_frames, height, width))).astype(np.uint8)


def decoded(path: Path) -> np.ndarray:
    with av.open(io.BytesIO(path.read_bytes())) as container:
        return np.stack([f.to_ndarray(format="gray") for f in container.decode(video=0)])


def test_every_frame_comes_back(tmp_path: Path) -> None:
    """As many frames as were written, of their size, evenly spaced in time from 0."""
    clip = noisy_clip(13)
    write_mp4(tmp_path / "a.mp4", clip)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].frames == 13
        times = [frame.time for frame in container.decode(video=0)]
    assert decoded(tmp_path / "a.mp4").shape == clip.shape
    assert times == pytest.approx([index / 25 for index in range(13)])


def test_pictures_survive(tmp_path: Path) -> None:
    """Noise of sigma 2 keeps its strength and the gray level its place; black and white are exact."""
    clip = noisy_clip()
    write_mp4(tmp_path / "a.mp4", clip)
    error = decoded(tmp_path / "a.mp4").astype(float) - clip
    noise = decoded(tmp_path / "a.mp4").astype(float) - clip.mean(axis=0)
    assert abs(error.mean()) < 0.2
    assert np.sqrt((error**2).mean()) < 2  # 1.4 measured: less than the noise itself
    assert noise.std() > 1.5
    flat = np.stack([np.zeros((32, 32), np.uint8), np.full((32, 32), 255, np.uint8)] * 3)
    write_mp4(tmp_path / "b.mp4", flat)
    assert np.array_equal(decoded(tmp_path / "b.mp4"), flat)


def test_same_pictures_same_bytes(tmp_path: Path) -> None:
    """Files of the same pictures are identical, and the muxer writes neither date nor version.

    Whatever memory held before: an encoder that reads memory which it has not set differs once in a while.
    """
    clip, found = noisy_clip(height=32, width=32), set()
    for number in range(60):
        np.full(1000 * number + 1000, number, np.uint8)
        write_mp4(tmp_path / "a", clip)
        found.add((tmp_path / "a").read_bytes())
    (content,) = found
    assert b"Lavf" not in content
