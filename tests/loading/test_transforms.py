"""Views and transforms: crops lie inside the picture, pixel values are those of a slow reference."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2.functional import resized_crop
from training_samples import tiny_config

from fvar.loading.transforms import MEAN, MULTI_SCALES, STD, Framing, center_framing
from fvar.loading.transforms import multi_scale_framing as multi_scale
from fvar.loading.view import View, evaluation_view, training_view

sides = st.integers(16, 700)
keys = st.integers(0, 2**63 - 1)


def _pictures(n: int, height: int, width: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, height, width), generator=draw, dtype=torch.uint8)


def _seen(framing: Framing, pictures: torch.Tensor, *, size: int) -> torch.Tensor:
    return framing.finish(framing.crop(pictures, size=size))


def _halved(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Shrink a square to half its side with the triangle filter that antialiasing means, tap by tap."""
    side = len(picture) // 2
    taps = np.zeros((side, len(picture)))
    for i in range(side):
        for source in range(len(picture)):
            taps[i, source] = max(0.0, 1 - abs(source + 0.5 - 2 * (i + 0.5)) / 2)
    taps /= taps.sum(axis=1, keepdims=True)
    return taps @ picture.astype(np.float64) @ taps.T


@given(sides, sides, st.booleans(), st.floats(0.05, 1), keys)
def test_crop_lies_inside_the_picture(
    height: int, width: int, central: bool, fraction: float, key: int
) -> None:
    """Whatever is drawn, no pixel outside the picture is asked for, and at least one inside."""
    framing = multi_scale(height, width, key=key)
    if central:
        framing = center_framing(height, width, fraction=fraction)
    assert 0 <= framing.top <= framing.top + framing.height <= height
    assert 0 <= framing.left <= framing.left + framing.width <= width
    assert framing.height >= 1
    assert framing.width >= 1


@given(sides, sides, st.floats(0.05, 1))
def test_center_crop_is_central_and_square(height: int, width: int, fraction: float) -> None:
    """Its side is the fraction of the short side, its margins differ by at most a pixel."""
    framing = center_framing(height, width, fraction=fraction)
    assert framing.height == framing.width == max(1, round(min(height, width) * fraction))
    assert 0 <= (height - framing.height) - 2 * framing.top <= 1
    assert 0 <= (width - framing.width) - 2 * framing.left <= 1


def test_multi_scale_crops_are_tsms() -> None:
    """Over many draws: TSN's ten pairs of sides (at most one step apart) at its 13 places, and no others."""
    height, width = 400, 600
    side = [round(400 * scale) for scale in MULTI_SCALES]
    pairs = {(side[i], side[j]) for i in range(4) for j in range(4) if abs(i - j) <= 1}
    drawn = [multi_scale(height, width, key=key) for key in range(3000)]
    assert {(framing.height, framing.width) for framing in drawn} == pairs
    smallest = [f for f in drawn if (f.height, f.width) == (side[3], side[3])]
    places = {(f.top, f.left) for f in smallest}
    down, right = (height - side[3]) // 4, (width - side[3]) // 4
    corners = {(a * down, b * right) for a in (0, 4) for b in (0, 4)}
    assert corners | {(2 * down, 2 * right)} <= places
    assert len(places) == 13


def test_apply_equals_a_slow_reference() -> None:
    """Crop, halving with antialiasing and ImageNet's normalization, within one grey level's rounding."""
    pictures = _pictures(2, 30, 40)
    seen = _seen(Framing(3, 5, 24, 24), pictures, size=12)
    assert seen.shape == (2, 3, 12, 12)
    assert seen.dtype == torch.float32
    for n in range(2):
        for channel in range(3):
            cropped = pictures[n, channel, 3:27, 5:29].numpy()
            expected = (_halved(cropped) / 255 - MEAN[channel]) / STD[channel]
            grey_level = 1 / 255 / STD[channel]
            assert np.abs(seen[n, channel].numpy() - expected).max() < grey_level


def test_apply_without_resizing_is_exact() -> None:
    """A crop of the network's own size is only normalized: (x/255 - mean) / std."""
    pictures = _pictures(1, 20, 20)
    seen = _seen(Framing(2, 4, 16, 16), pictures, size=16)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(seen[0], (pictures[0, :, 2:18, 4:20] / 255 - mean) / std)


