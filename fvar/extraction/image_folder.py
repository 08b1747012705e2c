"""A folder of numbered pictures as a video: which pictures, in which order, and what is missing."""

import contextlib
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fvar.extraction.collect import Size
from fvar.extraction.ffmpeg import Footage
from fvar.extraction.probe.claims import Glance, UnreadableError
from fvar.store.hashing import sha256_of

if TYPE_CHECKING:
    from PIL.Image import Image

_PICTURE = re.compile(r"(.*?)([0-9]{1,18})\.(jpg|jpeg|png|webp|bmp)", re.IGNORECASE | re.DOTALL)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_RAW = "rawvideo"  # of libavformat: pictures without any header
_SHOWN = 3


@dataclass(frozen=True)
class Series:
    """The pictures of a folder in the order of their numbers."""

    paths: Sequence[Path]
    numbers: Sequence[int]

    def gaps(self) -> str | None:
        """Return which numbers are missing between the first and the last; None: none."""
        pairs = zip(self.numbers, self.numbers[1:], strict=False)
        gaps = [(low + 1, high - 1) for low, high in pairs if high > low + 1]
        if not gaps:
            return None
        shown = ", ".join(
            f"{low}" if low == high else f"{low}-{high}" for low, high in gaps[:_SHOWN]
        )
        more = ", ..." if len(gaps) > _SHOWN else ""
        missing = sum(high - low + 1 for low, high in gaps)
        return f"the numbers of its pictures have gaps, {missing} missing: {shown}{more}"

    def feeder(self) -> "Feeder":
        """Return what gives the pictures to ffmpeg.

        Raises:
            UnreadableError: Not one of them can be read.
        """
        first: UnreadableError | None = None
        for path in self.paths:
            try:
                return Feeder(self, _open_picture(path).size)
            except UnreadableError as error:
                first = first or error
        raise UnreadableError(f"none of its {len(self.paths)} pictures can be read, first {first}")


class Feeder:
    """Decodes the pictures of a series one by one, as ffmpeg takes them.

    Attributes:
        size: Of the first picture that can be read, px; those of another shape get black bars.
        other_size: The first other size met, or None.
    """

    def __init__(self, series: Series, size: Size) -> None:
        self._series = series
        self._seconds: list[float] = []
        self._unreadable: list[str] = []
        self.size = size
        self.other_size: Size | None = None

    @property
    def problem(self) -> str | None:
        """Which pictures could not be read; None: all could, so far."""
        if not self._unreadable:
            return None
        shown = ", ".join(self._unreadable[:_SHOWN])
        more = ", ..." if len(self._unreadable) > _SHOWN else ""
        return f"{len(self._unreadable)} of its pictures cannot be read: {shown}{more}"

    def footage(self) -> Footage:
        """Return what ffmpeg reads: raw pictures, of which the time in seconds is the number in the name."""
        options: dict[str, str | int | Size] = {
            "format": _RAW,
            "pixel_format": "rgb24",
            "video_size": self.size,
            "framerate": 1,
        }
        # The list grows as pictures are given, each time before its picture.
        return Footage("pipe:0", _RAW, options, Fraction(1), feed=self._feed, seconds=self._seconds)

    def _feed(self, pipe: IO[bytes]) -> None:
        # Where ffmpeg ends before it has taken all, it says why itself.
        with contextlib.suppress(BrokenPipeError), pipe:
            for path, number in zip(self._series.paths, self._series.numbers, strict=True):
                try:
                    picture = _open_picture(path)
                except UnreadableError as error:
                    self._unreadable.append(str(error))
                    continue
                if picture.size != self.size:
                    self.other_size = self.other_size or picture.size
                    picture = _fit_picture(picture, self.size)
                self._seconds.append(float(number))
                pipe.write(picture.tobytes())


def _open_picture(path: Path) -> "Image":
    """Return a picture upright, as RGB, 8 bits a channel."""
    from fvar.extraction.image_file import open_picture  # noqa: PLC0415  # with Pillow: 25 ms

    return open_picture(path)


def _fit_picture(picture: "Image", size: Size) -> "Image":
    """Return `picture` with `size`, in black bars where its shape is another."""
    from fvar.extraction.image_file import fit_picture  # noqa: PLC0415  # as above

    return fit_picture(picture, size)


def read_series(folder: Path) -> Series:
    """List the numbered pictures of a folder; files that are no pictures, and hidden ones, are passed over.

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
    numbers = sorted(pictures)
    return Series([pictures[number] for number in numbers], numbers)


def _prefix_and_number(path: Path, folder: Path) -> tuple[str, int]:
    found = _PICTURE.fullmatch(path.name)
    if found is None:
        raise UnreadableError(f"holds {path.name}, a picture without a number before its suffix")
    real = path.resolve()
    if not real.is_file() or real.parent != folder.resolve():
        raise UnreadableError(f"holds {path.name}, which is not a file in this folder")
    return found[1], int(found[2])


def hash_series(folder: Path, *, beat: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of the names and contents of a folder's numbered pictures, in hex.

    Args:
        folder: That holds them.
        beat: Called at every MB, as by `sha256_of`.

    Raises:
        UnreadableError: As `read_series` does.
        ManifestError: A picture cannot be read.
    """
    digest = hashlib.sha256()
    for path in read_series(folder).paths:
        digest.update(
            f"{path.name}\0{sha256_of(path, beat=beat)}\0".encode(errors="surrogateescape")
        )
    return digest.hexdigest()


def glance_at_series(folder: Path) -> Glance:
    """Return how many pictures there are, one a second, and the size of the first.

    Raises:
        UnreadableError: As `read_series` does, or the first picture cannot be opened.
    """
    paths = read_series(folder).paths
    return Glance("", len(paths), float(len(paths)), _open_picture(paths[0]).size)
