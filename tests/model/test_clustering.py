"""The clustering: every frame in exactly one run, and the runs are what the definitions ask for."""

import itertools
from collections.abc import Sequence

import numpy as np
import oracle
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from fvar.loading.sampling import uniform_frames
from fvar.model.clustering import (
    METHODS,
    NEEDS_DISTANCES,
    ClusteringMethod,
    Runs,
    averaging_matrix,
    cluster,
    sign_pattern,
    spread,
    step_distances,
)

EVERY_METHOD = st.sampled_from(list(METHODS))
DETERMINED = st.sampled_from(list(oracle.BOUNDARIES))
CLUSTERS = st.integers(1, 9)


def _steps_of_a_video(largest: int) -> st.SearchStrategy[list[int]]:
    """Distances of a video of 1 to 14 frames."""
    return st.lists(st.integers(0, largest), max_size=13)


# Small distances make many exact ties and still videos; large ones a jump over several shares.
VIDEO = st.one_of(map(_steps_of_a_video, (0, 1, 2, 1000, 2**40)))
BATCH = st.lists(VIDEO, min_size=1, max_size=5)


def _cluster(
    method: ClusteringMethod, batch: Sequence[Sequence[int]], k: int, keys: Sequence[int] = ()
) -> list[list[tuple[int, int]]]:
    """Return the runs of each video as pairs (start, stop)."""
    runs = cluster(
        method,
        torch.tensor([step for video in batch for step in (*video, 0)]),
        torch.tensor([len(video) + 1 for video in batch]),
        num_clusters=k,
        cut_keys=keys or range(len(batch)),
    )
    assert runs.starts.dtype == runs.stops.dtype == torch.int64
    return [
        list(zip(starts, stops, strict=True))
        for starts, stops in zip(runs.starts.tolist(), runs.stops.tolist(), strict=True)
    ]


def _steps(frames: Tensor) -> list[int]:
    return step_distances(sign_pattern(frames)).tolist()


