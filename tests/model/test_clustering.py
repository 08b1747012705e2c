"""The clustering: every frame in exactly one cluster, and the clusters are what the definitions ask for."""

import itertools
from collections.abc import Sequence

import numpy as np
import oracle
import pytest
import torch
from engine_steps import cluster_frames, spans_of
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from fvar.model.averaging import Assignment, mean
from fvar.model.clustering import (
    Clusters,
    cluster,
    sign_pattern,
    step_distances,
)
from fvar.model.clusterings import load_clustering
from fvar.model.clusterings.cumulative import spread
from fvar.names import clustering_names

EVERY_CLUSTERING = st.sampled_from(clustering_names())
DETERMINED = st.sampled_from(list(oracle.BOUNDARIES))
NUM_CLUSTERS = st.integers(1, 9)
SEEDS = st.integers(0, 10**6)


def _steps_of_a_video(largest: int) -> st.SearchStrategy[list[int]]:
    """Distances of a video of 1 to 14 frames."""
    return st.lists(st.integers(0, largest), max_size=13)


# Small distances make many exact ties and still videos; large ones a jump over several boundaries.
VIDEO = st.one_of(map(_steps_of_a_video, (0, 1, 2, 1000, 2**40)))
BATCH = st.lists(VIDEO, min_size=1, max_size=5)


def _cluster(
    name: str, batch: Sequence[Sequence[int]], k: int, keys: Sequence[int] = ()
) -> list[list[tuple[int, int]]]:
    """Return the clusters of each video as pairs (start, stop)."""
    needs = load_clustering(name).NEEDS
    measured = torch.empty(0)
    if needs == "distances":
        measured = torch.tensor([step for video in batch for step in (*video, 0)])
    if needs == "descriptors":
        frames = [frame for video in batch for frame in oracle.positions(video)]
        measured = torch.tensor(frames, dtype=torch.float64)[:, None]
    lengths = torch.tensor([len(video) + 1 for video in batch])
    keys = keys or range(len(batch))
    return spans_of(cluster(name, measured, lengths, num_clusters=k, cut_keys=keys))


def _steps(frames: Tensor) -> list[int]:
    return step_distances(sign_pattern(frames)).tolist()


