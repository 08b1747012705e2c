"""The clusters of one video: the record from which tables, pictures and pages are made.

Letters: T frames of the video, K clusters it was cut into.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fvar.errors import InputError

ARRAYS = {"starts": "<i8", "stops": "<i8", "step_distances": "<i8", "pts_seconds": "<f8"}


@dataclass(frozen=True, eq=False, repr=False)
class VideoClusters:
    """The partition of one video's T frames into K clusters, and the distances that decided it.

    Attributes:
        id: Of the video, as in the source CSV.
        label: Its class in the source CSV.
        predicted: The class that the network predicts.
        starts: First frame of every cluster, int64, shape (K,); starts[0] is 0.
        stops: The frame after the last frame of every cluster, int64, shape (K,); stops[-1] is T.
        step_distances: Number of bits of the activation pattern that change from frame t to t + 1,
            int64, shape (T - 1,).
        num_bits: Number of bits in a pattern: C * H * W of the activations that are clustered.
        pts_seconds: When each frame is shown, float64, shape (T,), never falling.
        fps: Average frame rate that the file claims; None if it claims none.

    Raises:
        InputError: The clusters are no partition of the frames, or the parts do not fit together.
    """

    id: str
    label: str
    predicted: str
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    step_distances: npt.NDArray[np.int64]
    num_bits: int
    pts_seconds: npt.NDArray[np.float64]
    fps: float | None = None

    def __post_init__(self) -> None:
        """Refuse anything but a partition of all T frames."""
        for problem in self._problems():
            raise InputError(
                f"clusters of video {self.id!r:.80}",
                problem,
                fix="pass the result of one inference over the whole video",
            )

    def _problems(self) -> Iterator[str]:
        for name, dtype in ARRAYS.items():
            array = getattr(self, name)
            if array.ndim != 1 or array.dtype != np.dtype(dtype):
                yield f"{name} is {array.dtype}{list(array.shape)}, must be {np.dtype(dtype)}[:]"
        if not len(self.pts_seconds):
            yield "pts_seconds is empty, a video has at least 1 frame"
        yield from self._partition_problems()
        yield from self._measure_problems()

    def _partition_problems(self) -> Iterator[str]:
        if len(self.starts) != len(self.stops) or not len(self.starts):
            yield f"{len(self.starts)} starts and {len(self.stops)} stops, must be equally many, at least 1"
        if self.starts[0] != 0 or self.stops[-1] != self.num_frames:
            yield (
                f"clusters run from frame {self.starts[0]} to {self.stops[-1]}, "
                f"must run from 0 to {self.num_frames}"
            )
        if (empty := np.flatnonzero(self.stops <= self.starts)).size:
            j = empty[0]
            yield f"cluster {j} is [{self.starts[j]}, {self.stops[j]}), must hold a frame"
        if (apart := np.flatnonzero(self.starts[1:] != self.stops[:-1])).size:
            j = apart[0]
            yield (
                f"cluster {j} stops at {self.stops[j]} and the next starts at {self.starts[j + 1]}, "
                "must be the same frame"
            )

    def _measure_problems(self) -> Iterator[str]:
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
        # Stated as what must hold, so that nan is refused too.
        if not (np.isfinite(self.pts_seconds).all() and (np.diff(self.pts_seconds) >= 0).all()):
            yield "pts_seconds must be finite and never fall"

    @property
    def num_frames(self) -> int:
        """Number of frames, T."""
        return len(self.pts_seconds)

    @property
    def num_clusters(self) -> int:
        """Number of clusters, K: the number asked for, or T if the video is shorter."""
        return len(self.starts)

    @property
    def is_right(self) -> bool:
        """Whether the predicted class is the label."""
        return self.predicted == self.label

    @property
    def boundaries(self) -> npt.NDArray[np.int64]:
        """First frame of every cluster, then T: int64, shape (K + 1,); cluster j is [b[j], b[j + 1])."""
        return np.append(self.starts, self.stops[-1])

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
        """Assumed duration of the last frame, which no file states.

        The median of the positive time steps between frames; if there is none (a single frame), 1 / fps;
        if no rate is known either, 0, and the last cluster's interval in seconds is empty.
        """
        steps = np.diff(self.pts_seconds)
        if (steps > 0).any():
            return float(np.median(steps[steps > 0]))
        return 1 / self.fps if self.fps else 0.0

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
