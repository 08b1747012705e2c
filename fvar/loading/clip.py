"""One video as the network gets it: encoded frames that become pictures on the device when they are needed.

Letters: T frames of the video, n frames of a chunk, S side in px.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torchcodec.decoders import decode_jpeg

from fvar.errors import FrameStoreError
from fvar.loading.transforms import Framing
from fvar.model.interface import Representations
from fvar.store.encoded_video import EncodedVideo
from fvar.store.jpeg import picture_size
from fvar.system import usable_processors


class CropMemo:
    """Cropped pictures of one video, kept while its mirror images are made one after the other."""

    def __init__(self, budget_bytes: int) -> None:
        self._left = budget_bytes
        self._crops = dict[object, Tensor]()

    def get(self, frames: Sequence[int], framing: Framing, make: Callable[[], Tensor]) -> Tensor:
        """Return the crops of `frames`, consecutive ones: kept, or made and kept if there is room."""
        place = frames[0], len(frames), framing.rectangle
        if place in self._crops:
            return self._crops[place]
        crops = make()
        # A view would hold whole pictures.
        if crops.untyped_storage().nbytes() > crops.nbytes:
            crops = crops.clone(memory_format=torch.channels_last)
        if crops.nbytes <= self._left:
            self._left -= crops.nbytes
            self._crops[place] = crops
        return crops


@dataclass(frozen=True, eq=False)
class EncodedClip:
    """One video whose pictures are decoded on demand, with the same result at every call.

    Attributes:
        id: Of the video.
        label: Position of its class; -1 where it has no label.
        num_frames: T, at least 1.
        load: Reads its encoded frames once; with a sampling view, the sampled ones alone. Raises
            FrameStoreError if they cannot be read.
        framing: The crop and flip of every picture.
        size: S.
        device: Where the pictures go.
        cut_key: The seed of this video's `random` cuts.
        key: Finds its representations in the cache; None where they are not kept.
        kept: Its representations, where the cache had them. Then the frames are not read.
        later: Its clips with the framings that later epochs need and the cache lacks.
        memo: Holds crops that several of its clips share.
    """

    id: str
    label: int
    num_frames: int
    load: Callable[[], EncodedVideo]
    framing: Framing
    size: int
    device: torch.device
    cut_key: int
    key: str | None = None
    kept: Representations | None = None
    later: Sequence["EncodedClip"] = ()
    memo: CropMemo | None = None

    @property
    def video(self) -> EncodedVideo:
        """Its encoded frames, read by `load`."""
        return self.load()

    def pictures(self, frames: Sequence[int]) -> Tensor:
        """Decode frames on the host and finish them on the device: -> (n, 3, S, S) float32.

        On the host, because two JPEG decoders do not agree to the last bit, and a result should not depend on
        the machine that computed it.

        Raises:
            FrameStoreError: A picture is no JPEG, or has another size than its store says.
        """
        if self.memo is None:
            crops = self._crops(frames)
        else:
            crops = self.memo.get(frames, self.framing, lambda: self._crops(frames))
        return self.framing.finish(crops)

    def _crops(self, frames: Sequence[int]) -> Tensor:
        """Return (n, 3, S, S) uint8, not mirrored."""
        encoded = [torch.from_numpy(self.video.frame(frame)) for frame in frames]
        for data in encoded:  # before they are decoded: 600 bytes may claim 65,500 x 65,500 px
            self._check_size(picture_size(data.numpy().tobytes()), frames)
        try:
            decoded = _decode(encoded, threads=_num_threads(self.device))
        except RuntimeError as error:
            # The part before the last comma is a place in torchcodec's source.
            cause = str(error).rpartition(", ")[2]
            raise self._damaged(frames, f"cannot be decoded ({cause})") from error
        for picture in decoded:  # again: an EXIF tag may have turned them
            self._check_size(tuple(picture.shape[1:]), frames)
        # The decoder returns channels last, which makes resizing and the network faster.
        pictures = torch.stack([picture.permute(1, 2, 0) for picture in decoded])
        pictures = pictures.permute(0, 3, 1, 2)
        if self.device.type == "cuda":  # pinned: the host decodes on while the device computes
            pictures = pictures.pin_memory().to(self.device, non_blocking=True)
        return self.framing.crop(pictures, size=self.size)

    def _check_size(self, found: tuple[int, ...] | None, frames: Sequence[int]) -> None:
        stored = self.video.height, self.video.width
        if found is None:
            raise self._damaged(frames, "cannot be decoded (no JPEG header)")
        if found != stored:
            problem = f"are {found} px (height, width), the store says {stored}"
            raise self._damaged(frames, problem)

    def _damaged(self, frames: Sequence[int], problem: str) -> FrameStoreError:
        return FrameStoreError(
            f"video {self.id!r}: frames {frames[0]} to {frames[-1]}",
            problem,
            fix="rerun fvar extract with --overwrite",
        )


def _num_threads(device: torch.device) -> int:
    """Return how many threads decode: as many as torch computes with, or all processors where a GPU computes.

    With a GPU, torch's own number says nothing: torchrun sets it to 1.
    """
    return torch.get_num_threads() if device.type == "cpu" else usable_processors()


def _decode(encoded: Sequence[Tensor], *, threads: int) -> list[Tensor]:
    """Decode JPEG pictures on `threads` threads: -> (3, H, W) uint8 each."""
    size = math.ceil(len(encoded) / threads)
    parts = [list(encoded[first : first + size]) for first in range(0, len(encoded), size)]
    return [picture for part in _threads().map(decode_jpeg, parts) for picture in part]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(usable_processors(), thread_name_prefix="decode")
