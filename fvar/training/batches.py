"""The videos of a training, and the clips of each of its steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fvar.config import TrainConfig
from fvar.loading.batch import load_batches
from fvar.loading.clip import EncodedClip
from fvar.loading.dataset import StoredVideo, VideoDataset
from fvar.loading.representation_cache import RepresentationCache
from fvar.loading.sampling import balanced_draw, epoch_batches, split_batch
from fvar.loading.view import View, evaluation_view, training_view
from fvar.training.distributed import World
from fvar.training.inputs import StoredFrames


@dataclass(frozen=True)
class TrainingSet:
    """The videos of a training: those to learn from, and those (none or more) to choose the best epoch by."""

    frames: StoredFrames
    classes: Sequence[str]
    train: Sequence[StoredVideo]
    val: Sequence[StoredVideo]


class TrainingBatches:
    """The batches of every epoch, and the part of each that this process takes."""

    def __init__(
        self,
        videos: TrainingSet,
        config: TrainConfig,
        world: World,
        *,
        cache: RepresentationCache | None,
    ) -> None:
        """Plan the epochs; nothing is read yet.

        Args:
            videos: To train on and to choose by.
            config: Of the training.
            world: The processes.
            cache: Has the representations of some clips; their frames are not read.
        """
        self._videos, self._config, self._world, self._cache = videos, config, world, cache
        # As in epochs without extra sampling, so that all epochs have the same batches.
        count = evaluation_view(config).count_frames
        self._num_frames = [count(video.num_frames) for video in videos.train]

    @property
    def steps(self) -> list[int]:
        """Number of batches of each epoch."""
        return [len(self._batches(epoch)) for epoch in range(self._config.epochs)]

    @property
    def largest_part(self) -> int:
        """Largest number of frames that one process gets in a step."""
        return max(
            sum(self._num_frames[video] for video in part)
            for epoch in range(self._config.epochs)
            for batch in self._batches(epoch)
            for part in self._split(batch)
        )

    def of_epoch(self, epoch: int) -> Iterator[tuple[list[EncodedClip], int]]:
        """Yield this process's part of each batch (no clips or more), and the size of the whole batch."""
        batches = self._batches(epoch)
        parts = [self._split(batch)[self._world.rank] for batch in batches]
        view = training_view(self._config, epoch=epoch)
        dataset = self._dataset(self._videos.train, view, epochs=self._config.epochs)
        places = [[(epoch, video) for video in part] for part in parts]
        loaded = load_batches(dataset, places, workers=self._config.workers)
        for part, whole in zip(loaded, batches, strict=True):
            yield part, len(whole)

    def val(self) -> VideoDataset:
        """Return the videos that choose the best epoch."""
        return self._dataset(self._videos.val, evaluation_view(self._config), epochs=1)

    def _dataset(self, videos: Sequence[StoredVideo], view: View, *, epochs: int) -> VideoDataset:
        return VideoDataset(
            self._videos.frames.folder,
            videos,
            view,
            device=self._world.device,
            cache=self._cache,
            epochs=epochs,
        )

    def _split(self, batch: Sequence[int]) -> list[list[int]]:
        return split_batch(batch, self._num_frames, world_size=self._world.world_size)

    def _batches(self, epoch: int) -> list[list[int]]:
        config, drawn = self._config, None
        if config.sampling == "balanced":
            labels = [video.label for video in self._videos.train]
            drawn = balanced_draw(labels, seed=config.seed, epoch=epoch)
        return epoch_batches(
            self._num_frames,
            batch_size=config.batch_size,
            frames_per_batch=config.frames_per_batch,
            seed=config.seed,
            epoch=epoch,
            drawn=drawn,
        )


def balanced_weights(videos: TrainingSet) -> Tensor:
    """Return a weight for each class, (C,): N / (C n), n of the N train videos being of the class."""
    labels = torch.tensor([video.label for video in videos.train])
    counts = torch.bincount(labels, minlength=len(videos.classes))
    return len(labels) / (len(videos.classes) * counts.float())
