"""A folder of numbered pictures as a video: which pictures, in which order, and what is missing."""

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from fvar.extraction.collect import Size
from fvar.extraction.ffmpeg import FfmpegInput
from fvar.extraction.probe.claims import MAX_PIXELS, UnreadableError
from fvar.store.hashing import sha256_of

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # Pillow's names, recognized by content
_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})", re.DOTALL)
_RAW = "rawvideo"  # libavformat's name of pictures without any header
_FAINT = 1 << 14  # no value uses the highest two of 16 bits
_SHOWN = 3

# A picture whose header claims a hundred million pixels is refused before any is decoded.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


Series = Mapping[int, Path]
"""The pictures of a folder by their numbers, in order."""


def gaps(numbers: Iterable[int]) -> str | None:
    """Return which numbers are missing between the first and the last; None: none. `numbers` are in order."""
    gaps = [(low + 1, high - 1) for low, high in pairwise(numbers) if high > low + 1]
    if not gaps:
        return None
    missing = sum(high - low + 1 for low, high in gaps)
    shown = _first_few([f"{low}" if low == high else f"{low}-{high}" for low, high in gaps])
    return f"the numbers of its pictures have gaps, {missing} missing: {shown}"


class Feeder:
    """Decodes the pictures of a series one by one and writes them to ffmpeg.

    Attributes:
        size: Of the first readable picture, px; pictures of another shape get black bars.
        other_size: The first different size, or None.
    """

    def __init__(self, series: Series, *, stretch: bool = False) -> None:
        """Open the first picture that can be read.

        Args:
            series: The pictures.
            stretch: Shift values of 16 bits up, so that the highest bit that any of them uses is the highest.

        Raises:
            UnreadableError: None can be read.
        """
        self._series = series
        self._seconds: list[float] = []
        self._unreadable: list[str] = []
        self._highest = {"L": -1, "RGB": -1}  # value of 16 bits by kind; -1: there are none
        self._bits = max(_used_bits(series), 1) if stretch else 16
        self.size = _first_size(series)
        self.other_size: Size | None = None

    @property
    def problem(self) -> str | None:
        """Which pictures could not be read; None: all could so far."""
        if not self._unreadable:
            return None
        return f"{len(self._unreadable)} of its pictures cannot be read: {_first_few(self._unreadable)}"

    @property
    def note(self) -> str | None:
        """What to know of its pictures' depth: cameras leave the upper bits of 16 empty; None: nothing."""
        kind = max(self._highest, key=lambda kind: self._highest[kind])
        if not 0 < self._highest[kind] < _FAINT:
            return None
        bits = self._highest[kind].bit_length()
        lower = f"its pictures have 16 bits a value and use the lower {bits}"
        if kind == "RGB":  # Pillow reads 8 of their bits
            return (
                f"{lower}, so they are stored dark; --stretch cannot help, they are in color; multiply "
                f"their values by {2 ** (16 - bits)} and extract again to see them"
            )
        if self._bits == bits:
            return f"{lower}; their values were multiplied by {2 ** (16 - bits)} (--stretch)"
        return f"{lower}, so they are stored dark; extract again with --stretch to see them"

    def input(self) -> FfmpegInput:
        """Return what ffmpeg reads: raw frames; the number in a picture's name is its time in seconds."""
        return FfmpegInput(
            "pipe:0",
            _RAW,
            Fraction(1),
            {"format": _RAW, "pixel_format": "rgb24", "video_size": self.size, "framerate": 1},
            feed=self._feed,
            seconds=self._seconds,  # grows while pictures are fed, each time before its picture
        )

    def _feed(self, pipe: IO[bytes]) -> None:
        # If ffmpeg ends before it has read all, it says why itself.
        with suppress(BrokenPipeError), pipe:
            for number, path in self._series.items():
                try:
                    picture, highest, kind = _open_picture(path, bits=self._bits)
                except UnreadableError as error:
                    self._unreadable.append(str(error))
                    continue
                self._highest[kind] = max(self._highest[kind], highest)
                if picture.size != self.size:
                    self.other_size = self.other_size or picture.size
                    picture = ImageOps.pad(picture, self.size)  # black bars
                self._seconds.append(float(number))
                pipe.write(picture.tobytes())


