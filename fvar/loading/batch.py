"""Batches of clips of any lengths, read ahead by threads."""

from collections.abc import Iterable, Iterator, Sequence

from fvar.loading.clip import EncodedClip
from fvar.loading.dataset import VideoDataset
from fvar.processes import in_threads


def load_batches(
    dataset: VideoDataset, batches: Iterable[Sequence[tuple[int, int]]], *, workers: int
) -> Iterator[list[EncodedClip]]:
    """Yield the clips of each batch, in order; a batch names its videos as (epoch, position).

    `workers` threads read ahead, one batch each; with 0 a batch is read when it is needed. Threads, because
    processes would pass frames through shared memory, of which a container has 64 MB (4,000 frames), or copy
    them three times. Reading and hashing release Python's lock.

    Raises:
        FvarError: A video of the batch cannot be read; raised when that batch is due.
    """

    def read(batch: Sequence[tuple[int, int]]) -> list[EncodedClip]:
        return [dataset[at] for at in batch]

    yield from (clips for _, clips in in_threads(batches, read, ahead=workers, name="read"))
