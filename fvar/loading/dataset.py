"""The videos of a frame store as clips, seen through one view."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fvar.errors import FrameStoreError
from fvar.loading.clip import EncodedClip
from fvar.loading.sampling import draw_key
from fvar.loading.view import View
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import FrameStore


@dataclass(frozen=True)
class StoredVideo:
    """Where a video's frames are, and what is known about it before they are read.

    Attributes:
        id: As in the source CSV.
        shard: The file that holds its frames, relative to the store's folder.
        label: Position of its class.
        num_frames: T.
    """

    id: str
    shard: str
    label: int
    num_frames: int


class VideoDataset:
    """Reads clips. An item is addressed by (epoch, position), because random draws depend on the epoch."""

    def __init__(
        self, folder: Path, videos: Sequence[StoredVideo], view: View, *, device: torch.device
    ) -> None:
        self._store, self._videos = FrameStore(folder), list(videos)
        self._view, self._device = view, device

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, at: tuple[int, int]) -> EncodedClip:
        """Read a video; any thread may call this.

        Raises:
            FrameStoreError: It cannot be read, or has another number of frames than the manifest says.
        """
        epoch, position = at
        stored = self._videos[position]
        video = self._store.read(stored.shard, stored.id)
        if video.num_frames != stored.num_frames:
            raise FrameStoreError(
                f"{stored.shard}: video {stored.id!r}",
                f"holds {video.num_frames} frames, the manifest says {stored.num_frames}",
                fix="rerun fvar extract with --overwrite",
            )
        return make_clip(stored, video, self._view, epoch=epoch, device=self._device)


def make_clip(
    stored: StoredVideo, video: EncodedVideo, view: View, *, epoch: int, device: torch.device
) -> EncodedClip:
    """Return a video as the network gets it in an epoch."""
    sampled = view.sampled_frames(video.num_frames, epoch=epoch, video_id=stored.id)
    return EncodedClip(
        id=stored.id,
        label=stored.label,
        video=video if sampled is None else pick_frames(video, sampled),
        framing=view.framing(video.height, video.width, epoch=epoch, video_id=stored.id),
        size=view.size,
        device=device,
        cut_key=draw_key(view.seed, epoch, stored.id, "cuts"),
    )


def pick_frames(video: EncodedVideo, frames: Sequence[int]) -> EncodedVideo:
    """Return a copy of a video with `frames` alone; they are in ascending order and may repeat."""
    parts = [video.frame(frame) for frame in frames]
    return replace(
        video,
        jpeg=np.concatenate(parts),
        offsets=np.cumsum([0, *map(len, parts)], dtype=np.int64),
        pts_seconds=video.pts_seconds[list(frames)],
    )
