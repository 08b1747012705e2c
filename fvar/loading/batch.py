"""Batches of clips of any lengths, read ahead by threads."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from fvar.loading.clip import EncodedClip
from fvar.loading.dataset import VideoDataset


@dataclass(frozen=True)
class Batch:
    """B clips of different lengths, without padding. B is 0 where a process has no part in a batch."""

    clips: Sequence[EncodedClip]

    @property
    def labels(self) -> Tensor:
        """Positions of the clips' classes, (B,) int64, on the host."""
        return torch.tensor([clip.label for clip in self.clips], dtype=torch.int64)

    @property
    def ids(self) -> list[str]:
        """Of the videos."""
        return [clip.id for clip in self.clips]

    @property
    def num_frames(self) -> int:
        """Number of frames in all clips."""
        return sum(clip.num_frames for clip in self.clips)


def load_batches(
    dataset: VideoDataset, batches: Iterable[Sequence[tuple[int, int]]], *, workers: int
) -> Iterator[Batch]:
    """Yield the batches in order; each names its videos as (epoch, position).

    `workers` threads read ahead, one batch each; with 0 a batch is read when it is needed. Threads, because
    processes would pass frames through shared memory, of which a container has 64 MB (4,000 frames), or copy
    them three times. Reading and hashing release Python's lock.

    Raises:
        FvarError: A video of the batch cannot be read; raised when that batch is due.
    """

    def read(batch: Sequence[tuple[int, int]]) -> Batch:
        return Batch([dataset[at] for at in batch])

    if not workers:
        yield from map(read, batches)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read")
    ahead = deque[Future[Batch]]()
    try:
        for batch in batches:
            ahead.append(pool.submit(read, batch))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