def _first_few(texts: Sequence[str]) -> str:
    return ", ".join([*texts[:_SHOWN], *(["..."] if len(texts) > _SHOWN else [])])


def _first_size(series: Series) -> Size:
    first: UnreadableError | None = None
    for path in series.values():
        try:
            return _open_picture(path)[0].size
        except UnreadableError as error:
            first = first or error
    raise UnreadableError(f"none of its {len(series)} pictures can be read, first {first}")


def _used_bits(series: Series) -> int:
    """Return how many of 16 bits the gray pictures use; 16 where there are none."""
    highest = -1
    for path in series.values():
        with suppress(UnreadableError):
            _, value, kind = _open_picture(path)
            highest = max(highest, value) if kind == "L" else highest
    return highest.bit_length() if highest >= 0 else 16


def _open_picture(path: Path, *, bits: int = 16) -> tuple[Image.Image, int, str]:
    """Return a picture upright, as RGB, 8 bits a channel; its highest value if it had 16, else -1; its kind.

    The kind is ``L`` (gray of 16 bits, of which the 8 below bit number `bits` are kept) or ``RGB`` (others).
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:  # before its pixels are read
                raise UnreadableError(f"{path.name} (claims {width}x{height} px)")
            if image.mode.startswith("I"):  # 16 bits: Pillow's conversion would clip
                values = np.asarray(image).astype(np.uint16)
                high_bytes = (values << (16 - bits)) >> 8
                picture = Image.fromarray(high_bytes.astype(np.uint8)).convert("RGB")
                return picture, int(values.max()), "L"
            had_16_bits = any(";16" in str(tile[3]) for tile in image.tile)
            picture = ImageOps.exif_transpose(image).convert("RGB")
            highest = int(np.asarray(picture).max()) << 8 if had_16_bits else -1
            return picture, highest, "RGB"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        why = getattr(error, "strerror", None) or str(error).replace(str(path), path.name)
        raise UnreadableError(f"{path.name} ({why})") from error


def read_series(folder: Path) -> Series:
    """Return the numbered pictures of a folder; other files and hidden files are ignored.

    Raises:
        UnreadableError: There are none, two have the same number, they belong to several series, or one is
            not a file in this folder.
    """
    pictures: dict[int, Path] = {}
    first_prefix: str | None = None
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in _SUFFIXES:
            continue
        prefix, number = _prefix_and_number(path, folder)
        first_prefix = prefix if first_prefix is None else first_prefix
        if prefix != first_prefix:
            raise UnreadableError(
                f"holds pictures of several series, {first_prefix}... and {path.name}: "
                "a video is one folder"
            )
        if number in pictures:
            raise UnreadableError(
                f"holds two pictures of number {number}, {pictures[number].name} and {path.name}"
            )
        pictures[number] = path
    if not pictures:
        raise UnreadableError(f"is a folder without numbered pictures ({', '.join(_SUFFIXES)})")
    return dict(sorted(pictures.items()))


def _prefix_and_number(path: Path, folder: Path) -> tuple[str, int]:
    found = _NUMBERED.fullmatch(path.stem)
    if found is None:
        raise UnreadableError(f"holds {path.name}, a picture without a number before its suffix")
    real = path.resolve()
    if not real.is_file() or real.parent != folder.resolve():
        raise UnreadableError(f"holds {path.name}, which is not a file in this folder")
    return found[1], int(found[2])


def hash_series(folder: Path, *, beat: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of the names and contents of a folder's numbered pictures, in hex.

    `beat` is called at every MB, as by `sha256_of`.

    Raises:
        UnreadableError: As `read_series` does.
        ManifestError: A picture cannot be read.
    """
    digest = hashlib.sha256()
    for path in read_series(folder).values():
        digest.update(
            f"{path.name}\0{sha256_of(path, beat=beat)}\0".encode(errors="surrogateescape")
        )
    return digest.hexdigest()
