"""Handwritten digits for the toy set: the bundled ones, or those of MNIST idx files."""

import gzip
import io
import zlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from fvar.errors import ConfigError
from fvar.sources.toy.mp4 import Pictures

_BUNDLED_WHITE = 16  # the bundled digits count dark pixels in blocks of 4x4
_IDX_MAGIC = 2051  # unsigned bytes in three dimensions
_IDX_HEADER_BYTES = 16
_MAX_IDX_PICTURES = 1_000_000  # MNIST has 60,000; a forged header must not fill the memory
_MAX_IDX_SIDE_PX = 64
_FILES = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")


@dataclass(frozen=True)
class Digits:
    """Digits to train and to test with; no digit is in both.

    Attributes:
        train: uint8 (N, P, P), 0 paper to 255 ink.
        test: uint8 (M, P, P).
    """

    train: Pictures
    test: Pictures

    def __post_init__(self) -> None:
        if not len(self.train) or not len(self.test):
            raise ConfigError(
                "--digits",
                f"{len(self.train)} digits to train and {len(self.test)} to test, both need one",
                fix="give files with at least 4 digits",
            )


def load_digits(folder: Path | None, *, side_px: int) -> Digits:
    """Return handwritten digits, enlarged or reduced smoothly to `side_px`.

    With MNIST's two files, `train-images` trains and `t10k-images` tests. With one file, and with the
    bundled digits, the first three quarters train and the last quarter tests.

    Args:
        folder: Holds `train-images-idx3-ubyte` or `t10k-images-idx3-ubyte`, plain or `.gz`; None means the
            bundled digits.
        side_px: Side of the square pictures.

    Raises:
        ConfigError: The folder holds neither file, or a file whose content does not match its header.
    """
    found = [_bundled()] if folder is None else _read_folder(folder)
    pictures = [_resized(each, side_px=side_px) for each in found]
    if len(pictures) == 1:
        pictures = np.split(pictures[0], [len(pictures[0]) * 3 // 4])
    return Digits(*pictures)


def _read_folder(folder: Path) -> list[Pictures]:
    """Return the pictures of each idx file in `folder`: one or two arrays."""
    paths = [path for name in _FILES if (path := _idx_file(folder, name))]
    if not paths:
        raise ConfigError(
            f"--digits {folder}",
            f"holds neither {_FILES[0]} nor {_FILES[1]} (nor either with .gz)",
            fix="give the folder of the MNIST files, or leave --digits out for the bundled digits",
        )
    return [_read_idx(path) for path in paths]


def _bundled() -> Pictures:
    data = (files("fvar.sources.toy") / "assets" / "digits.npz").read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        counts = np.asarray(archive["digits"], np.uint16)
    return np.asarray(counts * 255 // _BUNDLED_WHITE, np.uint8)


def _resized(pictures: Pictures, *, side_px: int) -> Pictures:
    if pictures.shape[1:] == (side_px, side_px):
        return pictures
    size = (side_px, side_px)
    resized = [Image.fromarray(p).resize(size, Image.Resampling.BICUBIC) for p in pictures]
    return np.stack([np.asarray(picture) for picture in resized]) if resized else pictures


def _idx_file(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _read_idx(path: Path) -> Pictures:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parse_idx(file)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ConfigError(
            path,
            f"cannot be read ({error})",
            fix="download the file again, or leave --digits out",
        ) from error


def _parse_idx(file: IO[bytes] | gzip.GzipFile) -> Pictures:
    header = file.read(_IDX_HEADER_BYTES)
    if len(header) < _IDX_HEADER_BYTES:
        raise ValueError(f"{len(header)} bytes, the header alone has {_IDX_HEADER_BYTES}")
    magic, count, height, width = (int(part) for part in np.frombuffer(header, ">u4"))
    if magic != _IDX_MAGIC:
        raise ValueError(f"starts with {magic}, a file of idx pictures with {_IDX_MAGIC}")
    if count > _MAX_IDX_PICTURES or height != width or not 1 <= height <= _MAX_IDX_SIDE_PX:
        raise ValueError(
            f"claims {count} pictures of {height}x{width} px, allowed are {_MAX_IDX_PICTURES} "
            f"square ones of up to {_MAX_IDX_SIDE_PX} px"
        )
    num_bytes = count * height * width
    content = file.read(num_bytes + 1)
    if len(content) != num_bytes:
        found = f"{len(content)} bytes" if len(content) < num_bytes else "more"
        raise ValueError(
            f"{found} after the header, {count} pictures of {height}x{width} take {num_bytes}"
        )
    return np.frombuffer(content, np.uint8).reshape(count, height, width)