def _still_scenes(lengths: Sequence[int], *, seed: int = 0) -> Tensor:
    """Return one random picture for each scene, repeated for its length."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randn(len(lengths), 4, 6, 6, generator=generator)
    return pictures.repeat_interleave(torch.tensor(lengths), dim=0)


@given(EVERY_METHOD, BATCH, CLUSTERS)
def test_runs_partition_every_video_that_has_k_frames(
    method: ClusteringMethod, batch: list[list[int]], k: int
) -> None:
    """A video of T >= K frames is cut into K runs, none empty, that cover each frame exactly once.

    So the assignment starts at 0, never falls, rises by at most 1 and uses every cluster.
    """
    for steps, spans in zip(batch, _cluster(method, batch, k), strict=True):
        num_frames = len(steps) + 1
        if num_frames >= k:
            assignment = [
                row for row, (start, stop) in enumerate(spans) for _ in range(start, stop)
            ]
            assert [t for start, stop in spans for t in range(start, stop)] == list(
                range(num_frames)
            )
            assert set(assignment) == set(range(k))
            assert {b - a for a, b in itertools.pairwise(assignment)} <= {0, 1}


@given(DETERMINED, BATCH, CLUSTERS)
@example("cumulative", [[0, 0, 7, 0, 0, 0, 0], [5]], 4)
@example("slope", [[3, 3, 3, 3, 3], [0], []], 3)
def test_runs_equal_the_definitions(
    method: ClusteringMethod, batch: list[list[int]], k: int
) -> None:
    """Runs of ragged batches are what literal search by the definitions gives, T < K and T = 1 included."""
    expected = [oracle.runs(method, steps, k) for steps in batch]
    assert _cluster(method, batch, k) == expected


@given(EVERY_METHOD, BATCH, CLUSTERS)
def test_a_video_does_not_depend_on_its_batch(
    method: ClusteringMethod, batch: list[list[int]], k: int
) -> None:
    """A video alone is cut as it is among others."""
    alone = [_cluster(method, [steps], k, [key])[0] for key, steps in enumerate(batch)]
    assert _cluster(method, batch, k) == alone


@given(EVERY_METHOD, st.integers(1, 12), CLUSTERS)
def test_a_video_with_fewer_frames_than_clusters_shows_each_frame(
    method: ClusteringMethod, num_frames: int, extra: int
) -> None:
    """With T < K row j is frame floor(j*T/K) alone: every frame appears, in order."""
    k = num_frames + extra
    (spans,) = _cluster(method, [[1] * (num_frames - 1)], k)
    assert spans == [(j * num_frames // k, j * num_frames // k + 1) for j in range(k)]
    assert {start for start, _ in spans} == set(range(num_frames))


@given(DETERMINED, st.integers(0, 40), CLUSTERS)
def test_a_still_video_is_cut_evenly(method: ClusteringMethod, num_steps: int, k: int) -> None:
    """A video that never changes loses no frame: it is cut evenly."""
    assert _cluster(method, [[0] * num_steps], k) == _cluster("even", [[0] * num_steps], k)


@given(st.lists(st.integers(-2, 12), max_size=5).map(sorted), st.integers(0, 6))
def test_spread_equals_its_formula(raw: list[int], extra: int) -> None:
    """Boundaries are pushed apart as the formula says, also from a crossing at 0 or beyond the end."""
    num_frames = len(raw) + 1 + extra
    moved = spread(torch.tensor([raw], dtype=torch.int64), torch.tensor([num_frames]))
    assert moved[0].tolist() == oracle.spread(raw, num_frames)


@given(st.integers(1, 5), st.lists(st.integers(0, 5), min_size=4, max_size=8).filter(any))
def test_spread_cuts_as_early_as_the_crossings_allow(k: int, steps: list[int]) -> None:
    """Of all cuts that leave no cluster empty and come after their crossings, the earliest are taken."""
    raw = oracle.crossings(steps, k)
    moved = spread(torch.tensor([raw], dtype=torch.int64), torch.tensor([len(steps) + 1]))
    assert moved[0].tolist() == oracle.earliest_cuts(raw, len(steps) + 1)


@pytest.mark.parametrize("method", ["cumulative", "slope"])
@pytest.mark.parametrize("k", [2, 9, 11])
@pytest.mark.parametrize("spread_of_steps", [1, 3])
def test_large_totals_stay_exact(method: ClusteringMethod, k: int, spread_of_steps: int) -> None:
    """10,000 frames with distances near 800,000 bits sum far beyond int32 and float32, and stay exact.

    9,999 equal steps are reached exactly at every ninth and eleventh share: a rounded sum would move a cut.
    """
    rng = np.random.default_rng(k)
    steps = (799_999 - rng.integers(0, spread_of_steps, 9_999)).tolist()
    batch = [[800_000] * 5_000, steps, [1]]
    assert _cluster(method, batch, k)[1] == oracle.runs(method, steps, k)


@given(st.integers(1, 30), st.integers(1, 12))
def test_equal_steps_cross_shares_exactly(scale: int, k: int) -> None:
    """Constant motion makes exact ties: a share is crossed where K*D exceeds it, not where it is reached."""
    steps = [scale] * (3 * k)
    (spans,) = _cluster("cumulative", [steps], k)
    assert [start for start, _ in spans] == [0, *(3 * j + 1 for j in range(1, k))]


@given(st.lists(st.integers(1, 9), min_size=8, max_size=8), st.integers(0, 50))
def test_slope_finds_seven_scene_changes(lengths: list[int], seed: int) -> None:
    """A clip of 8 still scenes of any lengths is cut exactly at its 7 scene changes."""
    (spans,) = _cluster("slope", [_steps(_still_scenes(lengths, seed=seed))], 8)
    assert [stop for _, stop in spans] == np.cumsum(lengths).tolist()


@pytest.mark.parametrize("method", ["cumulative", "slope"])
@given(lengths=st.lists(st.integers(1, 20), min_size=2, max_size=2))
def test_one_cut_is_found_by_both_methods(method: ClusteringMethod, lengths: list[int]) -> None:
    """A clip of two still scenes is cut between them."""
    (spans,) = _cluster(method, [_steps(_still_scenes(lengths))], 2)
    assert spans == [(0, lengths[0]), (lengths[0], sum(lengths))]


def test_random_cuts_depend_on_the_key_alone() -> None:
    """Random cuts come from the key: not from the distances, the batch or torch's own generator."""
    torch.manual_seed(1)
    first = _cluster("random", [[5] * 20, [0] * 20], 4, [11, 12])
    torch.manual_seed(2)
    assert _cluster("random", [[0] * 20, [9] * 30, [1] * 20], 4, [12, 3, 11])[::2] == first[::-1]
    assert first[0] != first[1]


