"""Move4MNIST, the toy set: clips that only their motion tells apart, written as videos and a source manifest.

Letters: T frames, S side of the picture in px, P side of a digit in px, N informative frames.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from fvar.config import ToyConfig
from fvar.errors import ConfigError, StoppedError
from fvar.reporting import Reporter
from fvar.sources.source_csv import SourceRow, write_source
from fvar.sources.toy.digits import Digits, Pictures, load_digits
from fvar.sources.toy.mp4 import write_mp4
from fvar.store.files import atomic_path, check_out_dir

Direction = Literal["left", "right", "up", "down"]
ToySplit = Literal["train", "test"]

LABELS: tuple[Direction, ...] = ("left", "right", "up", "down")
SPLITS: tuple[ToySplit, ...] = ("train", "test")
TRAIN_CLIPS_PER_TEST_CLIP = 3
NOISE_SIGMA = 2.0  # of 255: the flicker of a still camera's picture
SOURCE_NAME, VIDEOS_NAME = "toy.csv", "videos"

_FITS_PX = 1e-6  # tolerance for the rounding of a track's length
_OUR_VIDEO = re.compile(r"(train|test)_(left|right|up|down)_\d{5,}\.mp4")


@dataclass(frozen=True)
class Clip:
    """Which clip of the set."""

    split: ToySplit
    label: Direction
    index: int

    @property
    def name(self) -> str:
        """The clip's id."""
        return f"{self.split}_{self.label}_{self.index:05d}"

    @property
    def file_name(self) -> str:
        """The name of the clip's video."""
        return f"{self.name}.mp4"

    def rng(self, seed: int) -> np.random.Generator:
        """Return the clip's own random numbers, which do not depend on the other clips."""
        key = (SPLITS.index(self.split), LABELS.index(self.label), self.index)
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def make_toy(
    out_dir: Path, config: ToyConfig, reporter: Reporter, *, overwrite: bool = False
) -> Path:
    """Write the toy set: `out_dir/videos/*.mp4` and, last, `out_dir/toy.csv`.

    Args:
        out_dir: Folder of the set; made when absent.
        config: What the clips look like. A clip depends on the seed, its split, label and index alone, so
            a larger set contains the smaller one.
        reporter: Receives the progress.
        overwrite: Replace a set that is there.

    Returns:
        The path of the source manifest.

    Raises:
        ConfigError: The digit's track is longer than the picture, the digits cannot be read, or `out_dir`
            holds a set and `overwrite` is off.
        ManifestError: `out_dir` is a file, or holds a stage's complete run and `overwrite` is off.
        StoppedError: The folder is full or read-only; a rerun writes everything.
    """
    _check_track(config)
    check_out_dir(out_dir, overwrite=overwrite)
    source = out_dir / SOURCE_NAME
    if source.exists() and not overwrite:
        raise ConfigError(
            source, "exists already", fix="choose another --out or pass --overwrite to replace it"
        )
    photograph = load_photograph(config.size)
    folder = None if config.digits is None else Path(config.digits)
    digits = load_digits(folder, side_px=digit_px(config.size))
    clips = toy_clips(config)
    _remove_old(out_dir, keep={clip.file_name for clip in clips})
    with reporter.progress("drawing clips", total=len(clips), unit="clips") as progress:
        for clip in clips:
            frames = draw_clip(clip, config, photograph=photograph, digits=digits)
            with atomic_path(out_dir / VIDEOS_NAME / clip.file_name) as path:
                write_mp4(path, frames)
            progress.advance()
    write_source(source, [SourceRow(c.name, c.file_name, c.label, c.split) for c in clips])
    return source


