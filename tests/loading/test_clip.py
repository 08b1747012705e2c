"""Clips: pictures are right, the same at every call, and refused where they are not what the store says."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from training_samples import HEIGHT, WIDTH, sample_clip, sample_pictures, tiny_config

from fvar.errors import FrameStoreError
from fvar.loading import clip as clip_module
from fvar.loading.clip import EncodedClip
from fvar.loading.view import evaluation_view, training_view

VIEW = training_view(tiny_config(), epoch=0)


def _clip(*, epoch: int = 1) -> EncodedClip:
    return sample_clip("b", sample_pictures("b", 9), VIEW, epoch=epoch)


def test_pictures_are_pillows() -> None:
    """Decoding equals Pillow's, up to the rounding of another JPEG decoder: 2 of 255 levels."""
    view = evaluation_view(tiny_config(crop_share=1.0, size=HEIGHT))
    pictures = sample_pictures("a", 3)
    seen = sample_clip("a", pictures, view).pictures(range(3))
    left = (WIDTH - HEIGHT) // 2
    for frame, jpeg in enumerate(pictures):
        picture = np.asarray(Image.open(io.BytesIO(jpeg)), np.float64)[:, left : left + HEIGHT]
        expected = (picture / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        assert np.abs(seen[frame].permute(1, 2, 0).numpy() - expected).max() < 2 / 255 / 0.224


@given(st.lists(st.integers(0, 8), min_size=1, max_size=9))
def test_pictures_are_the_same_at_every_call(asked: list[int]) -> None:
    """A frame is the same to the bit, alone or among others, in any order: a second sweep sees it again."""
    clip = _clip()
    assert torch.equal(clip.pictures(asked), clip.pictures(range(clip.num_frames))[asked])


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_pictures_come_in_order_from_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """As many threads decode as torch computes with; each picture is at its place."""
    clip = _clip()
    expected = torch.cat([clip.pictures([frame]) for frame in range(9)])
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(clip.pictures(range(9)), expected)


def test_all_processors_decode_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU as many threads decode as torch computes with; beside a GPU, whatever torch does, all."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(clip_module, "usable_processors", lambda: 7)
    found = [clip_module._num_threads(torch.device(name)) for name in ("cpu", "cuda")]
    assert found == [1, 7]


def test_epochs_draw_again() -> None:
    """Another epoch gives other cuts and, sooner or later, another crop."""
    clips = [_clip(epoch=epoch) for epoch in range(5)]
    assert len({clip.cut_key for clip in clips}) == 5
    assert any(not torch.equal(clip.pictures([0]), clips[0].pictures([0])) for clip in clips)


@pytest.mark.parametrize(
    ("bad", "problem"), [(b"not a picture", "no JPEG header"), (None, "truncated")]
)
def test_picture_that_is_no_jpeg_is_named(bad: bytes | None, problem: str) -> None:
    """Bytes that pass every checksum but are no picture are an error with video and frames."""
    pictures = sample_pictures("a", 3)
    pictures[1] = bad or pictures[1][:-200]
    with pytest.raises(FrameStoreError, match=problem) as error:
        sample_clip("clip 7", pictures).pictures([0, 1])
    assert error.value.thing == "video 'clip 7': frames 0 to 1"


def test_picture_of_another_size_is_named() -> None:
    """A picture that is not as large as its store says would be cropped elsewhere: refused."""
    clip = sample_clip("a", sample_pictures("a", 2))
    wider = replace(clip.video, width=WIDTH + 2)
    clip = replace(clip, load=lambda: wider)
    with pytest.raises(FrameStoreError, match=r"\(40, 48\) px .* \(40, 50\)") as error:
        clip.pictures([1])
    assert error.value.thing == "video 'a': frames 1 to 1"
