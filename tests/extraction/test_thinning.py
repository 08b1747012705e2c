"""Fewer frames on purpose: which frames stay at a stride or at the ticks of a clock."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fvar.extraction.thinning import keep_frames


def _kept(times: list[float], **rule: float) -> list[int]:
    keeps = keep_frames(**rule)  # type: ignore[arg-type]  # a stride is an int in the tests below
    following = [*times[1:], None]
    return [
        i for i, (now, then) in enumerate(zip(times, following, strict=True)) if keeps(now, then)
    ]


def _regular(
    num_frames: int, rate: Fraction, *, clock: Fraction, start: float = 0.0
) -> list[float]:
    """Return the times of a video of constant rate, rounded to its clock."""
    return [start + float(round(n / rate / clock) * clock) for n in range(num_frames)]


MILLISECOND = Fraction(1, 1000)
RATES = st.sampled_from([Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60)])
CLOCKS = st.sampled_from([MILLISECOND, Fraction(1, 90000), Fraction(1, 12800)])


@given(st.integers(1, 200), st.integers(1, 50))
def test_a_stride_keeps_every_nth(num_frames: int, stride: int) -> None:
    """Frames 0, stride, 2 stride ... stay, whatever their times."""
    kept = _kept([0.0] * num_frames, stride=stride)
    assert kept == list(range(0, num_frames, stride))


@given(RATES, CLOCKS, st.integers(1, 300), st.floats(1, 4), st.floats(0, 1000))
def test_at_or_above_its_own_rate_nothing_changes(
    rate: Fraction, clock: Fraction, num_frames: int, factor: float, start: float
) -> None:
    """A clock as fast as the video or faster keeps every frame, although times are rounded to the file's."""
    times = _regular(num_frames, rate, clock=clock, start=start)
    kept = _kept(times, fps=float(rate) * factor, clock_seconds=float(clock))
    assert kept == list(range(num_frames))


@given(RATES, CLOCKS, st.integers(2, 300), st.integers(2, 12))
def test_a_whole_fraction_of_the_rate_is_a_stride(
    rate: Fraction, clock: Fraction, num_frames: int, divisor: int
) -> None:
    """A third of the rate keeps frames 0, 3, 6 ..., whichever way the times were rounded."""
    times = _regular(num_frames, rate, clock=clock)
    kept = _kept(times, fps=float(rate / divisor), clock_seconds=float(clock))
    assert kept == list(range(0, num_frames, divisor))


@given(
    st.lists(st.floats(0.001, 2.0), min_size=1, max_size=80), st.floats(0.2, 100), st.floats(0, 100)
)
def test_each_tick_keeps_the_frame_shown_then(steps: list[float], fps: float, start: float) -> None:
    """At a variable rate, kept are the frames on the screen at start + k / fps, each once."""
    times = [start + sum(steps[:n]) for n in range(len(steps) + 1)]
    ends = [*times[1:], times[-1] + (times[-1] - start) / len(steps)]
    wanted = {
        frame
        for tick in range(math.ceil((ends[-1] - start) * fps) + 1)
        for frame, (begin, end) in enumerate(zip(times, ends, strict=True))
        if begin <= start + tick / fps < end
    }
    near_ends = {  # on the very border rounding decides
        frame + side
        for frame, end in enumerate(ends)
        for side in (0, 1)
        if abs((end - start) * fps - round((end - start) * fps)) < 1e-6
    }
    assert set(_kept(times, fps=fps)) ^ wanted <= near_ends


@pytest.mark.parametrize("rule", [{"fps": 0.001}, {"stride": 1000}])
def test_the_first_frame_always_stays(rule: dict[str, float]) -> None:
    """However few frames are asked for, a video keeps one; and one of a single frame is untouched."""
    assert _kept([5.0, 6.0, 7.0], **rule) == [0]
    assert _kept([5.0], **rule) == [0]


def test_without_a_rule_all_stay() -> None:
    """Nothing is left out unless asked for."""
    assert _kept([0.0, 0.0, 1.0]) == [0, 1, 2]
