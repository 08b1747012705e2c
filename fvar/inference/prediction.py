"""The answer for one video: scores of the classes, of the whole video and of each of its clusters.

Letters: C classes, R representations, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from fvar.errors import ConfigError
from fvar.model.recognizer import Inference
from fvar.report.pictures.filmstrip import draw_filmstrip
from fvar.report.pictures.thumbnails import decode_thumbnail
from fvar.store.clusters.video_clusters import VideoClusters, last_frame_seconds
from fvar.store.encoded_video import EncodedVideo
from fvar.store.manifest import Status

Scores = npt.NDArray[np.float32]  # (C,), softmax


@dataclass(frozen=True)
class Segment:
    """A part of a video and what it shows.

    Attributes:
        start_frame: First frame.
        stop_frame: One past the last frame.
        start_seconds: Time of the first frame.
        stop_seconds: Time at which the last frame's time ends.
        label: The class with the highest score.
        probability: Its score, in 0..1.
        scores: Of all classes, in the order of `Prediction.classes`.
    """

    start_frame: int
    stop_frame: int
    start_seconds: float
    stop_seconds: float
    label: str
    probability: float
    scores: Scores


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What a model answers for one video.

    Attributes:
        name: Of the video, as it was given.
        status: ok, or partial: frames are missing, `reason` says why.
        reason: Why it is not ok; None if it is.
        note: What to know although nothing is missing; None: nothing.
        classes: Names of the C classes.
        scores: (C,) float32: softmax of the whole video's logits; they sum to 1.
        segments: One for each cluster, in order, with the scores of that cluster alone; for a training that
            samples frames, one for each sampled frame.
        features: (R, F) float32, of each cluster, before the classifier.
        num_frames: Frames that the network saw.
        clusters: The clusters and the distances between frames; None where frames are sampled.
        video: Its frames, as JPEG.
    """

    name: str
    status: Status
    reason: str | None
    note: str | None
    classes: Sequence[str]
    scores: Scores
    segments: Sequence[Segment]
    features: npt.NDArray[np.float32]
    num_frames: int
    clusters: VideoClusters | None
    video: EncodedVideo

    @property
    def label(self) -> str:
        """The class with the highest score; of equal ones the first."""
        return self.classes[int(self.scores.argmax())]

    @property
    def probability(self) -> float:
        """The highest score, in 0..1."""
        return float(self.scores.max())

    @property
    def pooled_features(self) -> npt.NDArray[np.float32]:
        """(F,) float32, the mean of the clusters' features."""
        return np.asarray(self.features.mean(axis=0))

    @property
    def duration_seconds(self) -> float:
        """Time from the first frame's start to the last frame's end."""
        video = self.video
        last = last_frame_seconds(video.pts_seconds, video.fps)
        return float(video.pts_seconds[-1] - video.pts_seconds[0] + last)

    def filmstrip(self) -> Image.Image:
        """Return the picture of the clusters, RGB, 1600 px wide; a notebook shows it.

        Raises:
            ConfigError: The training samples frames, so there are no clusters.
        """
        if self.clusters is None:
            raise ConfigError(
                f"filmstrip of {self.name}",
                "the model was trained without a clustering, there are no clusters",
                fix="load a training with a clustering",
            )
        video = self.video
        return draw_filmstrip(
            self.clusters, lambda frame, least: decode_thumbnail(video.frame(frame), least=least)
        )

    def __repr__(self) -> str:
        return (
            f"Prediction({self.name!r}, {self.label!r} {self.probability:.3f}, "
            f"{self.num_frames} frames, {len(self.segments)} segments)"
        )


def make_prediction(
    name: str,
    video: EncodedVideo,
    inference: Inference,
    classes: Sequence[str],
    *,
    sampled: Sequence[int] | None,
    status: Status = "ok",
    reason: str | None = None,
    note: str | None = None,
) -> Prediction:
    """Return the answer that an inference gives.

    Args:
        name: Of the video.
        video: Its frames.
        inference: Of the recognizer.
        classes: Names of the classes.
        sampled: The frames that were given to the network; None: all.
        status: Of the decoding.
        reason: As `Prediction.reason`.
        note: As `Prediction.note`.
    """
    scores = inference.logits.softmax(0).numpy()
    clusters = None
    if len(inference.step_distances) == video.num_frames - 1 and sampled is None:
        predicted = classes[int(scores.argmax())]
        clusters = VideoClusters(
            id=name,
            label="",
            predicted=predicted,
            boundaries=inference.boundaries,
            step_distances=inference.step_distances,
            num_bits=inference.num_bits,
            pts_seconds=video.pts_seconds,
            fps=video.fps,
        )
    return Prediction(
        name=name,
        status=status,
        reason=reason,
        note=note,
        classes=classes,
        scores=scores,
        segments=_segments(video, inference, classes, sampled),
        features=inference.features.numpy(),
        num_frames=video.num_frames if sampled is None else len(sampled),
        clusters=clusters,
        video=video,
    )


def _segments(
    video: EncodedVideo,
    inference: Inference,
    classes: Sequence[str],
    sampled: Sequence[int] | None,
) -> list[Segment]:
    """Return a segment for each distinct span; a frame that stands for several clusters gets their mean."""
    spans = inference.spans
    if sampled is not None:  # frame j of the network is frame sampled[j] of the video
        spans = np.asarray(sampled)[:, None] + np.array([0, 1])
    return [
        make_segment(video, start, stop, scores.numpy(), classes)
        for (start, stop), scores in zip(
            np.unique(spans, axis=0).tolist(), inference.cluster_logits.softmax(1), strict=True
        )
    ]


def make_segment(
    video: EncodedVideo, start: int, stop: int, scores: Scores, classes: Sequence[str]
) -> Segment:
    """Return the frames [start, stop) of a video with their scores."""
    pts, best = video.pts_seconds, int(scores.argmax())
    ends = stop == len(pts)
    stop_seconds = pts[-1] + last_frame_seconds(pts, video.fps) if ends else pts[stop]
    return Segment(
        start_frame=start,
        stop_frame=stop,
        start_seconds=float(pts[start]),
        stop_seconds=float(stop_seconds),
        label=classes[best],
        probability=float(scores[best]),
        scores=scores,
    )
