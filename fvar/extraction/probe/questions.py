"""What is said between a probe and who asks it, and how much memory it may take to answer."""

import json
from typing import Any

MEMORY_BYTES = 2 << 30
"""Of addresses, that a probe may use. Measured: 0.25 GiB with a small file, 0.86 with the index of 24 hours
at 60 frames a second with sound (MP4, the greediest of the containers), 0.55 with the first picture of 8K
HEVC in high dynamic range."""

Message = dict[str, Any]
"""A line of JSON. Asked: `question` (claims, glance) and `path`. Heard: `ready` once, `packets` while it goes
on, and then `answer`, `unreadable`, `memory` (bytes that were not enough; it has ended) or `bug`."""


def as_line(message: Message) -> bytes:
    """Return `message` as JSON in ASCII: the parts of a path that are not UTF-8 survive as escapes."""
    return json.dumps(message, default=str).encode() + b"\n"
