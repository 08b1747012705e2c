"""Probe processes take the blow of a huge index for the command, and never outlive it."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from boxes import rebuild, same_byte
from processes import lives, wait_until
from video_samples import NAMES, write_source

from fvar.extraction.probe import container, pool
from fvar.extraction.probe.claims import UnreadableError
from fvar.extraction.probe.pool import ProbePool

LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux bounds a process's memory"
)
# A process takes 0.25 GiB before it reads anything, an index of three million frames as much again.
_TIGHT_BYTES = 5 << 26


def _bomb(samples: Path, path: Path) -> Path:
    whole = (samples / "plain.mp4").read_bytes()
    path.write_bytes(rebuild(whole, same_byte(3_000_000, chunks=1000)))
    return path


@pytest.mark.slow
@LINUX
def test_an_index_too_large(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that outgrows the memory fails its file alone; the next file is read."""
    monkeypatch.setattr(pool, "MEMORY_BYTES", _TIGHT_BYTES)
    path = _bomb(samples, tmp_path / "bomb.mp4")
    with ProbePool() as probes:
        with pytest.raises(UnreadableError, match=r"needs more than 0\.312 GiB of memory"):
            probes.ask(container.read_claims, path, 60.0)
        with pytest.raises(UnreadableError, match=r"needs more than 0\.312 GiB"):
            probes.ask(container.glance, path, 60.0)
        assert probes.ask(container.read_claims, samples / "plain.mp4", 60.0).packets == 50


# A script as users write it, without `if __name__ == "__main__"`; and daemonic, as a Dask worker is.
_SCRIPT = """
import multiprocessing, sys, threading
from pathlib import Path
from fvar.config import (ExtractConfig)
from fvar.extraction.probe import pool
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract
from probe_questions import process_id
multiprocessing.current_process()._config["daemon"] = True
def peak():
    status = Path("/proc/self/status")
    return int(status.read_text().partition("VmHWM:")[2].split()[0]) if status.exists() else 0
"""


_EXTRACT = """
source, videos, out, memory = sys.argv[1:]
pool.MEMORY_BYTES = int(memory)
config = ExtractConfig(videos=videos, short_side=16, workers=2, videos_per_shard=1, reserve_gb=0)
before = peak()
manifest = extract(Path(source), Path(out), config, SilentReporter())
print(peak() - before, *(f"{video.status}: {video.reason}" for video in manifest.videos), sep="\\n")
"""


_WAIT = """
with pool.ProbePool() as probes:
    print(probes.ask(process_id, Path(), 60), flush=True)
    threading.Event().wait(60)
"""


def _start_script(path: Path, text: str, *arguments: object) -> "subprocess.Popen[str]":
    path.write_text(_SCRIPT + text)
    return subprocess.Popen(
        [sys.executable, str(path), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@LINUX
def test_an_extraction_survives_a_bomb(samples: Path, tmp_path: Path) -> None:
    """A bomb among videos fails alone, our memory stays flat, and any script may extract."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in NAMES[:2]:
        shutil.copy(samples / name, videos)
    _bomb(samples, videos / "bomb.mp4")
    source = write_source(tmp_path, [NAMES[0], "bomb.mp4", NAMES[1]])
    arguments = source, videos, tmp_path / "out", _TIGHT_BYTES
    with _start_script(tmp_path / "script.py", _EXTRACT, *arguments) as process:
        said, _ = process.communicate(timeout=120)
    kilobytes, *verdicts = said.splitlines()
    assert [verdict.partition(":")[0] for verdict in verdicts] == ["ok", "failed", "ok"]
    assert "needs more than 0.312 GiB of memory" in verdicts[1]
    assert int(kilobytes) < 60_000  # the bomb alone takes 250 MB


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_its_parent(tmp_path: Path, ending: signal.Signals) -> None:
    """However the process that asks ends, the process that reads ends too."""
    with _start_script(tmp_path / "script.py", _WAIT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.send_signal(ending)
        parent.wait(30)
    wait_until(lambda: not lives(pid), seconds=30)
