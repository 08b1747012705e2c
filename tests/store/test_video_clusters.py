"""Laws of the clusters of one video."""

from dataclasses import replace

import numpy as np
import pytest
from clusters_samples import sample_clusters
from hypothesis import given
from hypothesis import strategies as st

from fvar.errors import InputError


@given(num_frames=st.integers(1, 300), k=st.integers(1, 40), seed=st.integers(0, 9))
def test_every_frame_is_in_exactly_one_cluster(num_frames: int, k: int, seed: int) -> None:
    """Sizes sum to T, the assignment starts at 0, rises by 0 or 1 and ends at K - 1."""
    clusters = sample_clusters(num_frames, k, seed=seed)
    assert clusters.sizes.sum() == clusters.num_frames == num_frames
    assert clusters.assignment.shape == (num_frames,)
    assert clusters.assignment[0] == 0
    assert clusters.assignment[-1] == clusters.num_clusters - 1 == min(k, num_frames) - 1
    assert set(np.diff(clusters.assignment).tolist()) <= {0, 1}
    assert np.array_equal(np.bincount(clusters.assignment), clusters.sizes)


@given(num_frames=st.integers(2, 300), seed=st.integers(0, 9))
def test_cumulative_fractions_sum_the_normalized_distances(num_frames: int, seed: int) -> None:
    """D[t] / D[T - 1] is the running sum of h divided by its total, in any unit, from 0 to 1."""
    clusters = sample_clusters(num_frames, seed=seed)
    h = clusters.normalized_distances
    assert np.array_equal(h * clusters.num_bits, clusters.step_distances)
    expected = [sum(h[:t]) / sum(h) if sum(h) else 0.0 for t in range(num_frames)]
    np.testing.assert_allclose(clusters.cumulative_fractions, expected, atol=1e-12)


def test_a_still_video_has_no_change() -> None:
    """A video that never changes has cumulative fractions of 0, not nan."""
    assert not sample_clusters(still=True).cumulative_fractions.any()


def test_intervals_in_seconds_touch_and_end_after_the_last_frame() -> None:
    """A cluster stops when the next starts; the last frame lasts the median step: 0.04 of .04 .04 .5."""
    clusters = sample_clusters(4, 2, pts_seconds=np.array([1.0, 1.04, 1.08, 1.58]))
    assert clusters.start_seconds.tolist() == [1.0, 1.08]
    assert clusters.stop_seconds.tolist() == [1.08, pytest.approx(1.62)]
    assert clusters.duration_seconds == pytest.approx(0.62)


@pytest.mark.parametrize(("fps", "seconds"), [(25.0, 0.04), (None, 0.0)])
def test_a_single_frame_lasts_one_period(fps: float | None, seconds: float) -> None:
    """A single frame lasts 1 / fps, or no time if the file claims no rate."""
    clusters = sample_clusters(1, fps=fps)
    assert clusters.frame_seconds == seconds
    assert clusters.stop_seconds.tolist() == [seconds]


def test_frames_shown_at_one_moment_do_not_count_as_steps() -> None:
    """The median is over positive steps: 0.1, not the 0 of the frames that share a time."""
    times = np.array([0.0, 0.0, 0.0, 0.0, 0.1])
    assert sample_clusters(5, pts_seconds=times).frame_seconds == pytest.approx(0.1)


def test_a_prediction_is_right_when_it_is_the_label() -> None:
    """Any other class is wrong, and the repr prints counts, not arrays."""
    assert sample_clusters(predicted="left").is_right
    assert not sample_clusters(predicted="right").is_right
    text = repr(sample_clusters(32, 8))
    assert text == "VideoClusters('clip-0', 32 frames in 8 clusters of 4 to 4, 1000 bits)"


def _int64(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pts_seconds": np.zeros(0)}, "pts_seconds is empty"),
        ({"boundaries": _int64()}, "boundaries has no cluster"),
        ({"boundaries": _int64(4)}, "boundaries has no cluster"),
        ({"boundaries": _int64(1, 2, 4)}, "clusters run from frame 1 to 4, must run from 0 to 4"),
        ({"boundaries": _int64(0, 2, 3)}, "clusters run from frame 0 to 3, must run from 0 to 4"),
        ({"boundaries": _int64(0, 4, 4)}, "cluster 1 is [4, 4), must hold a frame"),
        ({"boundaries": _int64(0, 3, 2, 4)}, "cluster 1 is [3, 2), must hold a frame"),
        ({"step_distances": _int64(1, 2)}, "2 step distances for 4 frames"),
        ({"num_bits": 0}, "num_bits is 0"),
        ({"step_distances": _int64(1, -7, 3)}, "step distance 1 is -7, must be within 0 and"),
        ({"step_distances": _int64(1, 2, 1001)}, "step distance 2 is 1001"),
        ({"pts_seconds": np.array([0, 1, np.nan, 2])}, "pts_seconds must be finite and never fall"),
        ({"pts_seconds": np.array([0, 2.0, 1, 3])}, "pts_seconds must be finite and never fall"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, object], problem: str) -> None:
    """Anything but a partition of all frames is refused with the video, the value and the rule."""
    with pytest.raises(InputError) as caught:
        replace(sample_clusters(4, 2), **changes)  # type: ignore[arg-type]  # the point of it
    assert str(caught.value).startswith("clusters of video 'clip-0': ")
    assert problem in str(caught.value)
