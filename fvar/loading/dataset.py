"""The videos of a frame store as clips, seen through one view."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fvar.errors import FrameStoreError
from fvar.loading.clip import EncodedClip
from fvar.loading.representation_cache import RepresentationCache
from fvar.loading.sampling import draw_key
from fvar.loading.view import View
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import FrameStore, VideoHeader


@dataclass(frozen=True)
class StoredVideo:
    """Where a video's frames are, and what is known about it before they are read.

    Attributes:
        id: As in the source CSV.
        shard: The file that holds its frames, relative to the store's folder.
        label: Position of its class; -1 where it has no label.
        num_frames: T.
    """

    id: str
    shard: str
    label: int
    num_frames: int


class VideoDataset:
    """Reads clips. An item is addressed by (epoch, position), because random draws depend on the epoch."""

    def __init__(
        self,
        folder: Path,
        videos: Sequence[StoredVideo],
        view: View,
        *,
        device: torch.device,
        cache: RepresentationCache | None = None,
        epochs: int = 1,
    ) -> None:
        """Open a dataset.

        Args:
            folder: Of the frame store.
            videos: In the order of their positions.
            view: How they are looked at.
            device: Where pictures go.
            cache: Has the representations of some clips; their frames are not read. None reads them all.
            epochs: How many epochs there will be.
        """
        self._store, self._videos = FrameStore(folder), list(videos)
        self._view, self._device, self._epochs = view, device, epochs
        # What is drawn in each epoch, crops or cuts, is not seen again.
        is_kept = cache is not None and view.repeats and not (view.random and cache.is_random)
        self._cache = cache if is_kept else None

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, at: tuple[int, int]) -> EncodedClip:
        """Read a video, or its representations where the cache has them; any thread may call this.

        Raises:
            FrameStoreError: It cannot be read, or has another number of frames than the manifest says.
        """
        epoch, position = at
        stored = self._videos[position]
        header = self._store.header(stored.shard, stored.id)
        clip = make_clip(
            stored,
            header,
            functools.partial(self._read, stored),
            self._view,
            epoch=epoch,
            device=self._device,
        )
        if self._cache is not None:
            clip = self._look_up(self._cache, clip, header, epoch)
        if clip.kept is None:
            clip.load()
        return clip

    def _read(self, stored: StoredVideo) -> EncodedVideo:
        video = self._store.read(stored.shard, stored.id)
        if video.num_frames != stored.num_frames:
            raise FrameStoreError(
                f"{stored.shard}: video {stored.id!r}",
                f"holds {video.num_frames} frames, the manifest says {stored.num_frames}",
                fix="rerun fvar extract with --overwrite",
            )
        return video

    def _look_up(
        self, cache: RepresentationCache, clip: EncodedClip, header: VideoHeader, epoch: int
    ) -> EncodedClip:
        """Return `clip` with its representations, or else with what is to be made in the same pass."""
        clip = replace(clip, key=cache.key(header.checksum, clip.framing, clip.cut_key))
        kept = cache.read(str(clip.key))
        if kept is not None or cache.is_closed:
            return replace(clip, kept=kept)
        framings = {
            self._view.framing(header.height, header.width, epoch=later, video_id=clip.id)
            for later in range(epoch + 1, self._epochs)
        }
        keys = {f: cache.key(header.checksum, f, clip.cut_key) for f in framings - {clip.framing}}
        missing = [replace(clip, framing=f, key=k) for f, k in keys.items() if k not in cache]
        return replace(clip, later=missing)


def make_clip(
    stored: StoredVideo,
    header: VideoHeader,
    load: Callable[[], EncodedVideo],
    view: View,
    *,
    epoch: int,
    device: torch.device,
) -> EncodedClip:
    """Return a video as the network gets it in an epoch; `load` returns all its frames."""
    sampled = view.sampled_frames(stored.num_frames, epoch=epoch, video_id=stored.id)
    return EncodedClip(
        id=stored.id,
        label=stored.label,
        num_frames=view.count_frames(stored.num_frames),
        load=functools.cache(load if sampled is None else lambda: pick_frames(load(), sampled)),
        framing=view.framing(header.height, header.width, epoch=epoch, video_id=stored.id),
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
