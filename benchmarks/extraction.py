"""Extraction compared with bare ffmpeg, which decodes, scales and encodes the same frames and drops them.

Usage: python benchmarks/extraction.py [--source CSV --videos DIR] [--workers 2] [--repeats 3]

Without ``--source`` synthetic videos are extracted, 640x480 px, H.264: 24 of 400 frames, 240 of 40, and one
of 10, which shows the cost of starting a command. Both sides run the same number of processes. Whole commands
are timed in turn: `fvar extract` includes its start, estimate, proof of completeness, checksums and writing.
"""

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio_ffmpeg
from measuring import print_machine, print_table

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
SYNTHETIC = ((1, 10), (24, 400), (240, 40))  # number of videos, frames of each
_SCALE = "scale=w='if(gte(dar,1),2*round(256*dar/2),256)':h='if(gte(dar,1),256,2*round(256/dar/2))'"


def make_video(path: Path, num_frames: int) -> None:
    """Write moving shapes under noise."""
    picture = f"testsrc2=size=640x480:rate=25:duration={num_frames / 25},noise=alls=12:allf=t"
    options = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-y", str(path)]
    command = [FFMPEG, "-loglevel", "error", "-f", "lavfi", "-i", picture, *options]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def make_source(folder: Path, *, num_videos: int, num_frames: int) -> Path:
    """Write a source CSV and its videos, which are copies of one."""
    first = folder / "0.mp4"
    make_video(first, num_frames)
    names = [f"{number}.mp4" for number in range(num_videos)]
    for name in names[1:]:
        shutil.copy(first, folder / name)
    path = folder / "source.csv"
    rows = [f"{name},{name},c,train" for name in names]
    path.write_text("\n".join(["id,video,label,split", *rows]), encoding="utf-8")
    return path


def bare(source: Path, videos: Path, *, workers: int) -> None:
    """Decode, scale and encode each video in an ffmpeg of one thread, `workers` at a time."""
    with source.open(encoding="utf-8", newline="") as file:
        paths = [videos / row["video"] for row in csv.DictReader(file)]

    def one(path: Path) -> None:
        before = ["-loglevel", "error", "-nostdin", "-filter_threads", "1", "-threads", "1"]
        after = ["-map", "0:V:0", "-vf", f"{_SCALE},format=yuvj420p", "-fps_mode", "passthrough"]
        encode = ["-c:v", "mjpeg", "-q:v", "2", "-threads", "1", "-f", "null", "-"]
        subprocess.run([FFMPEG, *before, "-i", str(path), *after, *encode], check=True)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, paths))


def extract(source: Path, videos: Path, *, workers: int, out: Path) -> None:
    """Run `fvar extract`."""
    command = [sys.executable, "-m", "cli", "extract", str(source), "--videos", str(videos)]
    command += ["--out", str(out), "--workers", str(workers)]
    root = str(Path(__file__).resolve().parents[1])
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": root}
    )


def compare(
    name: str, source: Path, videos: Path, *, workers: int, repeats: int
) -> tuple[str, ...]:
    """Return a table row with the medians over alternating runs."""
    seconds: list[tuple[float, float]] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            bare(source, videos, workers=workers)
            between = time.perf_counter()
            extract(source, videos, workers=workers, out=Path(folder) / "frames")
            seconds.append((between - began, time.perf_counter() - between))
    ratios = [first / second for first, second in seconds]
    medians = [statistics.median(column) for column in zip(*seconds, strict=True)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    return (name, *(f"{s:.1f}" for s in medians), f"{statistics.median(ratios):.2f}", spread)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    flags = parser.parse_args()
    how = {"workers": flags.workers, "repeats": flags.repeats}
    rows: list[tuple[str, ...]] = []
    if flags.source is not None:
        rows.append(compare(flags.source.name, flags.source, flags.videos, **how))
    for num_videos, num_frames in [] if rows else SYNTHETIC:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            source = make_source(folder, num_videos=num_videos, num_frames=num_frames)
            rows.append(compare(f"{num_videos} x {num_frames} frames", source, folder, **how))
    columns = ("videos", "bare ffmpeg s", "fvar extract s", "ratio", "from to")
    print_table(f"extraction with {flags.workers} workers, whole commands", columns, rows)
    print_machine()


if __name__ == "__main__":
    main()
