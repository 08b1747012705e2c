"""The toy set: only motion tells the class, and a clip depends on its own name and the seed alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import av
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fvar.config import ToyConfig
from fvar.errors import ConfigError, ManifestError, StoppedError
from fvar.reporting import SilentReporter
from fvar.sources.source_csv import read_source
from fvar.sources.toy.digits import Digits
from fvar.sources.toy.move4mnist import (
    LABELS,
    Clip,
    Direction,
    digit_px,
    draw_clip,
    load_photograph,
    make_toy,
    toy_clips,
    track,
)

HEADINGS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def config(**settings: Any) -> ToyConfig:
    return ToyConfig.model_validate(settings)


def flat_digits(*, train: int, test: int, side: int = 28) -> Digits:
    """Digits that are one full square each; the grays from 1 up tell which."""
    grays = np.arange(1, train + test + 1, dtype=np.uint8)
    pictures = np.broadcast_to(grays[:, None, None], (train + test, side, side))
    return Digits(pictures[:train], pictures[train:])


def draw(settings: ToyConfig, *, clip: Clip, ink: int = 255) -> tuple[np.ndarray, np.ndarray]:
    """Draw a clip with one full digit; return it and the photograph."""
    side = digit_px(settings.size)
    square = np.full((1, side, side), ink, np.uint8)
    photograph = load_photograph(settings.size)
    digits = Digits(square, square)
    return draw_clip(clip, settings, photograph=photograph, digits=digits), photograph


def make(folder: Path, **settings: Any) -> Path:
    settings = {"clips_per_class": 3, "frames": 6, "informative": 4, **settings}
    overwrite = settings.pop("overwrite", False)
    return make_toy(folder, config(**settings), SilentReporter(), overwrite=overwrite)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.*")}


tracks = st.builds(
    config,
    size=st.integers(16, 128).map(lambda half: 2 * half),
    informative=st.integers(2, 20),
    frames=st.just(20),
    step_px=st.floats(0.25, 6),
)


@given(settings=tracks, seed=st.integers(0, 2**32), direction=st.sampled_from(LABELS))
def test_the_digit_stays_inside_and_moves_its_way(
    settings: ToyConfig, seed: int, direction: Direction
) -> None:
    """Every place lies inside; the digit moves its class's way and keeps the other coordinate."""
    room = settings.size - digit_px(settings.size)
    length = (settings.informative - 1) * settings.step_px
    assume(length <= room)
    places = track(settings, np.random.default_rng(seed), direction=direction)
    assert places.min() >= 0
    assert places.max() <= room
    heading = np.array(HEADINGS[direction])
    moved = places - places[0]
    wanted = np.arange(settings.informative)[:, None] * settings.step_px * heading
    assert np.abs(moved - wanted).max() <= 1  # places are whole pixels
    assert np.all(moved[:, heading == 0] == 0)


@given(settings=tracks, seed=st.integers(0, 2**32))
def test_opposite_classes_see_the_same_places(settings: ToyConfig, seed: int) -> None:
    """Left is right played backwards, up is down played backwards, down is right with its axes exchanged."""
    assume((settings.informative - 1) * settings.step_px <= settings.size - digit_px(settings.size))
    places = {d: track(settings, np.random.default_rng(seed), direction=d) for d in LABELS}
    assert np.array_equal(places["left"], places["right"][::-1])
    assert np.array_equal(places["up"], places["down"][::-1])
    assert np.array_equal(places["down"], places["right"][:, ::-1])


def test_a_single_place_does_not_tell_the_axis() -> None:
    """Over many clips the two coordinates of a frame have the same distribution, whichever of them moves."""
    rng = np.random.default_rng(0)
    tracks = [track(config(), rng, direction="right") for _ in range(6_000)]
    places = np.concatenate(tracks)  # (clips * frames, 2)
    edges = np.arange(0, 38, 4)
    moving, still = (np.histogram(places[:, axis], edges)[0] / len(places) for axis in (0, 1))
    assert np.abs(moving - still).sum() < 0.06
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.04


