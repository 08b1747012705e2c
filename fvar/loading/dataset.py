"""Ragged batches of videos: encoded frames read ahead, pictures on the device chunk by chunk.

Letters: B videos, T frames of a video, N = sum of all T, n frames of a chunk, S side in px.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchcodec.decoders import decode_jpeg

from fvar.errors import FrameStoreError
from fvar.loading.sampling import draw_key, uniform_frames
from fvar.loading.transforms import CROPS, Framing
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import FrameStore
from fvar.store.jpeg import picture_size
from fvar.system import usable_processors


@dataclass(frozen=True)
class StoredVideo:
    """Where a video's frames are, and what is known of it before they are read."""

    id: str
    shard: str
    label: int
    num_frames: int


@dataclass(frozen=True)
class View:
    """How the videos of a split are looked at.

    Attributes:
        size: Side of the square that the network sees, px.
        crop: Which of `CROPS`.
        crop_share: Side of the central crop as a share of the short side.
        flip: Mirror every other video, at random.
        samples: Look only at this many frames of each video (`uniform`); None: at all.
        random: Draw crops, flips and sampled frames (training) rather than take the middle.
        seed: Of everything drawn.
    """

    size: int
    crop: str
    crop_share: float
    flip: bool
    samples: int | None
    random: bool
    seed: int


@dataclass(frozen=True, repr=False)
class FrameBatch:
    """B videos of different lengths: their encoded frames one after the other, no padding.

    Attributes:
        encoded: (num_bytes,) uint8, the JPEG pictures of all videos.
        offsets: (N+1,) int64, where each picture starts, and the end.
        lengths: T of each video.
        picture_sizes: (height, width) of each video's pictures, px.
        labels: (B,) int64.
        ids: Of the videos.
        pts_seconds: (N,) float64, when each picture is shown.
        epoch: In which they were drawn.
    """

    encoded: Tensor
    offsets: Tensor
    lengths: tuple[int, ...]
    picture_sizes: tuple[tuple[int, int], ...]
    labels: Tensor
    ids: tuple[str, ...]
    pts_seconds: Tensor
    epoch: int

    def __post_init__(self) -> None:
        videos = {len(self.lengths), len(self.picture_sizes), len(self.labels), len(self.ids)}
        frames = {sum(self.lengths), len(self.offsets) - 1, len(self.pts_seconds)}
        if len(videos) != 1 or len(frames) != 1:
            raise ValueError(f"parts of a batch do not fit together: {self!r}")
        if int(self.offsets[-1]) != len(self.encoded):
            raise ValueError(
                f"{len(self.encoded)} bytes, the last picture ends at {int(self.offsets[-1])}"
            )

    def __repr__(self) -> str:
        return (
            f"FrameBatch(videos={len(self.ids)}, lengths={self.lengths}, labels={tuple(self.labels.shape)}, "
            f"offsets={tuple(self.offsets.shape)}, num_bytes={len(self.encoded)}, epoch={self.epoch})"
        )

    def clips(self, view: View, *, device: torch.device) -> list["EncodedClip"]:
        """Return the videos as the engine wants them."""
        coded = torch.split(self.encoded, self.offsets.diff().tolist())  # views
        stops = np.cumsum(self.lengths)
        return [
            EncodedClip(
                coded[stops[video] - self.lengths[video] : stops[video]],
                video_id=video_id,
                picture_size=self.picture_sizes[video],
                framing=frame_video(
                    view, *self.picture_sizes[video], epoch=self.epoch, video_id=video_id
                ),
                size=view.size,
                device=device,
                cut_key=draw_key(view.seed, self.epoch, video_id, "cuts"),
            )
            for video, video_id in enumerate(self.ids)
        ]


def frame_video(view: View, height: int, width: int, *, epoch: int, video_id: str) -> Framing:
    """Return the one crop and flip of a video in an epoch."""
    crop = view.crop if view.random else "center"
    framing = CROPS[crop](
        height, width, view.crop_share, draw_key(view.seed, epoch, video_id, "crop")
    )
    mirrored = view.random and view.flip and draw_key(view.seed, epoch, video_id, "flip") % 2 == 1
    return replace(framing, mirrored=mirrored)


