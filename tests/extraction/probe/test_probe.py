"""Probe processes: they alone suffer from the files that they read, and answer as a call does."""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from probe_questions import break_down, crash, hang, process_id
from processes import lives
from video_samples import NAMES, extract_config, write_source

from fvar.errors import StoppedError
from fvar.extraction.probe import container, pool
from fvar.extraction.probe.claims import Claims, Glance, UnreadableError
from fvar.extraction.probe.pool import ProbePool
from fvar.processes import ChildProcesses
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract

LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux bounds a process's memory"
)


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
    assert not lives(pid)
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


@pytest.mark.slow
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
    source = write_source(tmp_path, NAMES)
    manifest = extract(source, tmp_path / "out", extract_config(samples), SilentReporter())
    assert manifest.summary.ok == 3
    assert len(started) == 1
    assert not lives(started[0])


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
