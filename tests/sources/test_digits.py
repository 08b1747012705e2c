"""Digits: the bundled ones divide cleanly, and an idx file is read only if it is what it claims."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from fvar.errors import ConfigError
from fvar.sources.toy.digits import load_digits

TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"


def idx(pictures: np.ndarray) -> bytes:
    """The content of an idx file of uint8 pictures (N, H, W)."""
    return struct.pack(">4I", 2051, *pictures.shape) + pictures.tobytes()


def numbered(count: int, *, first: int = 0, side: int = 28) -> np.ndarray:
    """Pictures of one gray each, that tell their index."""
    return np.stack([np.full((side, side), first + n, np.uint8) for n in range(count)])


def test_bundled_digits_divide_without_overlap() -> None:
    """The bundled 1,797 digits make 1,347 to train and 450 to test, and no picture is in both."""
    digits = load_digits(None, side_px=8)
    assert (digits.train.shape, digits.test.shape) == ((1347, 8, 8), (450, 8, 8))
    assert digits.train.dtype == np.uint8
    assert digits.train.max() == 255
    train = {picture.tobytes() for picture in digits.train}
    assert train.isdisjoint(picture.tobytes() for picture in digits.test)


def test_enlarging_keeps_ink_where_it_is() -> None:
    """An enlarged digit, averaged back to 8x8, resembles the original."""
    small = load_digits(None, side_px=8).train.astype(float)
    large = load_digits(None, side_px=32).train.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_both_files_keep_their_roles(tmp_path: Path, suffix: str) -> None:
    """With MNIST's two files, plain or packed, one trains and the other tests."""
    for name, pictures in ((TRAIN, numbered(5)), (TEST, numbered(3, first=100))):
        content = idx(pictures)
        (tmp_path / f"{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    digits = load_digits(tmp_path, side_px=28)
    assert digits.train[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert digits.test[:, 0, 0].tolist() == [100, 101, 102]


@pytest.mark.parametrize("name", [TRAIN, TEST])
def test_one_file_is_divided(tmp_path: Path, name: str) -> None:
    """With one file, its first three quarters train and the rest tests."""
    (tmp_path / name).write_bytes(idx(numbered(8)))
    digits = load_digits(tmp_path, side_px=14)
    assert digits.train[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert digits.test.shape == (2, 14, 14)


def test_real_mnist(shared: Path) -> None:
    """MNIST's own test file gives 7,500 digits to train with and 2,500 to test."""
    digits = load_digits(shared / "data" / "mnist", side_px=28)
    assert (len(digits.train), len(digits.test)) == (7500, 2500)


GOOD = idx(numbered(4))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes, the header alone has 16"),
        (struct.pack(">4I", 2049, 4, 28, 28) + GOOD[16:], "starts with 2049"),
        (GOOD[:-1], "3135 bytes after the header, 4 pictures of 28x28 take 3136"),
        (GOOD + b"\0", "more after the header"),
        (struct.pack(">4I", 2051, 4, 28, 14) + GOOD[16:], "4 pictures of 28x14 px"),
        (struct.pack(">4I", 2051, 2**31, 28, 28), "claims 2147483648 pictures"),
        (struct.pack(">4I", 2051, 4, 4096, 4096), "of 4096x4096 px"),
    ],
)
def test_a_file_that_is_not_what_it_claims(tmp_path: Path, content: bytes, words: str) -> None:
    """A wrong magic number, size or length is an error with the file and the numbers."""
    (tmp_path / TEST).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_digits(tmp_path, side_px=28)
    assert str(tmp_path / TEST) in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "content", [gzip.compress(GOOD)[:-9], b"not packed", b"\x1f\x8b\x08\0rest"]
)
def test_a_broken_archive(tmp_path: Path, content: bytes) -> None:
    """A truncated or foreign .gz is an error that names it."""
    (tmp_path / f"{TEST}.gz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"ubyte\.gz: cannot be read"):
        load_digits(tmp_path, side_px=28)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (None, "neither train-images-idx3-ubyte nor t10k"),
        (0, "0 digits"),
        (1, "0 digits to train and 1"),
    ],
)
def test_too_few_digits(tmp_path: Path, count: int | None, words: str) -> None:
    """A folder without a file, or without enough digits for both splits, is refused."""
    if count is not None:
        (tmp_path / TEST).write_bytes(idx(numbered(4)[:count]))
    with pytest.raises(ConfigError, match=words):
        load_digits(tmp_path, side_px=14)