def test_random_cuts_are_uniform() -> None:
    """Over many keys every pair of cuts in 5 frames is drawn about equally often."""
    draws = 3_000
    spans = _cluster("random", [[1] * 4] * draws, 3, range(draws))
    counts = dict.fromkeys(itertools.combinations(range(1, 5), 2), 0)
    for (_, first), (_, second), _ in spans:
        counts[first, second] += 1
    # 6 pairs, 500 expected each; 5 standard deviations of a binomial are 102
    assert all(abs(count - 500) < 102 for count in counts.values())


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 6))
def test_step_distances_count_differing_signs(seed: int, num_frames: int, channels: int) -> None:
    """Distances are the number of signs `x > 0` that differ; zeros count as off."""
    rng = np.random.default_rng(seed)
    activations = rng.integers(-1, 2, (num_frames, channels, 2, 3)).astype(np.float32)
    assert _steps(torch.from_numpy(activations)) == oracle.step_distances(activations)


@given(st.permutations(range(6)), st.integers(0, 10**6))
def test_distances_do_not_see_the_order_of_channels(order: list[int], seed: int) -> None:
    """Permuting the channels of every frame changes no distance, so no boundary."""
    frames = torch.randn(9, 6, 3, 3, generator=torch.Generator().manual_seed(seed))
    assert _steps(frames[:, order]) == _steps(frames)


