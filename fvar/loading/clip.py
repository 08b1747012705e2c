"""One video as the network gets it: encoded frames that become pictures on the device when they are needed.

Letters: T frames of the video, n frames of a chunk, S side in px.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torchcodec.decoders import decode_jpeg

from fvar.errors import FrameStoreError
from fvar.loading.transforms import Framing
from fvar.store.encoded_video import EncodedVideo
from fvar.store.jpeg import picture_size
from fvar.system import usable_processors


@dataclass(frozen=True, eq=False)
class EncodedClip:
    """One video whose pictures are decoded on demand, with the same result at every call.

    Attributes:
        id: Of the video.
        label: Position of its class.
        video: Its encoded frames; with a sampling view, the sampled ones alone.
        framing: The crop and flip of every picture.
        size: S.
        device: Where the pictures go.
        cut_key: The seed of this video's `random` cuts.
    """

    id: str
    label: int
    video: EncodedVideo
    framing: Framing
    size: int
    device: torch.device
    cut_key: int

    @property
    def num_frames(self) -> int:
        """T."""
        return self.video.num_frames

    def pictures(self, frames: Sequence[int]) -> Tensor:
        """Decode frames on the host and finish them on the device: -> (n, 3, S, S) float32.

        On the host, because two JPEG decoders do not agree to the last bit, and a result should not depend on
        the machine that computed it.

        Raises:
            FrameStoreError: A picture is no JPEG, or has another size than its store says.
        """
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
        return self.framing.apply(pictures, size=self.size)

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
    """Return as many threads as torch computes with; beside a GPU, which computes, all processors.

    There torch's own number says nothing: torchrun sets it to 1.
    """
    return torch.get_num_threads() if device.type == "cpu" else usable_processors()


def _decode(encoded: Sequence[Tensor], *, threads: int) -> list[Tensor]:
    """Decode JPEG pictures on so many threads: -> (3, H, W) uint8 each."""
    size = math.ceil(len(encoded) / threads)
    parts = [list(encoded[first : first + size]) for first in range(0, len(encoded), size)]
    return [picture for part in _threads().map(decode_jpeg, parts) for picture in part]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(usable_processors(), thread_name_prefix="decode")
