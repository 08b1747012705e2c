"""Move4MNIST, the toy set: clips that only their motion tells apart, written as videos and a source CSV.

Letters: T frames, S side of the picture in px, P side of a digit in px, N informative frames.
"""

import io
import math
import re
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
from fvar.sources.toy.digits import Digits, load_digits
from fvar.sources.toy.mp4 import Pictures, write_mp4
from fvar.store.files import REPLACE, atomic_path, check_out_dir

Direction = Literal["left", "right", "up", "down"]
ToySplit = Literal["train", "test"]

LABELS: tuple[Direction, ...] = ("left", "right", "up", "down")
SPLITS: tuple[ToySplit, ...] = ("train", "test")
TRAIN_CLIPS_PER_TEST_CLIP = 3
NOISE_SIGMA = 2.0  # of 255, where nothing else is set: the flicker of a still camera's picture
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
        The path of the source CSV.

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
        raise ConfigError(source, "exists already", fix=REPLACE)
    photograph = load_photograph(config.size)
    folder = None if config.digits is None else Path(config.digits)
    digits = load_digits(folder, side_px=digit_px(config.size))
    clips = toy_clips(config)
    rows = [SourceRow(c.name, f"{c.name}.mp4", c.label, c.split) for c in clips]
    _remove_old(out_dir, keep={row.video for row in rows})
    with reporter.progress("drawing clips", total=len(clips), unit="clips") as progress:
        for clip, row in zip(clips, rows, strict=True):
            frames = draw_clip(clip, config, photograph=photograph, digits=digits)
            with atomic_path(out_dir / VIDEOS_NAME / row.video) as path:
                write_mp4(path, frames)
            progress.advance()
    write_source(source, rows)
    return source


def toy_clips(config: ToyConfig) -> list[Clip]:
    """Return the clips of the set in the order of its source CSV; of each class a third as many to test."""
    num_test = math.ceil(config.clips_per_class / TRAIN_CLIPS_PER_TEST_CLIP)
    return [
        Clip(split, label, index)
        for split, number in zip(SPLITS, (config.clips_per_class, num_test), strict=True)
        for label in LABELS
        for index in range(number)
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


def _check_track(config: ToyConfig) -> None:
    room = config.size - digit_px(config.size)
    length = (config.informative - 1) * config.step_px
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
    # A digit is white; its gray level is its opacity.
    pair = pool[rng.integers(len(pool), size=2)].astype(np.float32) / 255  # (2, P, P)
    side = pair.shape[1]
    places = track(config, rng, direction=clip.label)
    informative, frames = _backgrounds(config, photograph, rng)
    for turn, (frame, (x, y)) in enumerate(zip(informative, places, strict=True)):
        patch = frames[frame, y : y + side, x : x + side]
        patch += pair[turn % 2] * (255 - patch)
    return np.asarray(np.rint(frames.clip(0, 255)), np.uint8)


def track(
    config: ToyConfig, rng: np.random.Generator, *, direction: Direction
) -> npt.NDArray[np.int64]:
    """Draw where the digit is in each informative frame.

    A single place must not tell the class. Left is right played backwards, so both see the same places. The
    coordinate that a clip keeps is a random point of another such track. So the place in a random
    informative frame has the same distribution in all four classes.

    Returns:
        int64 (N, 2): x and y of the digit's upper left corner in px, in order of time.
    """
    steps = np.arange(config.informative) * config.step_px
    slack = max(0.0, config.size - digit_px(config.size) - steps[-1])
    along = rng.uniform(0, slack) + steps
    across = np.full(config.informative, rng.uniform(0, slack) + rng.choice(steps))
    forwards = direction in ("right", "down")
    moving = along if forwards else along[::-1]
    columns = (moving, across) if direction in ("left", "right") else (across, moving)
    return np.asarray(np.rint(np.stack(columns, axis=1)), np.int64)


def _backgrounds(
    config: ToyConfig, photograph: Pictures, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return which frames are informative, int64 (N,), and all frames without a digit, float32 (T, S, S)."""
    if config.layout == "burst":
        # Informative frames follow one another; every frame is the photograph with noise.
        start = rng.integers(config.frames - config.informative + 1)
        sigma = NOISE_SIGMA if config.noise is None else config.noise
        noise = _noise(config, photograph, sigma, rng)
        return start + np.arange(config.informative), photograph + noise
    # Informative frames are anywhere; the others are black or the photograph, at random.
    informative = np.sort(rng.choice(config.frames, size=config.informative, replace=False))
    shows_photograph = rng.random(config.frames) < 0.5
    shows_photograph[informative] = True
    pictures = np.where(shows_photograph[:, None, None], photograph, np.float32(0))
    return informative, pictures + _noise(config, photograph, config.noise or 0.0, rng)


def _noise(
    config: ToyConfig, photograph: Pictures, sigma: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return independent noise for every pixel of a clip, float32 (T, S, S)."""
    noise = rng.standard_normal((config.frames, *photograph.shape), dtype=np.float32)
    return noise * np.float32(sigma)
