"""Extraction that a signal ends, or whose ffmpeg hangs or is killed: one line, nothing lost or left."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, cast

import pytest
from kill_sweep import finished_shards, sweep
from processes import lives, wait_until
from video_samples import NAMES, Recorder, Run, extract_config, fake_ffmpeg, write_source

from fvar.errors import StoppedError
from fvar.extraction import make_shards as making
from fvar.stages.extract import extract


@pytest.mark.slow
def test_kills_change_nothing(samples: Path, tmp_path: Path) -> None:
    """After SIGKILL at random moments a rerun keeps finished shards and ends with the very same store."""
    assert sweep(tmp_path, samples, kills=2, seed=3, say=lambda _: None) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_batch_system_ends_everything(
    samples: Path, tmp_path: Path, ending: signal.Signals
) -> None:
    """SIGTERM and SIGHUP are Ctrl-C, also twice: code 3, one line, no temporary file, no ffmpeg left."""
    pids = tmp_path / "pids"
    pids.touch()
    program = fake_ffmpeg(tmp_path, f'echo $$ >> "{pids}"\nexec sleep 60')
    source = write_source(tmp_path, NAMES)
    command = [sys.executable, "-m", "cli", "extract", str(source), "--videos", str(samples)]
    command += ["--out", str(tmp_path / "o"), "--ffmpeg", str(program), "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_until(lambda: len(pids.read_text().split()) >= 2)
        process.send_signal(ending)
        line = cast(IO[bytes], process.stderr).readline()
        time.sleep(0.02)  # on its way out
        process.send_signal(ending)
        _, more = process.communicate(timeout=120)
    assert process.returncode == 3
    assert line.startswith(b"fvar: interrupted: ")
    assert not more
    assert not any(lives(int(pid)) for pid in pids.read_text().split())
    assert not list((tmp_path / "o").rglob("*.partial"))


@pytest.mark.slow
def test_hashing_ends_with_the_rest(videos: Path, tmp_path: Path) -> None:
    """Ctrl-C does not wait until a source of gigabytes is read to its end."""
    with (videos / "vfr.mp4").open("ab") as file:
        file.truncate(1 << 40)  # a hole, which takes no room and hours to read
    source = write_source(tmp_path, ["vfr.mp4", *NAMES[:2]])
    command = [sys.executable, "-m", "cli", "extract", str(source), "--videos", str(videos)]
    command += ["--out", str(tmp_path / "o"), "--reserve-gb", "0", "--short-side", "16"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_until(lambda: list(tmp_path.glob("o/shards/.*.partial")))
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 3
    assert errors.startswith(b"fvar: interrupted")


def test_an_ffmpeg_asked_to_end_is_no_verdict(run: Run, tmp_path: Path) -> None:
    """If a batch system ends ffmpeg before us, the video is not called partial: we stop."""
    program = fake_ffmpeg(tmp_path, "kill -TERM $$")
    with pytest.raises(StoppedError, match=r"its ffmpeg was ended by signal 15; run the same"):
        run(ffmpeg=str(program))
    assert not finished_shards(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("exec sleep 60", "ffmpeg gave no frame for 2 s (--time-limit)"),
        ("sleep 60", "ffmpeg gave no frame for 2 s (--time-limit)"),  # a script around ffmpeg
        ("kill -KILL $$", "ffmpeg was killed, perhaps because memory ran out"),
    ],
)
def test_an_ffmpeg_that_hangs_or_is_killed(
    run: Run, tmp_path: Path, body: str, reason: str
) -> None:
    """Its video is failed with a reason, the others are extracted, and `update` tries it alone again."""
    ill = tmp_path / "ill"
    ill.touch()
    program = fake_ffmpeg(tmp_path, f'case "$*" in *vfr.mp4*) [ -e "{ill}" ] && {body};; esac')
    settings = {"ffmpeg": str(program), "time_limit_seconds": 2}
    manifest = run(**settings)
    assert [video.status for video in manifest.videos] == ["ok", "ok", "failed"]
    assert reason in (manifest.videos[2].reason or "")
    before = finished_shards(tmp_path / "out")
    ill.unlink()
    assert run(**settings, update=True).summary.ok == 3
    after = finished_shards(tmp_path / "out")
    assert [name for name in before if after[name] == before[name]] == sorted(before)[:2]


@pytest.mark.slow
def test_a_long_video_shows_that_it_goes_on(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a long video is decoded, the progress shows its frames so far and counts no row."""
    program = fake_ffmpeg(tmp_path, 'set -- -readrate 1 "$@"')
    monkeypatch.setattr(making, "_PROGRESS_SECONDS", 0.2)
    source = write_source(tmp_path, NAMES[:1])
    config, reporter = extract_config(videos, ffmpeg=str(program)), Recorder()
    extract(source, tmp_path / "out", config, reporter)
    assert reporter.done == 1
    *notes, last = reporter.notes
    found = [re.search(r"^0 frames, .* (\d+) decoded in this run$", note) for note in notes]
    decoded = [int(match[1]) for match in found if match]
    assert len(decoded) == len(notes) > 2
    assert 0 < decoded[-1] <= 50
    assert sorted(decoded) == decoded
    assert last.startswith("50 frames, ")
