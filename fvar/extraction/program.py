"""The ffmpeg program: finding one that can do the work, running it, ending it."""

import fcntl
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from typing import IO

import imageio_ffmpeg

from fvar.errors import ConfigError

_OLDEST = (5, 1)  # the first with -fps_mode
_OLDEST_LIBAVUTIL = (57, 28)  # of 5.1: what a build without a version number tells
_VERSION_SECONDS = 20.0
_PIPE_BYTES = 1 << 20  # the most that Linux lets everybody ask for
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


class Running:
    """The processes under way, so that an interruption can end them all.

    Attributes:
        num_pictures: That came out of them so far.
    """

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._stopped = False
        self.num_pictures = 0

    def count_picture(self) -> None:
        """Count one more, in any thread."""
        with self._counting:
            self.num_pictures += 1

    @contextmanager
    def start(
        self, arguments: list[str], *, with_input: bool = False, pass_fds: Sequence[int] = ()
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program without a shell, output and errors piped; it ends with the block at the latest.

        Args:
            arguments: The program and its arguments.
            with_input: Whether its input is a pipe, too, or empty.
            pass_fds: Files of ours that it shall have under the same numbers.
        """
        with self._lock:
            # In a session of its own: Ctrl-C in the terminal reaches us, and we end it.
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE if with_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=pass_fds,
                start_new_session=True,
            )
            widen(process.stdout)
            self._processes.add(process)
            if self._stopped:
                end(process)
        try:
            with process:
                try:
                    yield process
                finally:
                    end(process)
        finally:
            with self._lock:
                self._processes.discard(process)

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called: what was under way then ended early."""
        return self._stopped

    def stop(self) -> None:
        """Kill what runs, and whatever is started from now on."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program that `Running.start` started, and what it started itself.

    A script around ffmpeg is killed in vain while the ffmpeg that it started holds our pipes open.
    """
    if process.returncode is None:  # else its number may be another's by now
        with suppress(ProcessLookupError, PermissionError):  # all of its session have ended
            os.killpg(process.pid, signal.SIGKILL)


def widen(pipe: IO[bytes] | FileIO | None) -> None:
    """Let a pipe hold 80 pictures rather than 5, so that who writes seldom waits for who reads."""
    if pipe is not None and hasattr(fcntl, "F_SETPIPE_SZ"):  # Linux
        with suppress(OSError):  # a user may have only so many wide ones
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


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