def _still_scenes(lengths: Sequence[int], *, seed: int = 0) -> Tensor:
    """Return one random picture for each scene, repeated for its length."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randn(len(lengths), 4, 6, 6, generator=generator)
    return pictures.repeat_interleave(torch.tensor(lengths), dim=0)


@given(EVERY_CLUSTERING, BATCH, NUM_CLUSTERS)
def test_clusters_partition_every_video_that_has_k_frames(
    name: str, batch: list[list[int]], k: int
) -> None:
    """A video of T >= K frames is cut into K clusters, none empty, that hold each frame exactly once."""
    for steps, spans in zip(batch, _cluster(name, batch, k), strict=True):
        num_frames = len(steps) + 1
        if num_frames >= k:
            assert len(spans) == k
            assert all(start < stop for start, stop in spans)
            frames = [t for start, stop in spans for t in range(start, stop)]
            assert frames == list(range(num_frames))


@given(DETERMINED, BATCH, NUM_CLUSTERS)
@example("cumulative", [[0, 0, 7, 0, 0, 0, 0], [5]], 4)
@example("slope", [[3, 3, 3, 3, 3], [0], []], 3)
def test_clusters_equal_the_definitions(name: str, batch: list[list[int]], k: int) -> None:
    """Clusters of ragged batches are what a literal search gives; T < K and still videos included."""
    assert _cluster(name, batch, k) == [oracle.clusters(name, steps, k) for steps in batch]


@given(EVERY_CLUSTERING, BATCH, NUM_CLUSTERS)
def test_a_video_does_not_depend_on_its_batch(name: str, batch: list[list[int]], k: int) -> None:
    """A video alone is cut as it is among others."""
    alone = [_cluster(name, [steps], k, [key])[0] for key, steps in enumerate(batch)]
    assert _cluster(name, batch, k) == alone


@given(EVERY_CLUSTERING, st.integers(1, 12), NUM_CLUSTERS)
def test_a_video_with_fewer_frames_than_clusters_shows_each_frame(
    name: str, num_frames: int, extra: int
) -> None:
    """With T < K cluster j is frame floor(j*T/K) alone: every frame appears, in order."""
    k = num_frames + extra
    (spans,) = _cluster(name, [[1] * (num_frames - 1)], k)
    assert spans == [(j * num_frames // k, j * num_frames // k + 1) for j in range(k)]
    assert {start for start, _ in spans} == set(range(num_frames))


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


@pytest.mark.parametrize("name", ["cumulative", "slope"])
@pytest.mark.parametrize("k", [2, 9, 11])
@pytest.mark.parametrize("range_of_steps", [1, 3])
def test_large_totals_stay_exact(name: str, k: int, range_of_steps: int) -> None:
    """10,000 frames with distances near 800,000 bits sum far beyond int32 and float32, and stay exact.

    9,999 equal steps reach every ninth and eleventh boundary exactly: a rounded sum would move a cut.
    """
    rng = np.random.default_rng(k)
    steps = (799_999 - rng.integers(0, range_of_steps, 9_999)).tolist()
    batch = [[800_000] * 5_000, steps, [1]]
    assert _cluster(name, batch, k)[1] == oracle.clusters(name, steps, k)


@given(st.integers(1, 30), st.integers(1, 12))
def test_equal_steps_cross_boundaries_exactly(scale: int, k: int) -> None:
    """Constant motion makes exact ties: a boundary is where K*D exceeds its part, not where D reaches it."""
    (spans,) = _cluster("cumulative", [[scale] * (3 * k)], k)
    assert [start for start, _ in spans] == [0, *(3 * j + 1 for j in range(1, k))]


@pytest.mark.parametrize(
    ("name", "num_scenes"),
    [("slope", 8), ("slope", 2), ("cumulative", 2), ("variance", 8), ("variance", 2)],
)
@given(lengths=st.lists(st.integers(1, 20), min_size=8, max_size=8), seed=st.integers(0, 50))
def test_still_scenes_are_cut_where_they_change(
    name: str, num_scenes: int, lengths: list[int], seed: int
) -> None:
    """`slope` and `variance` cut 8 still scenes at their 7 changes; `cumulative` cuts 2 at their one."""
    frames = _still_scenes(lengths[:num_scenes], seed=seed)
    (spans,) = cluster_frames(name, frames, num_scenes)
    assert [stop for _, stop in spans] == np.cumsum(lengths[:num_scenes]).tolist()


@given(st.integers(1, 12), st.integers(2, 8))
def test_windowed_cuts_constant_motion_evenly(speed: int, k: int) -> None:
    """A video in constant motion has no quiet part: all of its change is its floor, and the cuts are even."""
    (spans,) = _cluster("windowed", [[speed] * 39], k)
    sizes = [stop - start for start, stop in spans]
    assert max(sizes) - min(sizes) <= 1


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


@given(SEEDS, st.integers(1, 7), st.permutations(range(6)))
def test_step_distances_count_differing_signs(seed: int, num_frames: int, order: list[int]) -> None:
    """Distances are the number of signs `x > 0` that differ, in any order of channels; zeros count as off."""
    rng = np.random.default_rng(seed)
    activations = rng.integers(-1, 2, (num_frames, 6, 2, 3)).astype(np.float32)
    expected = oracle.step_distances(activations)
    assert _steps(torch.from_numpy(activations)) == expected
    assert _steps(torch.from_numpy(activations)[:, order]) == expected


@pytest.mark.parametrize("num_bits", [1, 7, 8, 127, 128, 300, 70_000])
def test_packed_bits_and_bytes_give_the_same_counts(num_bits: int) -> None:
    """A CPU packs 8 bits into a byte, a GPU does not: in int64 both count what numpy counts, 70,000 too."""
    bits = np.random.default_rng(num_bits).integers(0, 2, (4, num_bits)).astype(bool)
    bits[2] = ~bits[1]
    expected = (bits[1:] != bits[:-1]).sum(axis=1).tolist()
    packed = sign_pattern(torch.from_numpy(bits.astype(np.float32))[:, :, None, None])
    assert packed.dtype == torch.uint8
    assert packed.shape == (4, -(-num_bits // 8))
    for patterns in (packed, torch.from_numpy(bits)):
        distances = step_distances(patterns)
        assert distances.dtype == torch.int64
        assert distances.tolist() == expected
        assert step_distances(patterns[:1]).tolist() == []  # one frame has no step
    assert expected[1] == num_bits


def _means(frames: Tensor, spans: list[tuple[int, int]], *, chunk: int) -> Tensor:
    """Return the means (K, M), summed chunk by chunk."""
    starts, stops = torch.tensor(spans).T
    numbers = torch.arange(len(frames)).split(chunk)
    parts = frames.flatten(1).split(chunk)
    return torch.stack(
        [
            mean(starts, stops, at, frames.dtype) @ part
            for at, part in zip(numbers, parts, strict=True)
        ]
    ).sum(dim=0)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-5)], ids=str
)
@given(
    name=EVERY_CLUSTERING,
    steps=_steps_of_a_video(3),
    k=NUM_CLUSTERS,
    chunk=st.integers(1, 15),
    seed=SEEDS,
)
def test_means_conserve_the_frames(
    dtype: torch.dtype,
    tolerance: float,
    name: str,
    steps: list[int],
    k: int,
    chunk: int,
    seed: int,
) -> None:
    """The sum of size x mean is the sum of frames for T >= K; the means are the oracle's for any chunk."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(len(steps) + 1, 5, dtype=torch.float64, generator=generator).to(dtype)
    (spans,) = _cluster(name, [steps], k)
    means = _means(frames, spans, chunk=chunk)
    expected = oracle.means(frames.numpy(), spans)
    np.testing.assert_allclose(means.numpy(), expected, rtol=tolerance, atol=tolerance)
    if len(frames) >= k:
        sizes = torch.tensor([stop - start for start, stop in spans], dtype=dtype)
        np.testing.assert_allclose(
            (sizes[:, None] * means).sum(0), frames.sum(0), rtol=tolerance, atol=10 * tolerance
        )


