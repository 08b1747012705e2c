"""The frames of a batch in chunks, and their pictures, which threads make ahead of the stem.

On a GPU the host only starts the work, so its processors are free to decode the next chunks meanwhile.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch

from fvar.processes import in_threads

Chunk = tuple[int, Sequence[int]]  # a video, and some of its frames
_Made = TypeVar("_Made")


def cut_chunks(frames: Sequence[Sequence[int]], chunk_frames: int) -> Iterator[Chunk]:
    """Yield the frames of each video in chunks of `chunk_frames`; a video's last one may be shorter."""
    for video, of_video in enumerate(frames):
        for first in range(0, len(of_video), chunk_frames):
            yield video, of_video[first : first + chunk_frames]


def made_ahead(
    make: Callable[[Chunk], _Made], chunks: Iterable[Chunk], *, ahead: int
) -> Iterator[tuple[Chunk, _Made]]:
    """Yield each chunk with what `make` returns for it; threads make that of the next `ahead` chunks."""
    stream = None
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        # In a new thread another stream is current, for whose copies the stem's would not wait.
        stream = torch.cuda.current_stream()

    def make_in_stream(chunk: Chunk) -> _Made:
        with torch.cuda.stream(stream):
            return make(chunk)

    return in_threads(chunks, make_in_stream, ahead=ahead, name="pictures")
