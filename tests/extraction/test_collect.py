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
from fvar.extraction.collect import FrameInterval, Segment
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


@pytest.mark.parametrize(
    ("start", "end", "kept"), [(None, None, 6), (2, None, 4), (None, 2, 2), (1, 4, 3), (5, 99, 1)]
)
def test_segments_by_numbers_of_frames(start: int | None, end: int | None, kept: int) -> None:
    """Frames count from 0 whatever their times are; a segment beyond the end says so."""
    with closing(Segment(FrameInterval(start, end), keep_frames())) as segment:
        for number in range(6):
            segment.add(bytes([number]), 10.0)
        segment.finish()
        assert segment.jpeg.tolist() == list(range(start or 0, min(end or 6, 6)))
        assert segment.num_decoded == kept
    with closing(Segment(FrameInterval(7, 9), keep_frames())) as beyond:
        why = beyond.why_empty(6, 0.2)
    assert why == "none of its 6 frames has a number in [7, 9), counted from 0"