@pytest.mark.parametrize("num_bits", [1, 7, 8, 127, 128, 300, 70_000])
def test_packed_bits_and_bytes_are_counted_alike(num_bits: int) -> None:
    """A host packs 8 bits into a byte, a GPU does not: in int64 both count what numpy counts, 70,000 too."""
    bits = np.random.default_rng(num_bits).integers(0, 2, (4, num_bits)).astype(bool)
    bits[2] = ~bits[1]
    expected = (bits[1:] != bits[:-1]).sum(axis=1).tolist()
    frames = torch.from_numpy(bits.astype(np.float32))[:, :, None, None]
    packed = sign_pattern(frames)
    assert packed.dtype == torch.uint8
    assert packed.shape == (4, -(-num_bits // 8))
    for patterns in (packed, torch.from_numpy(bits)):
        distances = step_distances(patterns)
        assert distances.dtype == torch.int64
        assert distances.tolist() == expected
    assert expected[1] == num_bits


def test_frames_without_a_neighbour_have_no_distance() -> None:
    """One frame has no step, however its bits are held."""
    frames = torch.ones(1, 3, 2, 2)
    for patterns in (sign_pattern(frames), frames.flatten(1).bool()):
        assert step_distances(patterns).tolist() == []


def _means(frames: Tensor, spans: list[tuple[int, int]], *, chunk: int) -> Tensor:
    """Return the means (K, M), summed chunk by chunk."""
    starts, stops = torch.tensor(spans).T
    parts = [
        averaging_matrix(
            starts,
            stops,
            stops - starts,
            frames=torch.arange(first, first + len(part)),
            dtype=frames.dtype,
        )
        @ part
        for first, part in zip(
            range(0, len(frames), chunk), frames.flatten(1).split(chunk), strict=True
        )
    ]
    return torch.stack(parts).sum(dim=0)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-5)], ids=str
)
@given(
    method=EVERY_METHOD,
    steps=_steps_of_a_video(3),
    k=CLUSTERS,
    chunk=st.integers(1, 15),
    seed=st.integers(0, 10**6),
)
def test_means_conserve_the_frames(
    dtype: torch.dtype,
    tolerance: float,
    method: ClusteringMethod,
    steps: list[int],
    k: int,
    chunk: int,
    seed: int,
) -> None:
    """The sum of size x mean is the sum of frames for T >= K; the means are the oracle's for any chunk."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(len(steps) + 1, 5, dtype=torch.float64, generator=generator).to(dtype)
    (spans,) = _cluster(method, [steps], k)
    means = _means(frames, spans, chunk=chunk)
    expected = oracle.means(frames.numpy(), spans)
    np.testing.assert_allclose(means.numpy(), expected, rtol=tolerance, atol=tolerance)
    if len(frames) >= k:
        sizes = torch.tensor([stop - start for start, stop in spans], dtype=dtype)
        np.testing.assert_allclose(
            (sizes[:, None] * means).sum(0), frames.sum(0), rtol=tolerance, atol=10 * tolerance
        )


@given(EVERY_METHOD, _steps_of_a_video(4), st.integers(0, 10**6))
def test_as_many_clusters_as_frames_is_the_identity(
    method: ClusteringMethod, steps: list[int], seed: int
) -> None:
    """With K = T every mean is its frame, to the bit."""
    frames = torch.randn(len(steps) + 1, 7, generator=torch.Generator().manual_seed(seed))
    (spans,) = _cluster(method, [steps], len(frames))
    assert torch.equal(_means(frames, spans, chunk=4), frames)


@given(EVERY_METHOD, _steps_of_a_video(4), st.integers(0, 10**6))
def test_one_cluster_is_the_mean(method: ClusteringMethod, steps: list[int], seed: int) -> None:
    """With K = 1 the one row is the mean of all frames."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(len(steps) + 1, 7, generator=generator, dtype=torch.float64)
    (spans,) = _cluster(method, [steps], 1)
    torch.testing.assert_close(_means(frames, spans, chunk=5)[0], frames.mean(dim=0))


def test_methods_that_need_no_distances_ignore_them() -> None:
    """Only methods listed as needing distances look at them: the others may be given zeros."""
    steps = [0, 9, 0, 0, 1, 0, 8, 0]
    differ = {m for m in METHODS if _cluster(m, [steps], 3, [4]) != _cluster(m, [[0] * 8], 3, [4])}
    assert differ == NEEDS_DISTANCES


def test_runs_refuse_shapes_that_do_not_match() -> None:
    """Starts and stops of different shapes, or without a batch, are refused with both shapes."""
    ones = torch.ones(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"starts \(2, 3\) and stops \(2, 2\): both \(B, K\)"):
        Runs(ones, ones[:, :2])
    with pytest.raises(ValueError, match=r"starts \(3,\) and stops \(3,\)"):
        Runs(ones[0], ones[0])
    assert repr(Runs(ones, ones + 1)) == "Runs(videos=2, clusters=3)"


@given(st.integers(1, 60), st.integers(1, 12), st.none() | st.integers(0, 10**9))
def test_uniform_sampling_takes_one_frame_of_each_segment(
    num_frames: int, k: int, key: int | None
) -> None:
    """Uniform sampling, for comparison: one frame of each segment, without a key its middle."""
    segments = oracle.uniform_segments(num_frames, k)
    picked = uniform_frames(num_frames, k, key=key)
    assert all(frame in segment for frame, segment in zip(picked, segments, strict=True))
    if key is None:
        assert picked == [segment[len(segment) // 2] for segment in segments]
