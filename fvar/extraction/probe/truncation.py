"""Where a file ends, compared with where its outermost structure says that it must end.

Containers without a count of frames show a cut in other ways: by a size at the beginning, by packets or
pages of known length, by a mark on the last page. Each function below knows one container. It returns why
the file is not whole, or None if it is whole or does not tell.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_EBML_HEADER, _SEGMENT = 0x1A45DFA3, 0x18538067  # RFC 8794, RFC 9559
_TS_SYNC, _TS_SIZES = 0x47, (188, 192, 204)  # ISO 13818-1; with a time stamp; with error correction
_TS_PACKETS = 5  # this many must begin with the sync byte before we know their size
_OGG_LAST_PAGE = 0x04  # RFC 3533
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_BOX, _LARGE_BOX = 8, 16  # bytes of an MP4 box's header: ISO 14496-12
_FLV_TAG, _FLV_BACK = 11, 4  # bytes of a tag's header, and of the size after it
_FLV_KINDS, _FLV_ENCRYPTED = {8, 9, 18}, 0x20  # audio, video, data

_Check = Callable[[BinaryIO, int], str | None]


def cut_short(path: Path, format_name: str) -> str | None:
    """Return why the end of the file is missing; None: nothing shows that it is.

    `format_name` is what libavformat calls its container, recognized by content.

    Raises:
        OSError: The file cannot be read.
    """
    check = _CHECKS.get(format_name)
    if check is None:
        return None
    with path.open("rb") as file:
        return check(file, os.fstat(file.fileno()).st_size)


def _beyond(end: int, size: int) -> str | None:
    return f"it is cut short: it should have {end} bytes and has {size}" if end > size else None


def _matroska(file: BinaryIO, size: int) -> str | None:
    """Add the sizes of header and segment; the segment of a live stream has an unknown size."""
    end = 0
    for wanted in (_EBML_HEADER, _SEGMENT):
        file.seek(end)
        kind = int.from_bytes(file.read(4), "big")
        first = file.read(1)
        if kind != wanted or not first or not first[0]:
            return None
        length = 9 - first[0].bit_length()  # bytes of the number: one more than leading zero bits
        number = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
        if number == (1 << 7 * length) - 1:
            return None
        end = file.tell() + number
    return _beyond(end, size)


def _mpegts(file: BinaryIO, size: int) -> str | None:
    """Check that the last packet is whole; a recording may begin within a packet."""
    start = file.read(_TS_SIZES[-1] * (_TS_PACKETS + 1))
    for offset in range(_TS_SIZES[-1]):
        for packet in _TS_SIZES:
            if set(start[offset::packet][:_TS_PACKETS]) == {_TS_SYNC}:
                stamp = 4 if packet == _TS_SIZES[1] else 0  # bytes before the sync byte
                left = (size - offset + stamp) % packet
                return _beyond(size - left + packet, size) if left else None
    return None


def _ogg(file: BinaryIO, size: int) -> str | None:
    """Read all page headers: each stream must have a last page."""
    at, last = 0, {}
    while at < size:
        file.seek(at)
        header = file.read(27)
        if len(header) < 27 or header[:4] != b"OggS":
            return f"it is cut short or damaged: at byte {at} of {size} there is no whole page"
        last[header[14:18]] = header[5]
        at += 27 + header[26] + sum(file.read(header[26]))
    if any(not flags & _OGG_LAST_PAGE for flags in last.values()):
        return "it is cut short: a stream in it has no last page"
    return _beyond(at, size)


def _flv(file: BinaryIO, size: int) -> str | None:
    """Read all tag headers; the size of a tag is repeated after it."""
    at = int.from_bytes(file.read(9)[5:9], "big") + _FLV_BACK
    while at < size:
        file.seek(at)
        header = file.read(4)
        length = _FLV_TAG + int.from_bytes(header[1:], "big")
        file.seek(at + length)
        behind = file.read(_FLV_BACK)
        ends_well = at + length > size or behind in (b"", length.to_bytes(4, "big"))
        if header[0] & ~_FLV_ENCRYPTED not in _FLV_KINDS or not ends_well:
            return f"it is cut short or damaged: at byte {at} of {size} there is no whole tag"
        at += length + _FLV_BACK
    return _beyond(at - _FLV_BACK, size)  # some writers omit the last repeated size


def _asf(file: BinaryIO, size: int) -> str | None:
    """Add the sizes of header and data; the data of a live stream has an unknown size."""
    start = int.from_bytes(file.read(24)[16:], "little")
    file.seek(min(start, size))
    kind, length = file.read(16), int.from_bytes(file.read(8), "little")
    return _beyond(start + length, size) if kind == _ASF_DATA and length else None


def _mp4(file: BinaryIO, size: int) -> str | None:
    """Check that the last box of a fragmented file is whole, and that all that its index promises is there.

    Without fragments the tables in the header say more, and the size of the last box is often wrong.
    """
    begin, end, promised, fragmented = 0, 0, 0, False  # begin: of the box's content
    while begin <= end < size:
        file.seek(end)
        header = file.read(_LARGE_BOX)
        length, begin = int.from_bytes(header[:4], "big"), end + _BOX
        if length == 1:
            length, begin = int.from_bytes(header[8:], "big"), end + _LARGE_BOX
        end = end + length if length else size
        fragmented |= header[4:8] == b"moof"
        if header[4:8] == b"sidx":
            promised = max(promised, end + _index_bytes(file, begin))
    return _beyond(max(end, promised), size) if fragmented else None


def _index_bytes(file: BinaryIO, begin: int) -> int:
    """Return how many bytes a segment index describes; they follow it."""
    file.seek(begin)
    wide = 8 if any(file.read(12)[:1]) else 4  # version 0 counts in 32 bits
    file.seek(wide, os.SEEK_CUR)
    total = int.from_bytes(file.read(wide), "big")
    file.seek(2, os.SEEK_CUR)
    for _ in range(int.from_bytes(file.read(2), "big")):
        total += int.from_bytes(file.read(12)[:4], "big") & 0x7FFFFFFF
    return total


_CHECKS: dict[str, _Check] = {
    "matroska,webm": _matroska,
    "mpegts": _mpegts,
    "ogg": _ogg,
    "flv": _flv,
    "asf": _asf,
    "mov,mp4,m4a,3gp,3g2,mj2": _mp4,
}
