"""Probe processes: they alone suffer from the files that they read, and they never outlive the command."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from boxes import rebuild, same_byte
from probe_questions import break_down, crash, hang, process_id

from fvar.config import ExtractConfig
from fvar.errors import StoppedError
from fvar.extraction.probe import container, pool
from fvar.extraction.probe.claims import Claims, Glance, UnreadableError
from fvar.extraction.probe.pool import ProbePool
from fvar.processes import ChildProcesses
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract

NAMES = ["plain.mp4", "b frames.avi", "vfr.mp4"]
LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux bounds a process's memory"
)
# A process takes 0.25 GiB before it reads anything, an index of three million frames as much again.
_TIGHT_BYTES = 5 << 26


@pytest.fixture
def own(samples: Path) -> Iterator[ProbePool]:
    """Return a pool of the test's own, with one process; afterwards no process is left."""
    with ProbePool() as probes:
        _claims(probes, samples / "plain.mp4")
        yield probes
    assert not probes.running._processes


def _claims(probes: ProbePool, path: Path) -> Claims:
    return probes.ask(container.read_claims, path, 60.0)


def _pid(probes: ProbePool) -> int:
    return probes.ask(process_id, Path(), 60.0)


def _bomb(samples: Path, path: Path) -> Path:
    whole = (samples / "plain.mp4").read_bytes()
    path.write_bytes(rebuild(whole, same_byte(3_000_000, chunks=1000)))
    return path


@pytest.mark.parametrize("name", [*NAMES, "plain.mkv", "turned.mp4", "-dash:colon [b] 'q'.mp4"])
def test_a_process_answers_as_a_call_does(probes: ProbePool, samples: Path, name: str) -> None:
    """Claims and glances are the same whether they are read here or in another process."""
    assert _claims(probes, samples / name) == container.read_claims(samples / name)
    assert probes.ask(container.glance, samples / name, 60.0) == container.glance(samples / name)


def test_a_name_survives(probes: ProbePool, samples: Path, tmp_path: Path) -> None:
    """A path with line breaks, quotes, and bytes that are not UTF-8 arrives unchanged."""
    path = tmp_path / "a\n\"b'\udcff.mp4"
    path.symlink_to(samples / "plain.mp4")
    assert probes.ask(container.glance, path, 60.0) == Glance("mov,mp4,m4a,3gp,3g2,mj2", 50, 2.0)


def test_an_unreadable_file_has_a_reason(own: ProbePool, samples: Path, tmp_path: Path) -> None:
    """The reason comes back from the process, which then answers the next question."""
    pid = _pid(own)
    for path in (samples / "text.mp4", tmp_path / "absent.mp4"):
        with pytest.raises(UnreadableError) as here:
            container.read_claims(path)
        with pytest.raises(UnreadableError) as there:
            _claims(own, path)
        assert str(there.value) == str(here.value)
    assert _pid(own) == pid


