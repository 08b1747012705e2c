"""Empty chunks of AVI: capture programs write one instead of a frame that equals the one before.

A header counts them as frames. They hold nothing, so nothing is stored for them; the times of the frames
around them keep the pause.
"""

import os
from pathlib import Path
from typing import BinaryIO

_LISTS = (b"RIFF", b"LIST")
_HEADER, _LIST_HEADER = 8, 12  # bytes


def count_empty_chunks(path: Path, stream: int) -> int:
    """Return how many empty chunks a stream has, up to the first place where the file cannot be followed.

    Args:
        path: The file.
        stream: Number of the stream in it.

    Raises:
        OSError: The file cannot be read.
    """
    wanted = {b"%02ddc" % stream, b"%02ddb" % stream}
    with path.open("rb") as file:
        return _count(file, os.fstat(file.fileno()).st_size, wanted)


def _count(file: BinaryIO, size: int, wanted: set[bytes]) -> int:
    found, at = 0, 0
    while at + _HEADER <= size:
        file.seek(at)
        header = file.read(_HEADER)
        name, length = header[:4], int.from_bytes(header[4:], "little")
        if name in _LISTS:
            at += _LIST_HEADER  # its chunks come next
            continue
        if not name.isascii():
            break
        found += name in wanted and length == 0
        at += _HEADER + length + length % 2
    return found
