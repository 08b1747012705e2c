"""The ffmpeg program: finding one that can do the work, running it, ending it."""

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import imageio_ffmpeg

from fvar.errors import ConfigError

_OLDEST = (5, 1)  # the first with -fps_mode
_OLDEST_LIBAVUTIL = (57, 28)  # of 5.1: what a build without a version number tells
_VERSION_SECONDS = 20.0
_STDERR_BYTES = 16384  # kept; the first lines say what broke


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


class Running:
    """The ffmpeg processes under way, so that an interruption can end them all."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    @contextmanager
    def start(self, arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program without a shell, output and errors piped; it ends with the block at the latest."""
        with self._lock:
            # In a session of its own: Ctrl-C in the terminal reaches us, and we end it.
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            self._processes.add(process)
            if self._stopped:
                process.kill()
        try:
            with process:
                try:
                    yield process
                finally:
                    process.kill()
        finally:
            with self._lock:
                self._processes.discard(process)

    def stop(self) -> None:
        """Kill what runs, and whatever is started from now on."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                process.kill()


class ErrorOutput:
    """Reads a program's errors in a thread, so that the pipe never fills; keeps the beginning."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._kept = bytearray()
        self._thread = threading.Thread(target=self._drain, args=(pipe,), daemon=True)
        self._thread.start()

    def _drain(self, pipe: IO[bytes]) -> None:
        while block := pipe.read(4096):
            self._kept += block[: _STDERR_BYTES - len(self._kept)]

    def text(self) -> str:
        """Return what was kept, once the program has ended."""
        self._thread.join()
        return self._kept.decode(errors="replace")


def first_line(text: str) -> str:
    """Return the first line without the address that ffmpeg puts into ``[h264 @ 0x55ee01245f80]``."""
    return re.sub(r" @ 0x[0-9a-f]+\]", "]", text.strip().partition("\n")[0])[:300]
