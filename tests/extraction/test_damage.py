"""Damaged videos of every container: never ok with fewer frames than there were, and always the same."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fvar.extraction.decode import Decoded

Decode = Callable[..., Decoded]

CONTAINERS = [
    "plain.mp4",
    "plain.mkv",
    "plain.webm",
    "plain.ts",
    "plain.flv",
    "plain.ogv",
    "plain.wmv",
    "fragments.mp4",
    "b frames.avi",
]


@pytest.fixture
def extract(decode: Decode) -> Decode:
    return partial(decode, short_side=16, quality=5, threads=4)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_cut_file_is_never_ok(samples: Path, tmp_path: Path, extract: Decode, name: str) -> None:
    """A file cut in the middle of its frames is partial or failed, with a reason."""
    whole = (samples / name).read_bytes()
    for percent in (50, 75, 95):
        path = tmp_path / f"{percent} {name}"
        path.write_bytes(whole[: len(whole) * percent // 100])
        decoded = extract(path)
        assert decoded.status != "ok", percent
        assert decoded.reason


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTAINERS)
def test_flipped_bytes_lose_no_frame_silently(
    samples: Path, tmp_path: Path, extract: Decode, name: str
) -> None:
    """Whatever a flipped byte does, ok means as many frames as the whole file has."""
    whole = (samples / name).read_bytes()
    num_frames = extract(samples / name).num_decoded
    draw = random.Random(1)
    for place in [draw.randrange(len(whole)) for _ in range(6)]:
        path = tmp_path / f"{place} {name}"
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        decoded = extract(path)
        assert decoded.status != "ok" or decoded.num_decoded >= num_frames, place


@pytest.mark.parametrize("name", ["plain.ts", "plain.flv", "b frames.avi"])
def test_the_same_file_gets_the_same_verdict(
    samples: Path, tmp_path: Path, extract: Decode, name: str
) -> None:
    """Verdict, frames and pictures of a damaged file do not depend on the run."""
    whole = bytearray((samples / name).read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path = tmp_path / name
    path.write_bytes(whole)
    results = [extract(path) for _ in range(10)]
    assert len({(decoded.status, decoded.num_decoded) for decoded in results}) == 1
    assert len({decoded.video.checksum() for decoded in results if decoded.video}) <= 1
