"""The size of a JPEG, read from its header alone, before a decoder allocates memory for its pixels."""

_START, _SCAN, _END = 0xD8, 0xDA, 0xD9
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; the others are tables


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width), px, of a JPEG; None if no frame header is found (ITU T.81, B.2.2)."""
    if data[:2] != bytes((0xFF, _START)):
        return None
    at = 2
    while len(data) >= at + 9 and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = data[at + 5 : at + 7], data[at + 7 : at + 9]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        if marker in (_SCAN, _END):
            return None
        # A fill byte stands alone; a segment begins with its length.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