@pytest.mark.parametrize("label", LABELS)
def test_scattered_frames(label: Direction) -> None:
    """N frames show the digit over the photograph; half of the others are black, half the photograph."""
    settings = config(frames=40, informative=9)
    kinds = []
    for index in range(30):
        clip, photograph = draw(settings, clip=Clip("train", label, index))
        still = [np.array_equal(frame, photograph) for frame in clip]
        black = [not frame.any() for frame in clip]
        shows = [bool((frame == 255).sum() >= 28 * 28) for frame in clip]
        assert np.all(np.add.reduce([still, black, shows]) == 1)
        assert sum(shows) == 9
        for frame in clip[shows]:
            assert np.array_equal(frame[frame != 255], photograph[frame != 255])
        kinds.append((sum(black), sum(still)))
    num_black, num_still = np.sum(kinds, axis=0)
    assert 0.4 < num_black / (num_black + num_still) < 0.6  # 930 tosses: sigma 0.016


@pytest.mark.slow
def test_informative_frames_are_anywhere() -> None:
    """Over many clips every frame of a clip shows the digit equally often."""
    settings = config(frames=8, informative=4)
    shows = np.zeros(8)
    for index in range(400):
        clip, _ = draw(settings, clip=Clip("train", "up", index))
        shows += [(frame == 255).sum() >= 28 * 28 for frame in clip]
    assert np.all(np.abs(shows / 400 - 0.5) < 0.12)  # sigma 0.025


def test_burst_frames() -> None:
    """The digit shows in consecutive frames; every other frame is the photograph with noise of sigma 2."""
    settings = config(layout="burst", frames=30, informative=7)
    starts = set()
    for index in range(20):
        clip, photograph = draw(settings, clip=Clip("test", "down", index))
        shows = np.flatnonzero([(frame == 255).sum() >= 28 * 28 for frame in clip])
        assert np.array_equal(shows, shows[0] + np.arange(7))
        starts.add(int(shows[0]))
        noise = np.delete(clip, shows, axis=0).astype(float) - photograph
        assert noise.std() == pytest.approx(np.sqrt(2**2 + 1 / 12), rel=0.03)  # plus rounding
        assert abs(noise.mean()) < 0.05
    assert len(starts) > 5


@pytest.mark.parametrize("layout", ["scattered", "burst"])
def test_noise_is_on_every_pixel_of_a_clip(layout: Any) -> None:
    """With noise the frames of either layout differ from those without by independent noise of that size."""
    settings = config(layout=layout, frames=30, informative=7, noise=0)
    clean, _ = draw(settings, clip=Clip("test", "up", 3))
    noisy, _ = draw(settings.model_copy(update={"noise": 8.0}), clip=Clip("test", "up", 3))
    middle = (clean > 40) & (clean < 215)  # noise is not cut off at black or white there
    added = (noisy.astype(float) - clean)[middle]
    assert added.std() == pytest.approx(np.sqrt(8**2 + 1 / 12), rel=0.03)
    assert abs(added.mean()) < 0.2
    assert (noisy != clean).any(axis=(1, 2)).all()


