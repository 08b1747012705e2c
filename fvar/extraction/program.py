"""The ffmpeg program: finding one that can do the work, running it, ending it."""

import re
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

import imageio_ffmpeg

from fvar.errors import ConfigError
from fvar.processes import end

_OLDEST = (5, 1)  # the first with -fps_mode
_OLDEST_LIBAVUTIL = (57, 28)  # of 5.1: what a build without a version number tells
_VERSION_SECONDS = 20.0
_LINE_BYTES, _KEPT_LINES, _SHOWN = 4096, 64, 300
# Before the level stands who speaks and, saying nothing, at which address: h264 @ 0x55ee01245f80.
_ERROR = re.compile(r"((?:\[[^\]]*\] )*)\[(?:error|fatal|panic)\] (.*)")
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+(?=\])")
_SIGNAL = re.compile(r"\[info\] Exiting normally, received signal (\d+)")
_NEW_SIZE = re.compile(r"\[info\] Reconfiguring filter graph.* (\d+)x(\d+)(?:,|$)")


@dataclass(frozen=True)
class Ffmpeg:
    """An ffmpeg that can be run, and the version it says it is."""

    path: str
    version: str


def find_ffmpeg(override: str | None = None) -> Ffmpeg:
    """Return the bundled ffmpeg, or the one at `override`.

    Raises:
        ConfigError: It does not run, or is older than 5.1.
    """
    path = override or imageio_ffmpeg.get_ffmpeg_exe()
    thing = f"--ffmpeg {path}"
    try:
        text = subprocess.run(
            [path, "-version"], capture_output=True, timeout=_VERSION_SECONDS, check=True
        ).stdout.decode(errors="replace")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ConfigError(
            thing,
            f"does not run ({error})",
            fix="give the path of an ffmpeg program, or leave it out",
        ) from error
    first = re.match(r"ffmpeg version (\S+)", text)
    if first is None:
        raise ConfigError(
            thing,
            f"says {text[:60]!r} to -version, not what ffmpeg says",
            fix="give the path of an ffmpeg program, or leave it out",
        )
    if _is_too_old(first[1], text):
        raise ConfigError(
            thing,
            f"is version {first[1]}, must be {_OLDEST[0]}.{_OLDEST[1]} or later",
            fix="install a later one, or leave --ffmpeg out for the bundled one",
        )
    return Ffmpeg(path, first[1])


def _is_too_old(version: str, text: str) -> bool:
    if numbers := re.match(r"n?(\d+)\.(\d+)", version):
        return (int(numbers[1]), int(numbers[2])) < _OLDEST
    library = re.search(r"libavutil\s+(\d+)\.\s*(\d+)", text)
    return library is None or (int(library[1]), int(library[2])) < _OLDEST_LIBAVUTIL


class Watch:
    """Kills a program that is silent for too long.

    Attributes:
        ended_it: Whether that happened.
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        silent_seconds: Callable[[], float],
        *,
        limit_seconds: float,
    ) -> None:
        """Begin to watch.

        Args:
            process: The program.
            silent_seconds: Tells how long nothing has come from it.
            limit_seconds: Too long.
        """
        self._process, self._silent, self._limit = process, silent_seconds, limit_seconds
        self._over = threading.Event()
        self.ended_it = False
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._over.wait(max(0.0, self._limit - self._silent())):
            if self._silent() >= self._limit:
                self.ended_it = True
                end(self._process)
                return

    def end(self) -> None:
        """Watch no longer."""
        self._over.set()


class Messages:
    """What ffmpeg says under ``-loglevel level+info``, read in a thread so that the pipe never fills.

    Kept are its errors, the first of them, and the sizes of picture that it met on the way.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._errors: list[str] = []
        self._sizes: list[tuple[int, int]] = []
        self._signal: int | None = None
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        while line := pipe.readline(_LINE_BYTES).decode(errors="replace"):
            if (error := _ERROR.match(line)) and len(self._errors) < _KEPT_LINES:
                self._errors.append(_ADDRESS.sub("", error[1]) + error[2].strip()[:_SHOWN])
            elif (size := _NEW_SIZE.search(line)) and len(self._sizes) < _KEPT_LINES:
                self._sizes.append((int(size[1]), int(size[2])))
            elif signal := _SIGNAL.search(line):
                self._signal = int(signal[1])

    def join(self) -> None:
        """Wait for the program to end and all it said to be read."""
        self._thread.join()

    def errors(self) -> list[str]:
        """Return the first errors."""
        return self._errors

    def new_sizes(self) -> list[tuple[int, int]]:
        """Return width and height, px, of pictures unlike those before."""
        return self._sizes

    def signal(self) -> int | None:
        """Return the number of the signal by which it was asked to end, or None."""
        return self._signal
