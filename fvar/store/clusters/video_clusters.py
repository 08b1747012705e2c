"""The clusters of one video: the record from which tables, pictures and pages are made.

Letters: T frames of the video, K clusters it was cut into.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fvar.errors import InputError


@dataclass(frozen=True, eq=False, repr=False)
class VideoClusters:
    """The partition of one video's T frames into K clusters, and the distances that decided it.

    Attributes:
        id: Of the video, as in the source CSV.
        label: Its class in the source CSV; empty where it has none.
        predicted: The class that the network predicts.
        boundaries: First frame of every cluster, then T: int64, shape (K + 1,); cluster j is the frames
            [boundaries[j], boundaries[j + 1]).
        step_distances: Number of bits of the activation pattern that change from frame t to t + 1,
            int64, shape (T - 1,).
        num_bits: Number of bits in a pattern: C * H * W of the activations that are clustered.
        pts_seconds: When each frame is shown, float64, shape (T,), never falling.
        fps: Average frame rate that the file claims; None if it claims none.
        logits: Of each cluster alone, float32, shape (K, C), C classes; the video's are their mean. None
            where they were not kept.

    Raises:
        InputError: The clusters are no partition of the frames, or the parts do not fit together.
    """

    id: str
    label: str
    predicted: str
    boundaries: npt.NDArray[np.int64]
    step_distances: npt.NDArray[np.int64]
    num_bits: int
    pts_seconds: npt.NDArray[np.float64]
    fps: float | None = None
    logits: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        """Refuse anything but a partition of all T frames."""
        for problem in self._problems():
            raise InputError(
                f"clusters of video {self.id!r:.80}",
                problem,
                fix="pass the result of one inference over the whole video",
            )

    def _problems(self) -> Iterator[str]:
        if not len(self.pts_seconds):
            yield "pts_seconds is empty, a video has at least 1 frame"
        if self.num_clusters < 1:
            yield "boundaries has no cluster, must have at least 1"
        if self.boundaries[0] != 0 or self.boundaries[-1] != self.num_frames:
            yield (
                f"clusters run from frame {self.boundaries[0]} to {self.boundaries[-1]}, "
                f"must run from 0 to {self.num_frames}"
            )
        if (empty := np.flatnonzero(self.sizes < 1)).size:
            j = empty[0]
            yield f"cluster {j} is [{self.starts[j]}, {self.stops[j]}), must hold a frame"
        yield from self._distance_problems()
        if self.logits is not None and len(self.logits) != self.num_clusters:
            yield f"{len(self.logits)} rows of logits for {self.num_clusters} clusters"
        if self.logits is not None and not np.isfinite(self.logits).all():
            yield "logits must be finite"
        # Stated as what must hold, so that nan is refused too.
        if not (np.isfinite(self.pts_seconds).all() and (np.diff(self.pts_seconds) >= 0).all()):
            yield "pts_seconds must be finite and never fall"

    def _distance_problems(self) -> Iterator[str]:
        if len(self.step_distances) != self.num_frames - 1:
            yield f"{len(self.step_distances)} step distances for {self.num_frames} frames"
        if self.num_bits < 1:
            yield f"num_bits is {self.num_bits}, must be at least 1"
        wrong = np.flatnonzero((self.step_distances < 0) | (self.step_distances > self.num_bits))
        if wrong.size:
            yield (
                f"step distance {wrong[0]} is {self.step_distances[wrong[0]]}, "
                f"must be within 0 and num_bits ({self.num_bits})"
            )

    @property
    def num_frames(self) -> int:
        """Number of frames, T."""
        return len(self.pts_seconds)

    @property
    def num_clusters(self) -> int:
        """Number of clusters, K: the number asked for, or T if the video is shorter."""
        return len(self.boundaries) - 1

    @property
    def is_right(self) -> bool:
        """Whether the predicted class is the label."""
        return self.predicted == self.label

    @property
    def verdict(self) -> str:
        """``right``, ``wrong``, or ``no label``."""
        if not self.label:
            return "no label"
        return "right" if self.is_right else "wrong"

    @property
    def cluster_scores(self) -> npt.NDArray[np.float64] | None:
        """Softmax of each cluster's logits, float64, shape (K, C); None without logits."""
        return None if self.logits is None else _softmax(self.logits)

    @property
    def scores(self) -> npt.NDArray[np.float64] | None:
        """Softmax of the video's logits, float64, shape (C,); None without logits."""
        return None if self.logits is None else _softmax(self.logits.mean(axis=0))

    @property
    def evenness(self) -> float:
        """Entropy of the clusters' sizes over that of equal sizes: 1 for equal ones, 0 for one cluster."""
        shares = self.sizes / self.num_frames
        entropy = float(-(shares * np.log(shares)).sum())
        return entropy / math.log(self.num_clusters) if self.num_clusters > 1 else 0.0

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """First frame of every cluster, int64, shape (K,)."""
        return self.boundaries[:-1]

    @property
    def stops(self) -> npt.NDArray[np.int64]:
        """The frame after the last frame of every cluster, int64, shape (K,)."""
        return self.boundaries[1:]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Number of frames in every cluster, int64, shape (K,); they sum to T."""
        return self.stops - self.starts

    @property
    def assignment(self) -> npt.NDArray[np.int32]:
        """The cluster of every frame, int32, shape (T,): starts at 0, never falls, rises by at most 1."""
        return np.repeat(np.arange(self.num_clusters, dtype=np.int32), self.sizes)

    @property
    def normalized_distances(self) -> npt.NDArray[np.float64]:
        """Normalized Hamming distance, n[t] / num_bits, of neighbors: float64 in 0..1, shape (T - 1,)."""
        return self.step_distances / self.num_bits

    @property
    def cumulative_fractions(self) -> npt.NDArray[np.float64]:
        """Change up to every frame, D[t] / D[T - 1]: float64 in 0..1, shape (T,); 0 in a still video."""
        cumulative = np.concatenate(([0], np.cumsum(self.step_distances)))
        return cumulative / max(int(cumulative[-1]), 1)

    @property
    def frame_seconds(self) -> float:
        """Assumed duration of the last frame."""
        return last_frame_seconds(self.pts_seconds, self.fps)

    @property
    def start_seconds(self) -> npt.NDArray[np.float64]:
        """Time of every cluster's first frame, float64, shape (K,)."""
        return self.pts_seconds[self.starts]

    @property
    def stop_seconds(self) -> npt.NDArray[np.float64]:
        """Time of the frame after every cluster, float64, shape (K,); for the last see `frame_seconds`."""
        return np.append(self.start_seconds[1:], self.pts_seconds[-1] + self.frame_seconds)

    @property
    def duration_seconds(self) -> float:
        """Time from the first frame's start to the last frame's end."""
        return float(self.stop_seconds[-1] - self.pts_seconds[0])

    def __repr__(self) -> str:
        return (
            f"VideoClusters({self.id!r}, {self.num_frames} frames in {self.num_clusters} clusters "
            f"of {self.sizes.min()} to {self.sizes.max()}, {self.num_bits} bits)"
        )


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def last_frame_seconds(pts_seconds: npt.NDArray[np.float64], fps: float | None) -> float:
    """Return the assumed duration of a video's last frame, which no file states.

    The median of the positive time steps between frames; if there is none (a single frame), 1 / fps; if no
    rate is known either, 0, and the last cluster's interval in seconds is empty.
    """
    steps = np.diff(pts_seconds)
    if (steps > 0).any():
        return float(np.median(steps[steps > 0]))
    return 1 / fps if fps else 0.0
