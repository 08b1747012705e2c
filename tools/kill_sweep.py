"""Kills an extraction at random moments, reruns it, and checks that the store equals an uninterrupted one.

Usage: PYTHONPATH=tests/helpers python tools/kill_sweep.py [KILLS] [SEED]
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from video_samples import make_samples, write_source

from fvar.config import ExtractConfig
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract
from fvar.store.frame_store import FrameStore
from fvar.store.manifest import FramesManifest
from fvar.store.manifest_file import read_manifest

NAMES = ["plain.mp4", "b frames.avi", "vfr.mp4", "turned.mp4", "wide pixels.mp4", "plain.mkv"]


def content(out: Path) -> dict[str, str]:
    """Return a hash of the decoded content of each video of a complete store."""
    manifest = read_manifest(out / "manifest.json", FramesManifest)
    found = {}
    with FrameStore(out) as store:
        for entry in manifest.videos:
            digest = hashlib.sha256(entry.model_dump_json(exclude={"shard"}).encode())
            if entry.shard is not None:
                video = store.read(entry.shard, entry.id)
                for array in (video.jpeg, video.offsets, video.pts_seconds):
                    digest.update(array.tobytes())
            found[entry.id] = digest.hexdigest()
    return found


def finished_shards(out: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of the shards that have a record."""
    paths = [path.with_suffix(".h5") for path in sorted((out / "shards").glob("shard-*.json"))]
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in paths if p.exists()}


def sweep(folder: Path, videos: Path, *, kills: int, seed: int, say: Callable[[str], None]) -> int:
    """Kill an extraction `kills` times, and return the number of runs that were completed.

    Args:
        folder: Working folder.
        videos: Folder that holds `NAMES`.
        kills: Number of processes to kill.
        seed: Seed of the random moments.
        say: Receives a line per kill.

    Raises:
        AssertionError: A rerun redid a finished shard, or a store differs from the uninterrupted run's.
    """
    source = write_source(folder, NAMES)
    process = _start(source, videos, folder / "whole")
    _wait_for_work(folder / "whole", process)
    began = time.monotonic()
    assert process.wait() == 0
    seconds = time.monotonic() - began
    wanted = content(folder / "whole")
    draw = random.Random(seed)
    killed = completed = 0
    out = folder / f"out-{completed}"
    code: int | None = None
    while killed < kills or code != 0:  # the last killed one is rerun to its end
        before = finished_shards(out)
        process = _start(source, videos, out)
        if killed < kills:
            _wait_for_work(out, process)
            time.sleep(draw.uniform(0, seconds))
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        after = finished_shards(out)
        assert {name: after.get(name) for name in before} == before, "a finished shard was redone"
        if code == -signal.SIGKILL:
            killed += 1
            say(f"kill {killed}: {len(before)} shards before, {len(after)} after")
            if not (out / "manifest.json").exists():
                continue  # otherwise it was killed after everything was written
        else:
            assert code == 0, f"the rerun ended with code {code}"
        assert content(out) == wanted, "the store differs from that of an uninterrupted run"
        left = sorted(str(path.relative_to(out)) for path in out.rglob("*.partial"))
        assert not left, f"left: {', '.join(left)}"
        completed += 1
        out = folder / f"out-{completed}"
    return completed


def _wait_for_work(out: Path, process: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of imports, where a kill proves little."""
    before = set(out.glob("shards/*"))
    while process.poll() is None and set(out.glob("shards/*")) <= before:
        time.sleep(0.005)


def _start(source: Path, videos: Path, out: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, __file__, "--extract", str(source), str(videos), str(out)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(command, env=environment)


def _extract(source: str, videos: str, out: str) -> None:
    config = ExtractConfig(
        videos=videos, short_side=16, workers=2, videos_per_shard=1, reserve_gb=0
    )
    extract(Path(source), Path(out), config, SilentReporter())


def main(arguments: list[str]) -> None:
    """Run the sweep, or as its child one extraction."""
    if arguments[:1] == ["--extract"]:
        _extract(*arguments[1:])
        return
    kills, seed = map(int, [*arguments, *["30", "0"][len(arguments) :]])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "videos").mkdir()
        videos = make_samples(folder / "videos")
        completed = sweep(folder, videos, kills=kills, seed=seed, say=_say)
    _say(f"{kills} kills, {completed} runs completed, each equal to the uninterrupted one")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