@given(sides, sides, st.integers(1, 3), st.integers(8, 250), keys)
def test_crops_are_torchvisions_to_the_bit(
    height: int, width: int, n: int, size: int, key: int
) -> None:
    """Cropping and resizing give the integers that torchvision gives, whatever the sizes and the layout."""
    pictures = _pictures(n, height, width)
    if key % 2:
        pictures = pictures.contiguous(memory_format=torch.channels_last)
    crop = multi_scale(height, width, key=key)
    expected = resized_crop(pictures, *crop.rectangle, [size, size])
    assert torch.equal(crop.crop(pictures, size=size), expected)


def test_mirrored_is_the_same_crop_from_right_to_left() -> None:
    """Mirroring turns what is seen, not what is cropped."""
    pictures = _pictures(2, 30, 40)
    plain = _seen(Framing(1, 2, 20, 24), pictures, size=16)
    mirrored = _seen(Framing(1, 2, 20, 24, mirrored=True), pictures, size=16)
    assert torch.equal(mirrored, plain.flip(-1))
    assert not torch.equal(mirrored, plain)


def _framing(view: View, *, epoch: int = 1, video_id: str = "a") -> Framing:
    return view.framing(100, 150, epoch=epoch, video_id=video_id)


def _view(**changes: object) -> View:
    return training_view(tiny_config(**changes), epoch=0)


def test_a_video_has_one_framing_an_epoch() -> None:
    """Crop and flip depend on seed, epoch and id alone, and change with each of them."""
    views = [_view(seed=seed) for seed in range(20)]
    framings = [_framing(view) for view in views]
    assert framings == [_framing(view) for view in views]
    assert framings != [_framing(view, epoch=2) for view in views]
    assert framings != [_framing(view, video_id="b") for view in views]
    assert len(set(framings)) > 5


def test_half_of_the_training_videos_are_mirrored() -> None:
    """`flip` mirrors about every other video; without it, and in testing, none."""

    def mirrored(view: View) -> int:
        return sum(_framing(view, video_id=f"video-{n}").mirrored for n in range(400))

    assert abs(mirrored(_view()) - 200) < 50  # 5 standard deviations of a fair coin
    assert mirrored(_view(flip=False)) == mirrored(evaluation_view(tiny_config())) == 0


@pytest.mark.parametrize(
    ("changes", "num_views"),
    [
        ({}, 4),
        ({"views": 2}, 2),
        ({"views": 0}, 0),
        ({"crop": "center"}, 0),
        ({"freeze_stem": False}, 0),
        ({"clustering": "random"}, 0),
        ({"clustering": "uniform"}, 0),
        ({"clustering": "none"}, 0),
    ],
    ids=str,
)
def test_views_are_few_only_where_they_can_be_kept(
    changes: dict[str, object], num_views: int
) -> None:
    """A frozen stem before deterministic clusters sees 4 crops of a video; otherwise each epoch draws one."""
    assert _view(**({"freeze_stem": True} | changes)).num_views == num_views


def test_every_other_view_is_mirrored() -> None:
    """Of 4 views 2, for every video; all epochs and seeds draw from the same views."""
    for video in ("a", "b", "c"):
        views = [_view(freeze_stem=True, seed=seed) for seed in range(3)]
        seen = [
            {_framing(view, epoch=epoch, video_id=video) for epoch in range(60)} for view in views
        ]
        assert seen[0] == seen[1] == seen[2]
        assert sorted(framing.mirrored for framing in seen[0]) == [False, False, True, True]


@pytest.mark.parametrize("crop", ["center", "multi-scale"])
def test_testing_takes_the_central_crop(crop: str) -> None:
    """Whatever training crops, testing looks at the center."""
    view = evaluation_view(tiny_config(crop=crop))
    assert _framing(view) == center_framing(100, 150, fraction=0.875)


@pytest.mark.parametrize("clustering", ["uniform", "cumulative", "slope", "even", "random", "none"])
def test_only_uniform_samples(clustering: str) -> None:
    """In testing only `uniform` samples frames; in training also the first `sampled_epochs` do."""
    config, always = tiny_config(clustering=clustering, sampled_epochs=1), clustering == "uniform"
    views = [evaluation_view(config), *(training_view(config, epoch=n) for n in range(2))]
    assert [view.random for view in views] == [False, True, True]
    assert [view.num_samples == 4 for view in views] == [always, True, always]
    assert [view.count_frames(9) for view in views] == [4 if always else 9, 4, 4 if always else 9]