@pytest.mark.parametrize("split", ["train", "test"])
def test_two_digits_take_turns(split: Any) -> None:
    """Informative frames show one digit, then the other, in turn, both from the split's own pool."""
    digits = flat_digits(train=100, test=100)
    black = np.zeros((64, 64), np.uint8)
    pools: set[int] = set()
    for index in range(20):
        clip = draw_clip(Clip(split, "left", index), config(), photograph=black, digits=digits)
        grays = [int(frame.max()) for frame in clip if frame.any()]
        assert len(grays) == config().informative
        assert grays == [grays[0], grays[1]] * (len(grays) // 2)
        pools.update(grays)
    assert len(pools) > 20
    assert all((gray <= 100) == (split == "train") for gray in pools)


def test_a_gray_digit_covers_in_part() -> None:
    """A digit of half ink lifts the photograph half the way to white."""
    clip, photograph = draw(config(frames=4, informative=4), clip=Clip("train", "up", 0), ink=51)
    lifted = clip[0] != photograph
    wanted = photograph[lifted] + 0.2 * (255 - photograph[lifted].astype(float))
    assert np.allclose(clip[0][lifted], wanted, atol=0.51)


def test_clips_differ_and_do_not_depend_on_the_rest() -> None:
    """A clip depends on the seed, split, label and index, not on how many clips the set has."""
    photograph, digits = load_photograph(64), flat_digits(train=50, test=50)

    def drawn(clip: Clip, **settings: Any) -> bytes:
        return draw_clip(clip, config(**settings), photograph=photograph, digits=digits).tobytes()

    first = Clip("train", "left", 0)
    others = [
        replace(first, **change) for change in ({"index": 1}, {"label": "up"}, {"split": "test"})
    ]
    assert len({drawn(clip) for clip in (first, *others)} | {drawn(first, seed=1)}) == 5
    assert drawn(first) == drawn(first, clips_per_class=7)


def test_the_set_on_disk(tmp_path: Path) -> None:
    """The CSV lists every clip, a third as many to test, and every video has exactly its frames."""
    source = make(tmp_path, clips_per_class=4, frames=7, informative=3)
    assert source == tmp_path / "toy.csv"
    rows = read_source(source)
    count = {(s, n): 0 for s in ("train", "test") for n in LABELS}
    for row in rows:
        count[row.split, row.label] += 1
        with av.open(str(tmp_path / "videos" / row.video)) as container:
            frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert [frame.shape for frame in frames] == [(64, 64)] * 7
    assert all(number == (4 if split == "train" else 2) for (split, _), number in count.items())
    assert {row.video for row in rows} == {path.name for path in (tmp_path / "videos").iterdir()}


def test_published_size() -> None:
    """The default set has 1,800 clips to train and 600 to test (METHOD: Move4MNIST)."""
    splits = [clip.split for clip in toy_clips(config())]
    assert (splits.count("train"), splits.count("test")) == (1800, 600)


def test_same_seed_same_files(tmp_path: Path) -> None:
    """Sets of one seed are identical to the byte, and a larger one contains the smaller."""
    for name in "ab":
        make(tmp_path / name)
    make(tmp_path / "more", clips_per_class=4)
    make(tmp_path / "other", seed=1)
    a, b, more, other = (content(tmp_path / n) for n in ("a", "b", "more", "other"))
    assert a == b
    assert all(more[name] == data for name, data in a.items() if name != "toy.csv")
    assert other["train_up_00000.mp4"] != a["train_up_00000.mp4"]


def test_a_set_is_not_replaced_unasked(tmp_path: Path) -> None:
    """A folder with toy.csv is refused; with overwrite the old clips go and foreign files stay."""
    make(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=r"toy\.csv: exists already.*--overwrite"):
        make(tmp_path)
    assert content(tmp_path) == before
    (tmp_path / "videos" / "mine.mp4").write_text("mine")
    make(tmp_path, clips_per_class=1, overwrite=True)
    assert len(read_source(tmp_path / "toy.csv")) == 8
    assert len(list((tmp_path / "videos").iterdir())) == 9
    assert (tmp_path / "videos" / "mine.mp4").read_text() == "mine"


def test_an_unfinished_set_has_no_manifest(tmp_path: Path, monkeypatch: Any) -> None:
    """A run that stops while it draws leaves no toy.csv, not even the replaced one; a rerun completes it."""
    make(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(
            "fvar.sources.toy.move4mnist.write_mp4", Mock(side_effect=KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path, overwrite=True)
    assert not (tmp_path / "toy.csv").exists()
    make(tmp_path)
    assert (tmp_path / "toy.csv").exists()


def test_a_folder_that_cannot_be_cleared(tmp_path: Path, monkeypatch: Any) -> None:
    """A file in place of the folder is refused; a file that cannot be removed is an error that names it."""
    (tmp_path / "file").touch()
    with pytest.raises(ManifestError, match=r"file: is a file"):
        make(tmp_path / "file")
    make(tmp_path / "toy")
    refusal = PermissionError(13, "Permission denied", str(tmp_path / "toy" / "toy.csv"))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", Mock(side_effect=refusal))
        with pytest.raises(StoppedError, match=r"toy\.csv: cannot be removed \(Permission denied"):
            make(tmp_path / "toy", overwrite=True)


def test_a_track_that_does_not_fit(tmp_path: Path) -> None:
    """Too long a track is refused with the numbers and with what fits; nothing is written."""
    with pytest.raises(ConfigError) as caught:
        make(tmp_path / "toy", frames=24, informative=24, step_px=2.0)
    said = str(caught.value)
    assert "--informative 24 --step-px 2: the digit would move 46 px" in said
    assert "64 px leaves 36 px beside a digit of 28 px" in said
    assert "--step-px 1.56 or less, or --informative 19 or less" in said
    assert not (tmp_path / "toy").exists()
    make(tmp_path / "a", clips_per_class=1, frames=24, informative=24, step_px=1.56)
    make(tmp_path / "b", clips_per_class=1, frames=24, informative=19, step_px=2.0)
