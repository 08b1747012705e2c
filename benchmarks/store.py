"""The cost of the store: reading a video against having its bytes in memory.

Usage: python benchmarks/store.py [--frames RUN/frames] [--passes 3]

``--frames`` is an extraction; without it 20 videos of 100 made-up pictures are written to a temporary folder.
Each video is read from the store and decoded; then its bytes, now in memory, are decoded by a bare loop. The
fastest of several passes counts, so that both meet the same load. The files are in the system's
cache, so the measurement shows what the store adds (HDF5, checksum, checks), not the disk.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from measuring import jpeg_clip, print_machine, print_table, stored_videos
from torchcodec.decoders import decode_jpeg

from fvar.loading.dataset import StoredVideo
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import FrameStore, write_shard
from fvar.store.manifest import FramesManifest
from fvar.store.manifest_file import read_manifest

CHUNK = 16  # frames decoded at once, the default of chunk_frames
MADE_UP = (20, 100)  # videos, frames of each


@contextmanager
def some_store(frames: Path | None) -> Iterator[tuple[Path, list[StoredVideo]]]:
    """Yield the folder of a store and its videos: those of an extraction, or made-up ones."""
    if frames is not None:
        yield frames, stored_videos(read_manifest(frames / "manifest.json", FramesManifest))
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name), _write_store(Path(name))


def _write_store(folder: Path) -> list[StoredVideo]:
    num_videos, num_frames = MADE_UP
    video = jpeg_clip(num_frames, 112).video
    ids = [str(number) for number in range(num_videos)]
    write_shard(folder / "shard.h5", [(video_id, video) for video_id in ids])
    return [StoredVideo(video_id, "shard.h5", 0, num_frames) for video_id in ids]


def decode(video: EncodedVideo) -> None:
    """Decode all pictures, a chunk at a time."""
    coded = [torch.from_numpy(video.frame(index)) for index in range(video.num_frames)]
    for first in range(0, len(coded), CHUNK):
        decode_jpeg(coded[first : first + CHUNK])


def compare_reading(folder: Path, videos: list[StoredVideo], *, passes: int) -> None:
    """Print the rate of reading and decoding whole videos, and of decoding alone."""
    torch.set_num_threads(1)
    parts = dict.fromkeys(("read", "stored", "bare"), 0.0)
    with FrameStore(folder) as store:
        for video in videos:
            seconds: dict[str, list[float]] = {name: [] for name in parts}
            for _ in range(passes):
                started = time.perf_counter()
                encoded = store.read(video.shard, video.id)
                read = time.perf_counter()
                decode(encoded)
                stored = time.perf_counter()
                decode(encoded)
                ended = time.perf_counter()
                spent = (read - started, stored - started, ended - stored)
                for name, value in zip(parts, spent, strict=True):
                    seconds[name].append(value)
            for name in parts:
                parts[name] += min(seconds[name])
    frames = sum(video.num_frames for video in videos)
    rates = [f"{frames / parts[name]:.0f}" for name in parts]
    print_table(
        f"{len(videos)} videos, {frames} frames, one thread: frames/s",
        ("reading alone", "read and decoded", "decoded from memory", "ratio"),
        [(*rates, f"{parts['bare'] / parts['stored']:.3f}")],
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--passes", type=int, default=3)
    flags = parser.parse_args()
    with some_store(flags.frames) as (folder, videos):
        compare_reading(folder, videos, passes=flags.passes)
    print_machine()


if __name__ == "__main__":
    main()