@LINUX
def test_an_index_too_large(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that outgrows the memory fails its file alone; the next file is read."""
    monkeypatch.setattr(pool, "MEMORY_BYTES", _TIGHT_BYTES)
    path = _bomb(samples, tmp_path / "bomb.mp4")
    with ProbePool() as probes:
        with pytest.raises(UnreadableError, match=r"needs more than 0\.312 GiB of memory"):
            _claims(probes, path)
        with pytest.raises(UnreadableError, match=r"needs more than 0\.312 GiB"):
            probes.ask(container.glance, path, 60.0)
        assert _claims(probes, samples / "plain.mp4").packets == 50


# A script as users write it, without `if __name__ == "__main__"`; and daemonic, as a Dask worker is.
_SCRIPT = """
import multiprocessing, sys, threading
from pathlib import Path
from fvar.config import ExtractConfig
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


@LINUX
def test_an_extraction_survives_a_bomb(samples: Path, tmp_path: Path) -> None:
    """A bomb among videos fails alone, our memory stays flat, and any script may extract."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in NAMES[:2]:
        shutil.copy(samples / name, videos)
    _bomb(samples, videos / "bomb.mp4")
    rows = [f"v{n},{name},c,train" for n, name in enumerate([NAMES[0], "bomb.mp4", NAMES[1]])]
    source = tmp_path / "s.csv"
    source.write_text("\n".join(["id,video,label,split", *rows]))
    arguments = source, videos, tmp_path / "out", _TIGHT_BYTES
    with _start_script(tmp_path / "script.py", _EXTRACT, *arguments) as process:
        said, _ = process.communicate(timeout=120)
    kilobytes, *verdicts = said.splitlines()
    assert [verdict.partition(":")[0] for verdict in verdicts] == ["ok", "failed", "ok"]
    assert "needs more than 0.312 GiB of memory" in verdicts[1]
    assert int(kilobytes) < 60_000  # the bomb alone takes 250 MB


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_its_parent(tmp_path: Path, ending: signal.Signals) -> None:
    """However the process that asks ends, the process that reads ends too."""
    with _start_script(tmp_path / "script.py", _WAIT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.send_signal(ending)
        parent.wait(30)
    deadline = time.monotonic() + 30
    while _lives(pid):
        assert time.monotonic() < deadline, "the process lives on"
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    """Return whether a process runs; one that ended without being waited for does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_killed_process_is_no_verdict(own: ProbePool, samples: Path) -> None:
    """If a process is killed once, idle or at work, the file is read again in another one, and rightly."""
    os.kill(_pid(own), signal.SIGKILL)
    assert _claims(own, samples / "plain.mp4").packets == 50
    pid = _pid(own)
    os.kill(pid, signal.SIGSTOP)  # so that it is at work
    threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
    assert _claims(own, samples / "plain.mp4").packets == 50
    assert _pid(own) != pid


def test_a_crash_is_a_verdict(own: ProbePool, samples: Path) -> None:
    """A file that crashes a new process too is failed, with the signal; the next file is read."""
    with pytest.raises(UnreadableError, match=r"crashed the reader \(signal 11\)") as caught:
        own.ask(crash, samples / "plain.mp4", 60.0)
    assert not caught.value.may_pass
    assert _claims(own, samples / "plain.mp4").packets == 50


def test_a_hang_is_ended(own: ProbePool, samples: Path) -> None:
    """After the time limit the process is killed, another try may end better, and the next file is read."""
    pid, began = _pid(own), time.monotonic()
    with pytest.raises(UnreadableError, match=r"took more than 0\.3.* s \(--time-limit") as caught:
        own.ask(hang, samples / "plain.mp4", 0.3)
    assert caught.value.may_pass
    assert time.monotonic() - began < 5
    assert not _lives(pid)
    assert _claims(own, samples / "plain.mp4").packets == 50


def test_a_large_file_gets_more_time(own: ProbePool, samples: Path, tmp_path: Path) -> None:
    """To the time limit comes a second for every 10 MB, so that a slow file server fails no long video."""
    path = tmp_path / "large.mp4"
    shutil.copy(samples / "plain.mp4", path)
    with path.open("ab") as file:
        file.truncate(300_000_000)  # a hole that takes no room
    assert _claims(own, path).packets == 50
    assert own.ask(container.read_claims, path, 0.001).packets == 50


def test_stopping_is_no_verdict(own: ProbePool, samples: Path) -> None:
    """`stop` ends a process at once; what it read has not failed, nor what is asked afterwards."""
    threading.Timer(0.3, own.running.stop).start()
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(StoppedError, match=r"plain\.mp4: .*; run the same command again"):
            own.ask(hang, samples / "plain.mp4", 60.0)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import a_package_that_is_not_there", "No module named 'a_package"),
        pytest.param(
            "import resource; resource.setrlimit(resource.RLIMIT_AS, (400_000_000, -1))",
            "200000000 bytes",
            marks=LINUX,
        ),
    ],
)
def test_a_process_that_does_not_start_is_no_verdict(
    samples: Path, monkeypatch: pytest.MonkeyPatch, code: str, problem: str
) -> None:
    """If a package is missing or `ulimit -v` too low, we stop and show the last line of the process."""
    monkeypatch.setattr(pool, "_START", f"{code}; {pool._START}")
    with (
        ProbePool() as probes,
        pytest.raises(StoppedError, match=f"no process can be started .*{problem}"),
    ):
        _claims(probes, samples / "plain.mp4")


def test_a_bug_of_ours_is_shown(own: ProbePool, samples: Path) -> None:
    """An unexpected exception is no verdict on the video: its traceback comes back."""
    with pytest.raises(RuntimeError, match=r"in break_down(.|\n)*TypeError: a bug"):
        own.ask(break_down, samples / "plain.mp4", 60.0)


def test_no_more_processes_than_readers(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads with twenty files need two processes at most; an extraction with one worker needs one."""
    started: list[int] = []
    build = pool._Process.__init__

    def note(self: pool._Process, running: ChildProcesses) -> None:
        build(self, running)
        started.append(self._process.pid)

    monkeypatch.setattr(pool._Process, "__init__", note)
    with ProbePool() as probes, ThreadPoolExecutor(2) as threads:
        paths = [samples / name for name in ["plain.mp4", "text.mp4", "vfr.mp4", "turned.mp4"] * 5]
        found = list(threads.map(lambda path: _try(probes, path), paths))
    assert found.count(None) == 5
    assert 1 <= len(started) <= 2
    started.clear()
    rows = [f"v{n},{name},c,train" for n, name in enumerate(NAMES)]
    (tmp_path / "s.csv").write_text("\n".join(["id,video,label,split", *rows]))
    config = ExtractConfig(videos=str(samples), short_side=16, workers=1)
    manifest = extract(tmp_path / "s.csv", tmp_path / "out", config, SilentReporter())
    assert manifest.summary.ok == 3
    assert len(started) == 1
    assert not _lives(started[0])


def _try(probes: ProbePool, path: Path) -> Claims | None:
    try:
        return _claims(probes, path)
    except UnreadableError:
        return None


def test_no_code_comes_from_the_working_directory(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the command runs in a folder of strangers' files, the process imports nothing from there."""
    for name in ("av.py", "json.py", "pickle.py", "fvar.py"):
        (tmp_path / name).write_text("raise SystemExit('imported what lay there')")
    monkeypatch.chdir(tmp_path)
    with ProbePool() as probes:
        assert _claims(probes, samples / "plain.mp4").packets == 50


def test_batch_systems_and_terminals_do_not_reach_it(own: ProbePool) -> None:
    """Ctrl-C and a job's end are for the process that asks: the other, in a session of its own, goes on."""
    pid = _pid(own)
    assert os.getsid(pid) == pid
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, ending)
    assert _pid(own) == pid
