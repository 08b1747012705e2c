"""Tiny frame stores with their manifests, clips and settings, for the tests of training and evaluation."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fvar.config import ExtractConfig, TrainConfig
from fvar.fields import Split
from fvar.loading.clip import EncodedClip
from fvar.loading.dataset import StoredVideo, make_clip
from fvar.loading.view import View, evaluation_view
from fvar.reporting import SilentReporter
from fvar.stages.train import train
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import VideoHeader, write_shard
from fvar.store.manifest import FramesManifest, FramesSummary, Status, VideoEntry
from fvar.store.manifest_file import write_manifest
from fvar.store.provenance import input_file, output_file, tool_versions
from fvar.training.checkpoint import Checkpoint, load_checkpoint

HEIGHT, WIDTH = 40, 48
# Changes of `tiny_config` with which representations are kept
FROZEN: dict[str, Any] = {
    "freeze_stem": True,
    "norm": "frozen",
    "crop": "center",
    "epochs": 3,
    "clustering": "cumulative",  # which measures the step distances that an inspection needs too
}
CLASSES = ("down", "left", "up")


@dataclass(frozen=True)
class Row:
    """A row of the made-up source CSV, with the number of its frames and its verdict."""

    id: str
    label: str
    split: Split
    num_frames: int
    status: Status = "ok"


ROWS = (
    Row("a", "down", "train", 3),
    Row("b", "left", "train", 9),
    Row("c", "up", "train", 5),
    Row("d", "down", "train", 7),
    Row("e", "left", "train", 12),
    Row("f", "up", "train", 1),
    Row("v", "down", "val", 6),
    Row("w", "left", "val", 4),
    Row("x", "down", "test", 8),
    Row("y", "left", "test", 2),
    Row("z", "up", "test", 11),
)


def sample_pictures(name: str, num_frames: int) -> list[bytes]:
    """Return JPEG pictures of coarse noise that `name` alone decides."""
    draw = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]))
    pictures = []
    for _ in range(num_frames):
        noise = Image.fromarray(draw.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        file = io.BytesIO()
        noise.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
        pictures.append(file.getvalue())
    return pictures


def sample_video(pictures: Sequence[bytes]) -> EncodedVideo:
    """Return pictures as a video of 25 frames per second."""
    return EncodedVideo(
        jpeg=np.frombuffer(b"".join(pictures), dtype=np.uint8).copy(),  # writable, as from a store
        offsets=np.cumsum([0, *map(len, pictures)], dtype=np.int64),
        pts_seconds=np.arange(len(pictures)) / 25,
        width=WIDTH,
        height=HEIGHT,
        fps=25.0,
    )


def sample_clip(
    video_id: str, pictures: Sequence[bytes], view: View | None = None, *, epoch: int = 0
) -> EncodedClip:
    """Return pictures as a clip, whole where no view is given."""
    video = sample_video(pictures)
    stored = StoredVideo(video_id, "shard.h5", 0, video.num_frames)
    view = view or evaluation_view(tiny_config(crop_share=1.0))
    header = VideoHeader(video.height, video.width, video.checksum())
    return make_clip(stored, header, lambda: video, view, epoch=epoch, device=torch.device("cpu"))


def sample_videos(rows: Sequence[Row]) -> dict[str, EncodedVideo]:
    """Return the video of every row that has frames."""
    return {
        row.id: sample_video(sample_pictures(row.id, row.num_frames))
        for row in rows
        if row.num_frames
    }


def write_frames(
    folder: Path,
    rows: Sequence[Row] = ROWS,
    *,
    videos: dict[str, EncodedVideo] | None = None,
    per_shard: int = 4,
) -> Path:
    """Write the files that an extraction of `rows` would leave in `folder`, its source CSV beside it."""
    videos = sample_videos(rows) if videos is None else videos
    source = folder.parent / "source.csv"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text("id,video,label,split\n" + "".join(f"{row.id}\n" for row in rows))
    shards = [
        (f"shards/shard-{first // per_shard:05d}.h5", rows[first : first + per_shard])
        for first in range(0, len(rows), per_shard)
    ]
    for name, members in shards:
        write_shard(folder / name, [(r.id, videos[r.id]) for r in members if r.id in videos])
    entries = [
        _entry(row, shard, videos.get(row.id)) for shard, members in shards for row in members
    ]
    manifest = FramesManifest(
        versions=tool_versions([]),
        classes=sorted({row.label for row in rows if row.label}),
        inputs=[input_file(folder, source)],
        outputs=[output_file(folder, name) for name, _ in shards],
        config=ExtractConfig(videos="videos", short_side=HEIGHT),
        summary=_summary(entries),
        videos=entries,
    )
    write_manifest(folder, manifest)
    return folder


def _entry(row: Row, shard: str, video: EncodedVideo | None) -> VideoEntry:
    return VideoEntry(
        id=row.id,
        video=f"{row.id}.mp4",
        label=row.label,
        split=row.split,
        status=row.status,
        reason=None if row.status == "ok" else "made so",
        num_frames=row.num_frames,
        shard=shard if video else None,
        width=WIDTH,
        height=HEIGHT,
        fps=25.0,
        num_bytes=len(video.jpeg) if video else 0,
    )


def _summary(entries: Sequence[VideoEntry]) -> FramesSummary:
    found = [entry.status for entry in entries]
    return FramesSummary(
        num_videos=len(entries),
        ok=found.count("ok"),
        partial=found.count("partial"),
        failed=found.count("failed"),
        frames=sum(entry.num_frames for entry in entries),
        num_bytes=sum(entry.num_bytes for entry in entries),
    )


def tiny_config(**changes: Any) -> TrainConfig:
    """Return settings of a training that takes a second: dropout and random crops and flips included."""
    settings: dict[str, Any] = {
        "backbone": "tiny",
        "weights": "none",
        "size": 32,
        "clusters": 4,
        "epochs": 2,
        "batch_size": 3,
        "lr": 0.01,
        "dropout": 0.5,
        "crop": "multi-scale",
        "flip": True,
        "norm": "stem-frozen",
        "chunk_frames": 4,
        "workers": 0,
        "device": "cpu",
    }
    return TrainConfig(**(settings | changes))


def run_training(
    frames: Path, out: Path, *, resume: bool = False, overwrite: bool = False, **changes: Any
) -> Path:
    """Train with `tiny_config`, and return the folder `out`."""
    config = tiny_config(**changes)
    train(frames, out, config, SilentReporter(), resume=resume, overwrite=overwrite)
    return out


def last_checkpoint(folder: Path) -> Checkpoint:
    """Return the last checkpoint of a training."""
    return load_checkpoint(folder / "checkpoints" / "last.pt")


def training_metrics(folder: Path) -> list[dict[str, float]]:
    """Return the metrics of each epoch without those that time decides."""
    timings = {"frames_per_second", "seconds"}
    rows = last_checkpoint(folder).history
    return [{k: v for k, v in row.items() if k not in timings} for row in rows]


def same_tree(a: Any, b: Any) -> bool:
    """Return whether two trees of containers and tensors are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_tree(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same_tree(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def assert_same_training(a: Path, b: Path) -> None:
    """Assert that two trainings have the same weights, momenta and metrics, to the bit."""
    one, other = last_checkpoint(a), last_checkpoint(b)
    for part in ("model", "optimizer", "scheduler", "scaler"):
        assert same_tree(getattr(one, part), getattr(other, part)), part
    assert training_metrics(a) == training_metrics(b)


def flip_byte(path: Path, *, at: int, mask: int = 1) -> None:
    """Change bits of the byte `at` of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= mask
    path.write_bytes(content)


def cache_entries(folder: Path) -> list[Path]:
    """Return the files of kept representations anywhere in a folder."""
    return sorted(folder.rglob("*.representations"))
