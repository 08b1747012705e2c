"""Bytes that are gathered in memory and, when they are many, in a file that nobody else sees."""

import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from fvar.errors import StoppedError
from fvar.store.files import write_fix

_BLOCK_BYTES = 16 << 20  # in memory at most; a clip of a minute fits


class Spool:
    """A growing sequence of bytes, in memory up to 16 MB, on the disk beyond.

    The file has no name, so that nothing of it outlives the process, however that ends.
    """

    def __init__(
        self, folder: Path | None = None, *, allow: Callable[[int], None] = lambda _: None
    ) -> None:
        """Begin with nothing.

        Args:
            folder: On whose disk the file lies; None: on that of the system's temporary files.
            allow: Called with the number of bytes there will be, before more are written; raises where they
                are too many.
        """
        self._folder, self._allow = folder, allow
        self._block = bytearray()
        self._file: IO[bytes] | None = None
        self.num_bytes = 0

    def append(self, data: bytes) -> None:
        """Add bytes at the end.

        Raises:
            StoppedError: The disk is full, or `allow` does not.
        """
        self._block += data
        self.num_bytes += len(data)
        if len(self._block) >= _BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._allow(self.num_bytes)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # closed with us
                weakref.finalize(self, self._file.close)
            self._file.write(self._block)
            self._file.flush()
        except OSError as error:
            raise StoppedError(
                self._folder or tempfile.gettempdir(),
                f"cannot take the pictures of the next video ({error.strerror or error})",
                fix=f"{write_fix(error)} and run the same command again",
            ) from error
        self._block.clear()

    def array(self) -> npt.NDArray[np.uint8]:
        """Return all bytes, uint8 (num_bytes,), to be read only; nothing may be added afterwards.

        Raises:
            StoppedError: As `append`.
        """
        if self._file is None:
            return np.frombuffer(self._block, np.uint8)
        if self._block:
            self._flush()
        return np.memmap(self._file, np.uint8, mode="r", shape=(self.num_bytes,))
