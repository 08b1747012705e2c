"""The spool: the same bytes in memory and on the disk, and nothing left behind."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fvar.errors import StoppedError
from fvar.extraction import spool
from fvar.extraction.spool import Spool

PIECES = st.lists(st.binary(max_size=40), max_size=20)


@given(pieces=PIECES, block=st.sampled_from([1, 7, 64, 1 << 20]))
def test_what_went_in_comes_out(pieces: list[bytes], block: int) -> None:
    """Whatever is kept in memory and whatever on the disk, the array is the pieces one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "_BLOCK_BYTES", block)
        gathered = Spool()
        for piece in pieces:
            gathered.append(piece)
        array = gathered.array()
    assert array.dtype == np.uint8
    assert array.tobytes() == b"".join(pieces)
    assert gathered.num_bytes == len(array)


def test_memory_is_bounded_and_no_file_is_seen(tmp_path: Path) -> None:
    """Beyond 16 MB the bytes lie on the disk, in a file without a name, as long as the array is used."""
    gathered = Spool(tmp_path)
    piece = os.urandom(1 << 20)
    for _ in range(40):
        gathered.append(piece)
    assert len(gathered._block) < 16 << 20
    array = gathered.array()
    assert list(tmp_path.iterdir()) == []
    del gathered
    assert array[-len(piece) :].tobytes() == piece
    assert not isinstance(array.base, bytes | bytearray)


def test_it_asks_before_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who counts the disk is told what there will be, and can stop it."""
    monkeypatch.setattr(spool, "_BLOCK_BYTES", 4)
    told: list[int] = []

    def allow(num_bytes: int) -> None:
        told.append(num_bytes)
        if num_bytes > 8:
            raise StoppedError("disk", "is full", fix="free it")

    gathered = Spool(tmp_path, allow=allow)
    gathered.append(b"abcd")
    gathered.append(b"efgh")
    with pytest.raises(StoppedError, match="disk: is full"):
        gathered.append(b"ijkl")
    assert told == [4, 8, 12]


def test_a_disk_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line names the folder, the system's word and what to do."""
    monkeypatch.setattr(spool, "_BLOCK_BYTES", 4)
    gathered = Spool(tmp_path / "gone")
    with pytest.raises(
        StoppedError, match=r"gone: cannot take the pictures .*No such file.*; make"
    ):
        gathered.append(b"abcd")
