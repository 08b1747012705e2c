"""Where the clusters of a trained recognizer lie, in videos whose action has a known place."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fvar.config import EvalConfig
from fvar.loading.clip import EncodedClip
from fvar.loading.view import evaluation_view
from fvar.model.interface import Representations
from fvar.model.recognizer import Recognizer
from fvar.model.shift import VideoLayout
from fvar.reporting import SilentReporter
from fvar.training.distributed import join_world
from fvar.training.trained_run import TrainedRun, open_trained_run

Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class Place:
    """The frames [start, stop) of a video that show its action."""

    start: int
    stop: int

    def holds(self, span: tuple[int, int]) -> bool:
        """Return whether at least half of a cluster's frames lie in the place."""
        start, stop = span
        return 2 * (min(stop, self.stop) - max(start, self.start)) >= stop - start


def read_places(folder: Path) -> dict[str, Place]:
    """Return the true places by id; none where the folder has no `places.csv`."""
    path = folder / "places.csv"
    if not path.exists():
        return {}
    with path.open() as file:
        return {
            row["id"]: Place(int(row["start_frame"]), int(row["stop_frame"]))
            for row in csv.DictReader(file)
        }


@torch.no_grad()
def look_at_places(
    train: Path, places: Mapping[str, Place], config: EvalConfig
) -> tuple[float, float]:
    """Return two means over the test videos of a training.

    The share of the clusters (or sampled frames) that lie in the action, and how often the one does that
    gives the predicted class its highest probability.
    """
    shares, hits = list[float](), list[bool]()
    with join_world("cpu") as world:
        run = open_trained_run(train, checkpoint=None, world=world)
        stored = run.open_frames(None, world)
        videos = stored.videos("test", run.classes, allow_partial=False)
        representer = run.representer(config, world, SilentReporter())
        dataset = run.dataset(stored, videos, representer)
        for at, video in enumerate(videos):
            clip = dataset[0, at]
            seen = representer([clip])
            inside = [
                places[clip.id].holds(span)
                for span in spans_of(run, clip, seen, num_frames=video.num_frames)
            ]
            shares.append(float(np.mean(inside)))
            hits.append(inside[best_row(run.recognizer, seen)])
    return float(np.mean(shares)), float(np.mean(hits))


def spans_of(
    run: TrainedRun, clip: EncodedClip, seen: Representations, *, num_frames: int
) -> Spans:
    """Return the frames [start, stop) behind each representation."""
    if seen.clusters is not None:
        starts, stops = seen.clusters.starts[0].tolist(), seen.clusters.stops[0].tolist()
        return list(zip(starts, stops, strict=True))
    sampled = evaluation_view(run.config).sampled_frames(num_frames, epoch=0, video_id=clip.id)
    assert sampled is not None
    return [(frame, frame + 1) for frame in sampled]


def best_row(recognizer: Recognizer, seen: Representations) -> int:
    """Return which representation gives the predicted class its highest probability."""
    layout = VideoLayout.of(seen.counts, device=seen.activations.device)
    logits = recognizer.classifier(recognizer.backbone.trunk(seen.activations, layout))
    predicted = logits.mean(dim=0).argmax()
    return int(logits.softmax(dim=1)[:, predicted].argmax())
