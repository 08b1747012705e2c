"""The training videos that look most alike to the network: nearest by the mean of their clusters' features.

Letters: N training videos, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fvar.loading.dataset import StoredVideo, VideoDataset
from fvar.model.recognizer import Inference
from fvar.reporting import Reporter
from fvar.training.predict import infer_clips
from fvar.training.representer import Representer
from fvar.training.trained_run import TrainedRun


@dataclass(frozen=True)
class Neighbor:
    """A training video and its cosine similarity to another video."""

    video: StoredVideo
    similarity: float


class Neighbors:
    """Finds the nearest of the N training videos."""

    def __init__(self, videos: Sequence[StoredVideo], features: Tensor) -> None:
        """Keep the `videos` and their pooled `features`, (N, F)."""
        self._videos = list(videos)
        self._features = torch.nn.functional.normalize(features, dim=1)
        self._labels = torch.tensor([video.label for video in videos])

    def nearest(self, video_id: str, inference: Inference, label: int) -> Neighbor | None:
        """Return the nearest training video of a class, other than the video itself; None: there is none."""
        alike = self._features @ torch.nn.functional.normalize(pooled(inference), dim=0)
        allowed = self._labels == label
        for at, video in enumerate(self._videos):
            if video.id == video_id:
                allowed[at] = False
        if not allowed.any():
            return None
        best = int(alike.masked_fill(~allowed, -2.0).argmax())
        return Neighbor(self._videos[best], float(alike[best]))


def pooled(inference: Inference) -> Tensor:
    """Return the mean of the features over the representations of a video, (F,) float32."""
    return inference.features.mean(dim=0)


def find_neighbors(
    run: TrainedRun,
    representer: Representer,
    dataset: VideoDataset,
    videos: Sequence[StoredVideo],
    *,
    workers: int,
    reporter: Reporter,
) -> Neighbors:
    """Compute the features of all training `videos`, those of `dataset`, in one pass over them."""
    features = []
    with reporter.progress("training videos", total=len(videos), unit="videos") as bar:
        for clip, inference in infer_clips(
            run.recognizer,
            representer,
            dataset,
            range(len(videos)),
            precision=run.config.precision,
            workers=workers,
        ):
            features.append(pooled(inference))
            bar.advance(note=clip.id)
    return Neighbors(videos, torch.stack(features))
