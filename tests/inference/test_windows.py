"""Windows over a long video: every frame in one, each seen once by the stem, merged to segments."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_samples import sample_pictures, sample_video

from fvar.inference.model import Model
from fvar.inference.prediction import make_segment
from fvar.inference.windows import merge_windows, outputs_of_spans, window_spans
from fvar.store.encoded_video import EncodedVideo


def _video(num_frames: int) -> EncodedVideo:
    """Return a video of 25 frames per second."""
    return sample_video(sample_pictures("windows", 1) * num_frames)


@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 30))
def test_every_frame_is_in_a_window(num_frames: int, size: int, hop: int) -> None:
    """Windows rise, hold at most the frames of their length, and leave no frame out."""
    hop = min(hop, size)
    spans = window_spans(_video(num_frames), seconds=size / 25, hop_seconds=hop / 25)
    assert {t for start, stop in spans for t in range(start, stop)} == set(range(num_frames))
    assert spans == sorted(spans)
    assert [stop for _, stop in spans] == sorted(stop for _, stop in spans)
    assert {stop - start for start, stop in spans} == {min(size, num_frames)}
    assert all(start % hop == 0 for start, _ in spans[:-1])


@given(st.integers(1, 9), st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), min_size=1))
def test_outputs_of_spans_are_cut_from_chunks(chunk: int, drawn: list[tuple[int, int]]) -> None:
    """Each span gets its own frames, wherever chunks end; no chunk is asked for that is not needed."""
    starts = sorted(start for start, _ in drawn)
    stops = sorted(start + size for start, size in drawn)
    spans = list(zip(starts, stops, strict=True))
    outputs = torch.arange(40.0)[:, None, None, None]
    taken = []

    def chunks() -> object:
        for part in outputs.split(chunk):
            taken.append(part)
            yield part

    for span, found in zip(spans, outputs_of_spans(chunks(), spans), strict=True):  # type: ignore[arg-type]
        assert found[:, 0, 0, 0].tolist() == list(range(*span))
    assert len(taken) == -(-stops[-1] // chunk)


def test_windows_are_merged_by_the_mean_of_their_scores() -> None:
    """Where windows overlap their mean decides; segments below the threshold are left out."""
    video, classes = _video(30), ["a", "b"]
    scores = {(0, 10): 0.9, (5, 15): 0.8, (10, 20): 0.1, (15, 25): 0.4, (20, 30): 0.4}
    windows = [
        make_segment(video, *span, np.array([a, 1 - a], np.float32), classes)
        for span, a in scores.items()
    ]
    # frames 0-5: 0.9; 5-10: 0.85; 10-15: 0.45 and so b; 15-20: 0.25; 20-30: 0.4
    found = merge_windows(windows, video, classes, threshold=0.6)
    assert [(s.label, s.start_frame, s.stop_frame) for s in found] == [("a", 0, 10), ("b", 10, 30)]
    assert found[0].probability == pytest.approx(0.875)
    assert found[1].probability == pytest.approx((5 * 0.55 + 5 * 0.75 + 10 * 0.6) / 20)
    assert (found[0].start_seconds, found[0].stop_seconds) == (0, 0.4)
    alone = merge_windows(windows, video, classes, threshold=0.7)
    assert [segment.label for segment in alone] == ["a"]


def test_a_window_over_the_whole_video_is_its_prediction(model: Model, clip: Path) -> None:
    """With one window the scores are those of `predict`, to the precision of floats."""
    _, decoded = model.decode(clip)
    assert decoded.video is not None
    (window,) = model.windows("clip", decoded.video, seconds=9, hop_seconds=1)
    np.testing.assert_allclose(window.scores, model.predict(clip).scores, rtol=1e-4)


def test_the_stem_sees_each_frame_once(
    model: Model, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows overlap, but no frame is decoded twice."""
    _, decoded = model.decode(clip)
    assert decoded.video is not None
    seen = list[int]()
    read = EncodedVideo.frame

    def reading(self: EncodedVideo, index: int) -> object:
        seen.append(index)
        return read(self, index)

    monkeypatch.setattr(EncodedVideo, "frame", reading)
    windows = model.windows("clip", decoded.video, seconds=0.24, hop_seconds=0.08)
    assert len(windows) == 4
    assert seen == list(range(12))