class EncodedClip:
    """One video whose pictures are decoded when asked for, the same at every call."""

    def __init__(
        self,
        coded: Sequence[Tensor],
        *,
        video_id: str,
        picture_size: tuple[int, int],
        framing: Framing,
        size: int,
        device: torch.device,
        cut_key: int,
    ) -> None:
        self._coded = coded
        self._id, self._picture_size = video_id, picture_size
        self._framing, self._size, self._device = framing, size, device
        self.cut_key = cut_key

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self._coded)

    def pictures(self, frames: Sequence[int]) -> Tensor:
        """Decode frames on the host, finish them on the device: -> (n, 3, S, S) float32.

        On the host, because two JPEG decoders do not agree to the last bit and a result should not depend on
        which machine computed it.

        Raises:
            FrameStoreError: A picture is no JPEG, or has another size than its store says.
        """
        coded = [self._coded[frame] for frame in frames]
        if problem := self._misfit(coded):
            raise self._damaged(frames, problem)
        try:
            decoded = _decode(coded)
        except RuntimeError as error:
            cause = str(error).rpartition(", ")[2]  # before it: where in its source
            raise self._damaged(frames, f"cannot be decoded ({cause})") from error
        for picture in decoded:
            turned = tuple(picture.shape[1:])  # as an EXIF tag may ask for
            if turned != self._picture_size:
                raise self._damaged(frames, self._other_size(turned))
        # The decoder returns channels last, which resizing and the network are faster with.
        pictures = torch.stack([picture.permute(1, 2, 0) for picture in decoded])
        pictures = pictures.permute(0, 3, 1, 2)
        if self._device.type == "cuda":  # pinned: the host decodes on while the device computes
            pictures = pictures.pin_memory().to(self._device, non_blocking=True)
        return self._framing.apply(pictures, size=self._size)

    def _misfit(self, coded: Sequence[Tensor]) -> str | None:
        """Return why pictures must not be decoded: 600 bytes may claim 65,500 x 65,500 px."""
        for data in coded:
            found = picture_size(data.numpy().tobytes())
            if found is None:
                return "cannot be decoded (no JPEG header)"
            if found != self._picture_size:
                return self._other_size(found)
        return None

    def _other_size(self, found: tuple[int, ...]) -> str:
        return f"are {found} px (height, width), the store says {self._picture_size}"

    def _damaged(self, frames: Sequence[int], problem: str) -> FrameStoreError:
        return FrameStoreError(
            f"video {self._id!r}: frames {frames[0]} to {frames[-1]}",
            problem,
            fix="rerun fvar extract with --overwrite",
        )


def _decode(coded: Sequence[Tensor]) -> list[Tensor]:
    """Decode JPEG pictures on as many threads as torch computes with: -> (3, H, W) uint8 each."""
    share = math.ceil(len(coded) / torch.get_num_threads())
    parts = [list(coded[first : first + share]) for first in range(0, len(coded), share)]
    return [picture for part in _threads().map(decode_jpeg, parts) for picture in part]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(usable_processors(), thread_name_prefix="decode")


class VideoDataset:
    """Reads videos of a store; an item is asked for as (epoch, position): what is drawn depends on both."""

    def __init__(self, folder: Path, videos: Sequence[StoredVideo], view: View) -> None:
        self._store, self._videos, self._view = FrameStore(folder), list(videos), view

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, at: tuple[int, int]) -> tuple[EncodedVideo, int, str, int]:
        """Return the video's encoded frames (the sampled ones for `uniform`), label, id and the epoch.

        Raises:
            FrameStoreError: It cannot be read, or has another number of frames than the manifest says.
        """
        epoch, position = at
        video = self._videos[position]
        encoded = self._store.read(video.shard, video.id)
        if encoded.num_frames != video.num_frames:
            raise FrameStoreError(
                f"{video.shard}: video {video.id!r}",
                f"holds {encoded.num_frames} frames, the manifest says {video.num_frames}",
                fix="rerun fvar extract with --overwrite",
            )
        if self._view.samples is not None:
            key = (
                draw_key(self._view.seed, epoch, video.id, "frames") if self._view.random else None
            )
            encoded = pick_frames(
                encoded, uniform_frames(encoded.num_frames, self._view.samples, key=key)
            )
        return encoded, video.label, video.id, epoch

    def batch(self, places: Sequence[tuple[int, int]]) -> FrameBatch:
        """Return the videos at these places as one batch; any thread may ask."""
        return collate([self[at] for at in places])


def pick_frames(video: EncodedVideo, frames: Sequence[int]) -> EncodedVideo:
    """Return a video of the named frames alone, which may repeat and must not fall."""
    parts = [video.frame(frame) for frame in frames]
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return replace(
        video,
        jpeg=np.concatenate(parts),
        offsets=offsets,
        pts_seconds=video.pts_seconds[list(frames)],
    )


def collate(items: Sequence[tuple[EncodedVideo, int, str, int]]) -> FrameBatch:
    """Lay videos one after the other."""
    videos = [item[0] for item in items]
    bases = np.cumsum([0, *(len(video.jpeg) for video in videos)])
    offsets = [video.offsets[:-1] + base for video, base in zip(videos, bases[:-1], strict=True)]
    return FrameBatch(
        encoded=torch.from_numpy(_joined([video.jpeg for video in videos])),
        offsets=torch.from_numpy(np.concatenate([*offsets, bases[-1:]])),
        lengths=tuple(video.num_frames for video in videos),
        picture_sizes=tuple((video.height, video.width) for video in videos),
        labels=torch.tensor([item[1] for item in items]),
        ids=tuple(item[2] for item in items),
        pts_seconds=torch.from_numpy(np.concatenate([video.pts_seconds for video in videos])),
        epoch=items[0][3],
    )


def _joined(pictures: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Lay bytes one after the other; a video alone, which may be a long one, is not copied."""
    return pictures[0] if len(pictures) == 1 else np.concatenate(pictures)


def load_batches(
    dataset: VideoDataset, batches: Iterable[Sequence[tuple[int, int]]], *, workers: int
) -> Iterator[FrameBatch]:
    """Yield the batches in order; each names its videos as (epoch, position).

    So many threads read ahead, a batch each; with 0 a batch is read when it is asked for. Threads, because
    what processes hand over lies in shared memory, of which a container has 64 MB (4,000 frames), or is
    copied three times; reading and hashing leave the interpreter to others.

    Raises:
        FvarError: What a video met, when its batch is asked for.
    """
    if not workers:
        yield from map(dataset.batch, batches)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read")
    ahead = deque[Future[FrameBatch]]()
    try:
        for batch in batches:
            ahead.append(pool.submit(dataset.batch, batch))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
