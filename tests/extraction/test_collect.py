"""A segment: its frames one after the other, whether they were kept in memory or on the disk."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fvar.errors import StoppedError
from fvar.extraction import collect
from fvar.extraction.collect import Segment
from fvar.extraction.thinning import keep_frames


def _collect(
    frames: list[bytes], folder: Path | None = None, allow: Callable[[int], None] = lambda _: None
) -> Segment:
    with closing(Segment((None, None), keep_frames(), folder, allow)) as segment:
        for number, frame in enumerate(frames):
            segment.add(frame, float(number))
        segment.finish()
    return segment


@given(
    frames=st.lists(st.binary(max_size=40), max_size=20),
    memory=st.sampled_from([1, 7, 64, 1 << 20]),
)
def test_what_went_in_comes_out(frames: list[bytes], memory: int) -> None:
    """Wherever the frames were kept, the array holds them one after the other, and offsets cut it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "_MEMORY_BYTES", memory)
        segment = _collect(frames)
    assert segment.jpeg.dtype == np.uint8
    cuts = zip(segment.offsets, segment.offsets[1:], strict=False)
    assert [segment.jpeg[begin:end].tobytes() for begin, end in cuts] == frames


def test_many_frames_lie_in_a_file_without_a_name(tmp_path: Path) -> None:
    """Beyond 16 MB the frames lie on the disk: we are asked before every 16 MB, and no file stays behind."""
    asked: list[int] = []
    frames = [os.urandom(1 << 20) for _ in range(40)]
    segment = _collect(frames, tmp_path, asked.append)
    assert isinstance(segment.jpeg, np.memmap)
    assert segment.jpeg.tobytes() == b"".join(frames)
    assert asked == [16 << 20, 32 << 20]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_or_missing_stops(tmp_path: Path) -> None:
    """`check_room` can stop it; a folder that cannot be written is named."""

    def refuse(_: int) -> None:
        raise StoppedError("disk", "is full", fix="free it")

    frames = [bytes(1 << 20)] * 20
    with pytest.raises(StoppedError, match="disk: is full"):
        _collect(frames, tmp_path, refuse)
    with pytest.raises(StoppedError, match=r"gone: cannot take the frames .*No such file"):
        _collect(frames, tmp_path / "gone")
