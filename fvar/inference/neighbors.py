"""The training videos that look most alike to the network: nearest by the mean of their clusters' features.

Letters: N training videos, F features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fvar.config import InspectConfig
from fvar.inference.inspected_run import InspectedRun
from fvar.loading.clip import EncodedClip
from fvar.loading.dataset import StoredVideo
from fvar.model.recognizer import Inference
from fvar.report.clusters_page.video_pages import NearVideo
from fvar.reporting import Reporter
from fvar.store.frame_store import FrameStore


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


Explain = Callable[[EncodedClip, Inference], list[NearVideo]]
"""Takes a video that was misread; returns the nearest training videos of the predicted and the true class."""


def explain_mistakes(
    inspected: InspectedRun,
    videos: Sequence[StoredVideo],
    config: InspectConfig,
    reporter: Reporter,
) -> Explain:
    """Return how to explain a mistake, after one pass over the training `videos`."""
    classes = inspected.run.classes
    features = []
    with reporter.progress("training videos", total=len(videos), unit="videos") as bar:
        for clip, inference in inspected.infer(videos, workers=config.workers):
            features.append(pooled(inference))
            bar.advance(note=clip.id)
    neighbors = Neighbors(videos, torch.stack(features))
    store = FrameStore(inspected.frames.folder)

    def explain(clip: EncodedClip, inference: Inference) -> list[NearVideo]:
        labels = (int(inference.logits.argmax()), clip.label)
        found = [neighbors.nearest(clip.id, inference, label) for label in labels]
        return [
            NearVideo(
                id=near.video.id,
                label=classes[near.video.label],
                similarity=near.similarity,
                video=store.read(near.video.shard, near.video.id),
            )
            for near in found
            if near is not None
        ]

    return explain
