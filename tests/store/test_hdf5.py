"""HDF5 files are whole or absent, even on a full disk; test_hostile_stores.py tests how they are read."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from fvar.errors import StoppedError
from fvar.store.hdf5 import atomic_hdf5, new_group


def test_a_written_file_has_no_tail(tmp_path: Path) -> None:
    """Room that was set aside and not used is given back; the content is what was written."""
    with atomic_hdf5(tmp_path / "a.h5") as file:
        new_group(file, "x", num_bytes=1000)["data"] = np.arange(125)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    assert (tmp_path / "a.h5").stat().st_size < 10_000
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["x/data"][124] == 124


def test_nothing_appears_when_writing_fails(tmp_path: Path) -> None:
    """An error midway leaves the old file and no temporary one."""
    (tmp_path / "a.h5").write_text("old")
    with pytest.raises(ValueError, match="stop"), atomic_hdf5(tmp_path / "a.h5") as file:  # noqa: PT012  # the block fails
        new_group(file, "x", num_bytes=0)
        raise ValueError("stop")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


_SMALL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from fvar.errors import StoppedError
from fvar.store.hdf5 import atomic_hdf5, new_group
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
num_groups, size = map(int, sys.argv[2:])
try:
    with atomic_hdf5(Path(sys.argv[1])) as file:
        for number in range(num_groups):
            new_group(file, str(number), num_bytes=size)["data"] = np.ones(size, np.uint8)
except StoppedError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="wants an allocation by the system")
@pytest.mark.parametrize(("num_groups", "size"), [(3, 300_000), (1000, 1000)])
def test_a_full_disk_stops(tmp_path: Path, num_groups: int, size: int) -> None:
    """A file that may not grow is a StoppedError with the cause, not a crash of HDF5; nothing is left."""
    command = [sys.executable, "-c", _SMALL_DISK, tmp_path / "a.h5", str(num_groups), str(size)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended
    assert "a.h5: cannot be written (File too large); raise the limit" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_on_closing_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 raises RuntimeError when closing fails; the user gets a StoppedError with the system's reason."""
    close = h5py.File.close

    def fails(file: h5py.File) -> None:
        close(file)
        raise RuntimeError("Can't decrement id ref count (file write failed: errno = 28)")

    monkeypatch.setattr(h5py.File, "close", fails)
    with (
        pytest.raises(StoppedError, match=r"a\.h5: cannot be written \(No space left on device\)"),
        atomic_hdf5(tmp_path / "a.h5"),
    ):
        pass