def num_clips_per_class(config: ToyConfig, split: ToySplit) -> int:
    """Return how many clips of each class `split` has: a third as many to test, rounded up."""
    if split == "train":
        return config.clips_per_class
    return -(-config.clips_per_class // TRAIN_CLIPS_PER_TEST_CLIP)


def toy_clips(config: ToyConfig) -> list[Clip]:
    """Return the clips of the set in the order of its source manifest."""
    return [
        Clip(split, label, index)
        for split in SPLITS
        for label in LABELS
        for index in range(num_clips_per_class(config, split))
    ]


def _remove_old(out_dir: Path, *, keep: set[str]) -> None:
    """Delete `toy.csv` and the clips of a larger set; other files stay."""
    try:
        (out_dir / SOURCE_NAME).unlink(missing_ok=True)
        for path in (out_dir / VIDEOS_NAME).glob("*.mp4"):
            if _OUR_VIDEO.fullmatch(path.name) and path.name not in keep:
                path.unlink()
    except OSError as error:
        raise StoppedError(
            error.filename or out_dir,
            f"cannot be removed ({error.strerror or error})",
            fix="make the folder writable and run again, or choose another --out",
        ) from error


def digit_px(size: int) -> int:
    """Return the side of a digit in a picture of `size` px: 28 px, MNIST's own, in 64."""
    return size * 7 // 16


def _room_px(size: int) -> int:
    return size - digit_px(size)


def _track_px(config: ToyConfig) -> float:
    return (config.informative - 1) * config.step_px


def _check_track(config: ToyConfig) -> None:
    room, length = _room_px(config.size), _track_px(config)
    if length > room + _FITS_PX:
        longest_step = int(room / (config.informative - 1) * 100) / 100
        raise ConfigError(
            f"--informative {config.informative} --step-px {config.step_px:g}",
            f"the digit would move {length:g} px, a picture of {config.size} px leaves {room} px "
            f"beside a digit of {digit_px(config.size)} px",
            fix=f"use --step-px {longest_step:g} or less, or --informative "
            f"{int(room / config.step_px) + 1} or less, or a larger --size",
        )


def load_photograph(size: int) -> Pictures:
    """Return the one photograph behind every digit: uint8 (S, S)."""
    data = (files("fvar.sources.toy") / "assets" / "photograph.png").read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("L").resize((size, size), Image.Resampling.LANCZOS))


def draw_clip(clip: Clip, config: ToyConfig, *, photograph: Pictures, digits: Digits) -> Pictures:
    """Draw one clip.

    Args:
        clip: Which one.
        config: The settings of the set.
        photograph: uint8 (S, S).
        digits: Of side `digit_px(S)`.

    Returns:
        uint8 (T, S, S).
    """
    rng = clip.rng(config.seed)
    pool = digits.train if clip.split == "train" else digits.test
    pair = pool[rng.integers(len(pool), size=2)]  # (2, P, P)
    places = track(config, rng, direction=clip.label)
    informative, frames = _LAYOUTS[config.layout](config, photograph, rng)
    for turn, (frame, (x, y)) in enumerate(zip(informative, places, strict=True)):
        _draw(frames[frame], pair[turn % 2], x=x, y=y)
    return np.asarray(np.rint(frames.clip(0, 255)), np.uint8)


def track(
    config: ToyConfig, rng: np.random.Generator, *, direction: Direction
) -> npt.NDArray[np.int64]:
    """Draw where the digit is in each informative frame.

    A single place must not tell the class. Left is right run backwards, so both see the same places. The
    coordinate that a clip keeps is a random point of another such track. So the place in a random
    informative frame has the same distribution in all four classes.

    Returns:
        int64 (N, 2): x and y of the digit's upper left corner in px, in order of time.
    """
    slack = max(0.0, _room_px(config.size) - _track_px(config))
    steps = np.arange(config.informative) * config.step_px
    along = rng.uniform(0, slack) + steps
    across = np.full(config.informative, rng.uniform(0, slack) + rng.choice(steps))
    forwards = direction in ("right", "down")
    moving = along if forwards else along[::-1]
    columns = (moving, across) if direction in ("left", "right") else (across, moving)
    return np.asarray(np.rint(np.stack(columns, axis=1)), np.int64)


def _draw(frame: npt.NDArray[np.float32], digit: Pictures, *, x: int, y: int) -> None:
    """Paint a white digit over `frame`, in place; the digit's gray level is its opacity."""
    side = digit.shape[0]
    cover = digit.astype(np.float32) / 255
    patch = frame[y : y + side, x : x + side]
    patch += cover * (255 - patch)


def _scattered(
    config: ToyConfig, photograph: Pictures, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Informative frames anywhere; the others are black or the photograph, at random."""
    informative = np.sort(rng.choice(config.frames, size=config.informative, replace=False))
    shows_photograph = rng.random(config.frames) < 0.5
    shows_photograph[informative] = True
    return informative, np.where(
        shows_photograph[:, None, None], photograph.astype(np.float32), np.float32(0)
    )


def _burst(
    config: ToyConfig, photograph: Pictures, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Informative frames one after another; every frame is the photograph with faint noise."""
    start = rng.integers(config.frames - config.informative + 1)
    noise = rng.standard_normal((config.frames, *photograph.shape), dtype=np.float32) * NOISE_SIGMA
    return start + np.arange(config.informative), photograph.astype(np.float32) + noise


_Layout = Callable[
    [ToyConfig, Pictures, np.random.Generator],
    tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]],
]
_LAYOUTS: dict[str, _Layout] = {"scattered": _scattered, "burst": _burst}