@given(EVERY_CLUSTERING, _steps_of_a_video(4), SEEDS)
def test_k_equal_to_t_is_the_identity_and_k_1_the_mean(
    name: str, steps: list[int], seed: int
) -> None:
    """With K = T every mean is its frame, to the bit; with K = 1 the one mean is that of all frames."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(len(steps) + 1, 7, generator=generator, dtype=torch.float64)
    (spans,) = _cluster(name, [steps], len(frames))
    assert torch.equal(_means(frames, spans, chunk=4), frames)
    (spans,) = _cluster(name, [steps], 1)
    torch.testing.assert_close(_means(frames, spans, chunk=5)[0], frames.mean(dim=0))


def test_clusters_print_their_numbers() -> None:
    """The repr prints how many videos and clusters there are, not arrays."""
    ones = torch.ones(2, 3, dtype=torch.int64)
    assert repr(Clusters(ones, ones + 1)) == "Clusters(videos=2, clusters=3)"


@pytest.mark.parametrize(
    ("starts", "stops"),
    [
        ([0, 2], [2, 4]),  # the end is lost
        ([1, 2], [2, 5]),  # the beginning is lost
        ([0, 3], [2, 5]),  # a frame between is lost
        ([0, 2], [3, 5]),  # a frame is in two clusters
        ([0, 0], [0, 5]),  # a cluster is empty
    ],
)
def test_clusters_that_are_no_partition_are_refused(starts: list[int], stops: list[int]) -> None:
    """A clustering that loses a frame of the 5, or leaves a cluster empty, is refused with its clusters."""
    clusters = Clusters(torch.tensor([starts]), torch.tensor([stops]))
    with pytest.raises(ValueError, match="must cover the 5 frames"):
        Assignment.of_all_frames(clusters, [5], mean)
