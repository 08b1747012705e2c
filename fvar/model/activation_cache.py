"""The cache of activations that outlive their chunk: stem outputs, and their tapes if the budget allows."""

from collections.abc import Sequence

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

ChunkKey = tuple[int, int]  # video and first frame of a chunk


class TapeMeter:
    """Adds up what autograd keeps for a backward pass.

    Attributes:
        num_bytes: Of all storages kept while `running`, and of those added, each counted once.
    """

    def __init__(self, *, apart_from: Sequence[Tensor]) -> None:
        """Start at 0; `apart_from` are weights, which are there anyway."""
        self._seen = {weight.untyped_storage().data_ptr() for weight in apart_from}
        self.num_bytes = 0

    def running(self) -> saved_tensors_hooks:
        """Return a context manager; what is kept in its block is counted."""
        return saved_tensors_hooks(self._count, lambda tensor: tensor)

    def add(self, tensor: Tensor) -> None:
        """Count a tensor that is kept beside the tape, unless the tape holds it."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.num_bytes += storage.nbytes()

    def _count(self, tensor: Tensor) -> Tensor:
        self.add(tensor)
        return tensor.detach()  # with its graph, an output that is kept would hold itself


class ActivationCache:
    """Stem outputs of chunks, within a budget.

    An output saves sweep 2 its forward pass. A tape saves sweep 3 one too, but is several times larger: it is
    kept only where the outputs of all frames still to come would fit beside it.
    """

    def __init__(self, budget_bytes: int, *, num_frames: int, outputs: bool, tapes: bool) -> None:
        """Start empty.

        Args:
            budget_bytes: For outputs and tapes together.
            num_frames: Frames to come, of all videos.
            outputs: Keep outputs without tape, because a second sweep asks for them.
            tapes: Keep tapes, because a backward pass will ask for them.
        """
        self._left, self._to_come = budget_bytes, num_frames
        self._outputs, self._tapes = outputs, tapes
        self._by_chunk = dict[ChunkKey, Tensor]()

    @property
    def wants_tapes(self) -> bool:
        """Whether the next chunk's tape may be kept."""
        return self._tapes

    def put(self, chunk: ChunkKey, output: Tensor, *, tape_bytes: int) -> None:
        """Keep what fits of a chunk's output (n, C, H, W) and its tape; chunks come in order.

        `tape_bytes` are those of the tape and the output together.
        """
        size = output.numel() * output.element_size()
        self._to_come -= len(output)
        reserved = size // len(output) * self._to_come if self._outputs else 0
        self._tapes = output.requires_grad and tape_bytes + reserved <= self._left
        if self._tapes:
            self._left -= tape_bytes
            self._by_chunk[chunk] = output
        elif self._outputs and size <= self._left:
            self._left -= size
            self._by_chunk[chunk] = output.detach()

    def __contains__(self, chunk: ChunkKey) -> bool:
        return chunk in self._by_chunk

    def output(self, chunk: ChunkKey) -> Tensor:
        """Return the output of a chunk that is kept; without a tape it is kept no longer."""
        output = self._by_chunk[chunk]
        if not output.requires_grad:
            del self._by_chunk[chunk]
        return output.detach()

    def tape(self, chunk: ChunkKey) -> Tensor:
        """Return the output of a chunk that is kept, with its tape; a tape serves once."""
        return self._by_chunk.pop(chunk)
