"""Which files of a folder are opened while a block runs, by this process or any other (Linux)."""

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_IN_OPEN, _IN_NONBLOCK = 0x20, 0x800  # inotify(7)
_HEADER = struct.Struct("iIII")


@contextmanager
def opened_in(folder: Path) -> Iterator[list[str]]:
    """Yield a list that holds, after the block, the names of the files that were opened in `folder`."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux has inotify, which shows the files that are opened")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(_IN_NONBLOCK)
    assert libc.inotify_add_watch(descriptor, os.fsencode(folder), _IN_OPEN) > 0
    names: list[str] = []
    try:
        yield names
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return
        while data:
            length = _HEADER.unpack_from(data)[3]
            name = data[_HEADER.size : _HEADER.size + length].rstrip(b"\0")
            names.append(os.fsdecode(name))
            data = data[_HEADER.size + length :]
    finally:
        os.close(descriptor)
