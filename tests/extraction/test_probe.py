"""Probes: what a file's reading costs or breaks is their own affair, and they never outlive who asks."""

import json
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

from fvar.config import ExtractConfig
from fvar.errors import StoppedError
from fvar.extraction.probe import container, pool
from fvar.extraction.probe import worker as probe
from fvar.extraction.probe.claims import Claims, Glance, UnreadableError
from fvar.extraction.probe.pool import Probes
from fvar.processes import ChildProcesses
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract
from fvar.store.manifest import FramesManifest

NAMES = ["plain.mp4", "b frames.avi", "vfr.mp4"]
LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux bounds a process's memory"
)
_TIGHT_BYTES = (
    5 << 26
)  # a probe takes 0.25 GiB before it reads anything, three million frames as much again
# Processes that say they are ready, and then do something else than answer.
_SAYS_READY = "import os, sys, time; print('{}', flush=True); sys.stdin.readline(); "
_HANGS = f"{_SAYS_READY} time.sleep(60)"
_CRASHES = f"{_SAYS_READY} os.kill(os.getpid(), 11)"


@pytest.fixture
def running() -> ChildProcesses:
    return ChildProcesses()


@pytest.fixture
def fresh(running: ChildProcesses) -> Iterator[Probes]:
    """Return probes of the test's own; after it none is left."""
    with Probes(running) as probes:
        yield probes
    assert not running._processes


def _claims(probes: Probes, path: Path, *, limit: float = 60.0) -> Claims:
    return probes.claims(path, time_limit_seconds=limit)


def _pid(probes: Probes) -> int:
    (idle,) = probes._idle
    return idle._process.pid


def _bomb(samples: Path, path: Path, frames: int) -> Path:
    whole = (samples / "plain.mp4").read_bytes()
    path.write_bytes(rebuild(whole, same_byte(frames, chunks=1000)))
    return path


@pytest.mark.parametrize("name", [*NAMES, "plain.mkv", "turned.mp4", "-dash:colon [b] 'q'.mp4"])
def test_a_probe_says_what_the_file_says(probes: Probes, samples: Path, name: str) -> None:
    """Claims and glances survive the way between processes: each field, and its type, is the same."""
    here = container.read_claims(samples / name, progress=lambda: None)
    there = _claims(probes, samples / name)
    assert (there, repr(there)) == (here, repr(here))
    assert probes.glance(samples / name, time_limit_seconds=60) == container.glance(samples / name)


def test_a_name_survives(probes: Probes, samples: Path, tmp_path: Path) -> None:
    """A path with line breaks, quotes, and bytes that are not UTF-8 arrives as it is."""
    path = tmp_path / "a\n\"b'\udcff.mp4"
    path.symlink_to(samples / "plain.mp4")
    assert probes.glance(path, time_limit_seconds=60) == Glance(
        "mov,mp4,m4a,3gp,3g2,mj2", 50, 2.0, (64, 48)
    )


def test_what_cannot_be_read_says_why(probes: Probes, samples: Path, tmp_path: Path) -> None:
    """The reason comes back from the process, which answers the next question as well."""
    _claims(probes, samples / "plain.mp4")
    pid = _pid(probes)
    for path in (samples / "text.mp4", tmp_path / "absent.mp4"):
        with pytest.raises(UnreadableError) as here:
            container.read_claims(path, progress=lambda: None)
        with pytest.raises(UnreadableError) as there:
            _claims(probes, path)
        assert str(there.value) == str(here.value)
    assert _pid(probes) == pid


@LINUX
def test_an_index_too_large(
    fresh: Probes, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that outgrows the memory is a reason, and costs us nothing; the next file is read."""
    monkeypatch.setattr(pool, "MEMORY_BYTES", _TIGHT_BYTES)
    path = _bomb(samples, tmp_path / "bomb.mp4", 3_000_000)
    _claims(fresh, samples / "plain.mp4")
    with pytest.raises(UnreadableError, match=r"picture needs more than 0\.312 GiB of memory$"):
        _claims(fresh, path)
    with pytest.raises(UnreadableError, match=r"needs more than 0\.312 GiB"):
        fresh.glance(path, time_limit_seconds=60)
    assert _claims(fresh, samples / "plain.mp4").packets == 50


_EXTRACT = """
import sys
from pathlib import Path
from fvar.config import ExtractConfig
from fvar.extraction.probe import pool as probes
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract
source, videos, out, memory = sys.argv[1:]
probes.MEMORY_BYTES = int(memory)
config = ExtractConfig(videos=videos, short_side=16, workers=2, videos_per_shard=1, reserve_gb=0)
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = peak()
manifest = extract(Path(source), Path(out), config, SilentReporter())
print(peak() - before, *(f"{video.status}: {video.reason}" for video in manifest.videos), sep="\\n")
"""


def _start_extraction(
    tmp_path: Path, videos: Path, names: list[str], *, memory: int = _TIGHT_BYTES
) -> "subprocess.Popen[str]":
    rows = [f"v{n},{name},c,train" for n, name in enumerate(names)]
    source = tmp_path / "s.csv"
    source.write_text("\n".join(["id,video,label,split", *rows]))
    arguments = [str(source), str(videos), str(tmp_path / "out"), str(memory)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", _EXTRACT, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@LINUX
def test_an_extraction_survives_a_bomb(samples: Path, tmp_path: Path) -> None:
    """A bomb in the middle has failed in one line, our memory stays flat, the videos around it are ok."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in NAMES[:2]:
        shutil.copy(samples / name, videos)
    _bomb(samples, videos / "bomb.mp4", 3_000_000)
    with _start_extraction(tmp_path, videos, [NAMES[0], "bomb.mp4", NAMES[1]]) as process:
        said, _ = process.communicate(timeout=120)
    kilobytes, *verdicts = said.splitlines()
    assert verdicts == [
        "ok: None",
        "failed: reading its index and first picture needs more than 0.312 GiB of memory",
        "ok: None",
    ]
    assert int(kilobytes) < 60_000  # the bomb alone takes 250 MB


def test_a_probe_that_is_killed_is_no_verdict(fresh: Probes, samples: Path) -> None:
    """Killed once, idle or midway, the file is read again in another process, and rightly."""
    wanted = _claims(fresh, samples / "plain.mp4")
    os.kill(_pid(fresh), signal.SIGKILL)
    assert _claims(fresh, samples / "plain.mp4") == wanted
    pid = _pid(fresh)
    os.kill(pid, signal.SIGSTOP)  # so that it is midway
    threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
    assert _claims(fresh, samples / "plain.mp4") == wanted
    assert _pid(fresh) != pid


def test_a_probe_that_crashes_is_a_verdict(
    fresh: Probes, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file at which a fresh process crashes too has failed, and says how; the next one is read."""
    with monkeypatch.context() as patch:
        patch.setattr(pool, "_START", _CRASHES)
        with pytest.raises(UnreadableError, match=r"^reading it crashed the reader \(signal 11\)$"):
            _claims(fresh, samples / "plain.mp4")
    assert _claims(fresh, samples / "plain.mp4").packets == 50


def test_a_probe_that_hangs(fresh: Probes, samples: Path, running: ChildProcesses) -> None:
    """Without a sign of progress for the limit it is killed, and the next file is read by another."""
    _claims(fresh, samples / "plain.mp4")
    pid = _pid(fresh)
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(
        UnreadableError, match=r"^reading it came no further for 0\.3 s \(--time-limit\)$"
    ):
        _claims(fresh, samples / "plain.mp4", limit=0.3)
    assert time.monotonic() - began < 5
    assert not running._processes
    assert _claims(fresh, samples / "plain.mp4").packets == 50
    assert _pid(fresh) != pid


def test_a_long_file_is_not_a_hanging_one(
    fresh: Probes, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While signs of progress come, a reading may take longer than the limit."""
    claims = json.dumps({"answer": {"format": "", "frames": 7, "seconds": 1.0, "size": [4, 3]}})
    beats = "[(time.sleep(0.15), print('{\"packets\": 1}', flush=True)) for _ in range(8)]; "
    answer = f"print({claims!r}, flush=True); time.sleep(60)"
    monkeypatch.setattr(pool, "_START", _SAYS_READY + beats + answer)
    found = fresh.glance(samples / "plain.mp4", time_limit_seconds=0.8)
    assert found == Glance("", 7, 1.0, (4, 3))


def test_the_heart_beats_while_packets_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign comes at the first packet and then once a second, not at every packet."""
    heard: list[object] = []
    monkeypatch.setattr(probe, "_write", lambda _, message: heard.append(message["packets"]))
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    heart = probe._Heartbeat(1)
    for packet in range(35):
        now = packet / 10
        heart.beat()
    assert heard == [1, 11, 21, 31]


def test_stopping_is_no_verdict(
    fresh: Probes, running: ChildProcesses, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`stop` ends a probe at once, and what it read has not failed; nor has what is asked afterwards."""
    monkeypatch.setattr(pool, "_START", _HANGS)
    threading.Timer(0.3, running.stop).start()
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(StoppedError, match=r"plain\.mp4: .*; run the same command again"):
            _claims(fresh, samples / "plain.mp4")
    assert time.monotonic() - began < 5


def test_a_python_that_does_not_start_is_no_verdict(
    fresh: Probes, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the process cannot import what it needs, we stop and show its last line."""
    monkeypatch.setattr(pool, "_START", "import a_package_that_is_not_there")
    with pytest.raises(StoppedError, match=r"no process can be started .*No module named 'a_pack"):
        _claims(fresh, samples / "plain.mp4")


@LINUX
def test_too_little_to_begin_with_is_no_verdict(
    fresh: Probes, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system's own limit leaves no room for Python, no video has failed for it: we stop."""
    lower = "import resource; resource.setrlimit(resource.RLIMIT_AS, (400_000_000, -1)); "
    monkeypatch.setattr(pool, "_START", lower + pool._START)
    with pytest.raises(StoppedError, match="`ulimit -v` allows, 200000000 bytes are for it: too"):
        _claims(fresh, samples / "plain.mp4")


def test_a_bug_of_ours_is_shown(
    fresh: Probes, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that nobody expects is no verdict on the video: its traceback comes back."""
    breaks = "from fvar.extraction.probe import worker; worker.glance = None; answer_questions("
    monkeypatch.setattr(pool, "_START", pool._START.replace("answer_questions(", breaks))
    with pytest.raises(RuntimeError, match="TypeError: 'NoneType' object is not callable"):
        fresh.glance(samples / "plain.mp4", time_limit_seconds=60)


def test_no_more_probes_than_readers(fresh: Probes, running: ChildProcesses, samples: Path) -> None:
    """Two threads that read twenty files need two processes at most, whatever becomes of the files."""
    most = 0
    start = running.start

    def count(*arguments: object, **options: object) -> object:
        nonlocal most
        most = max(most, 1 + len(running._processes))
        return start(*arguments, **options)  # type: ignore[arg-type]  # handed on as they come

    running.start = count  # type: ignore[assignment,method-assign]  # see who starts what
    with ThreadPoolExecutor(2) as pool:
        paths = [samples / name for name in ["plain.mp4", "text.mp4", "vfr.mp4", "turned.mp4"] * 5]
        found = list(pool.map(lambda path: _try(fresh, path), paths))
    assert found.count(None) == 5
    assert 1 <= most <= 2
    assert len(fresh._idle) <= 2


def _try(probes: Probes, path: Path) -> Claims | None:
    try:
        return _claims(probes, path)
    except UnreadableError:
        return None


def test_an_extraction_starts_a_probe_a_worker(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three videos with one worker, looked at and decoded, cost one process, which ends with the work."""
    started: list[int] = []
    build = pool._Probe.__init__

    def note(self: pool._Probe, running: ChildProcesses) -> None:
        build(self, running)
        started.append(self._process.pid)

    monkeypatch.setattr(pool._Probe, "__init__", note)
    manifest = _extract(samples, tmp_path)
    assert manifest.summary.ok == 3
    assert len(started) == 1
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def _extract(samples: Path, tmp_path: Path) -> FramesManifest:
    rows = [f"v{n},{name},c,train" for n, name in enumerate(NAMES)]
    (tmp_path / "s.csv").write_text("\n".join(["id,video,label,split", *rows]))
    config = ExtractConfig(videos=str(samples), short_side=16, workers=1)
    return extract(tmp_path / "s.csv", tmp_path / "out", config, SilentReporter())


_ASK = """
import sys, threading
from pathlib import Path
from fvar.extraction.probe.pool import Probes
from fvar.processes import ChildProcesses
with Probes(ChildProcesses()) as probes:
    probes.claims(Path(sys.argv[1]), time_limit_seconds=60)
    print(probes._idle[0]._process.pid, flush=True)
    threading.Event().wait(60)
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_no_probe_outlives_its_parent(samples: Path, ending: signal.Signals) -> None:
    """However the process that asks ends, its probe ends too."""
    command = [sys.executable, "-c", _ASK, str(samples / "plain.mp4")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.send_signal(ending)
        parent.wait(30)
    deadline = time.monotonic() + 30
    while _lives(pid):
        assert time.monotonic() < deadline, "the probe lives on"
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    """Tell whether a process runs; one that ended and that nobody asked about does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_the_working_directory_lends_no_code(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of strangers' files in which the command is run is no place that a probe imports from."""
    for name in ("av.py", "json.py", "fvar.py"):
        (tmp_path / name).write_text("raise SystemExit('imported what lay there')")
    monkeypatch.chdir(tmp_path)
    with Probes(ChildProcesses()) as probes:
        assert _claims(probes, samples / "plain.mp4").packets == 50


def test_batch_systems_and_terminals_do_not_reach_it(fresh: Probes, samples: Path) -> None:
    """Ctrl-C and a job's end are for whoever asks: the probe is in a session of its own and goes on."""
    _claims(fresh, samples / "plain.mp4")
    pid = _pid(fresh)
    assert os.getsid(pid) == pid
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, ending)
    assert _claims(fresh, samples / "plain.mp4").packets == 50
    assert _pid(fresh) == pid
