"""Helpers of the benchmarks: clips of real JPEG pictures, recognizers, clocks, fresh processes and tables."""

import io
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from fvar.config import TrainConfig
from fvar.loading.clip import EncodedClip
from fvar.loading.dataset import StoredVideo, VideoDataset
from fvar.loading.transforms import center_framing
from fvar.loading.view import evaluation_view
from fvar.model.build import build_recognizer, build_sweep
from fvar.model.interface import Sweep
from fvar.model.recognizer import Recognizer
from fvar.store.encoded_video import EncodedVideo
from fvar.store.manifest import FramesManifest
from fvar.store.manifest_file import read_manifest
from fvar.system import keep_freed_memory

PICTURE = (256, 344)  # height and width of stored pictures, px; 15 to 20 KB each
CPU = torch.device("cpu")
_DISTINCT = 32  # pictures, repeated; each frame has its own copy of the bytes
_KB_PER_MB = 1024


def jpeg_clip(num_frames: int, size: int, *, device: torch.device = CPU) -> EncodedClip:
    """Return a video of drifting noise as a training gets it: encoded, decoded on demand."""
    rng, pictures = np.random.default_rng(0), []
    coarse = rng.integers(0, 256, (20, 28, 3), np.uint8)
    for at in range(min(_DISTINCT, num_frames)):
        smooth = Image.fromarray(np.roll(coarse, at, axis=1)).resize(PICTURE[::-1], Image.BICUBIC)
        noisy = np.clip(np.asarray(smooth) + rng.normal(0, 3, (*PICTURE, 3)), 0, 255)
        file = io.BytesIO()
        Image.fromarray(noisy.astype(np.uint8)).save(file, "jpeg", quality=80)
        pictures.append(np.frombuffer(file.getvalue(), np.uint8))
    video = encoded_video([pictures[at % _DISTINCT] for at in range(num_frames)], *PICTURE)
    return EncodedClip(
        id="noise",
        label=0,
        num_frames=num_frames,
        load=lambda: video,
        framing=center_framing(*PICTURE, fraction=0.875),
        size=size,
        device=device,
        cut_key=0,
    )


def encoded_video(pictures: Sequence[np.ndarray], height: int, width: int) -> EncodedVideo:
    """Return JPEG pictures as a video of 25 frames per second."""
    offsets = np.cumsum([0, *map(len, pictures)], dtype=np.int64)
    times = np.arange(len(pictures)) / 25
    return EncodedVideo(np.concatenate(pictures), offsets, times, width=width, height=height)


def some_clip(frames: Path | None, video_id: str, size: int, *, made_up: int) -> EncodedClip:
    """Return a video of an extraction as an evaluation gets it, or `made_up` frames of noise."""
    if frames is None:
        return jpeg_clip(made_up, size)
    manifest = read_manifest(frames / "manifest.json", FramesManifest)
    (video,) = (video for video in stored_videos(manifest) if video.id == video_id)
    view = evaluation_view(TrainConfig(size=size))
    return VideoDataset(frames, [video], view, device=CPU)[0, 0]


def stored_videos(manifest: FramesManifest) -> list[StoredVideo]:
    """Return the videos of an extraction that have frames, all with label 0."""
    return [
        StoredVideo(video.id, video.shard, label=0, num_frames=video.num_frames)
        for video in manifest.videos
        if video.shard is not None
    ]


class StillClip:
    """A video whose pictures (T, 3, S, S) are ready, so that the time to make them is not measured."""

    cut_key = 0

    def __init__(self, pictures: torch.Tensor) -> None:
        self._pictures = pictures

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self._pictures)

    def pictures(self, frames: Sequence[int]) -> torch.Tensor:
        """Return (n, 3, S, S) float32."""
        return self._pictures[list(frames)]


def recognizer(
    backbone: str, size: int, *, device: torch.device = CPU, **settings: Any
) -> tuple[Recognizer, Sweep]:
    """Build a network from scratch, with frozen statistics and a stem that trains, and its sweep."""
    torch.manual_seed(0)
    keep_freed_memory()
    fixed = {"weights": "none", "norm": "frozen", "freeze_stem": False, "dropout": 0.0}
    config = TrainConfig.model_validate(
        fixed | {"backbone": backbone, "size": size, "engine": "chunked"} | settings
    )
    network = build_recognizer(config, num_classes=10).to(device)
    return network, build_sweep(config, network.backbone, device=device)


def step(network: Recognizer, sweep: Sweep, clip: EncodedClip | StillClip) -> None:
    """Run forward and backward of one video."""
    network.zero_grad()
    backward(network([clip], sweep))


def backward(logits: torch.Tensor) -> None:
    """Run the backward pass of videos that are all of class 0, from their logits (B, classes)."""
    labels = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()


def fastest(action: Callable[[], object], *, repeats: int) -> float:
    """Return the seconds of the fastest of `repeats` calls after a first one; with 0, of the first."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:] or seconds)


def peak_mb() -> float:
    """Return the largest resident set of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KB_PER_MB


def in_fresh_process(script: str, *arguments: object) -> list[float]:
    """Run ``script --one ARGUMENTS`` and return the numbers it prints."""
    command = [sys.executable, script, "--one", *map(str, arguments)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [float(word) for word in answer.split()]


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print right-aligned columns."""
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*map(str, row))
    print(title)
    Console(width=120).print(table)


def print_machine() -> None:
    """Print the machine that was measured."""
    threads = torch.get_num_threads()
    print(
        f"{os.cpu_count()} cores, {threads} threads, {platform.machine()}, torch {torch.__version__}\n"
    )


def script_name(file: str) -> str:
    """Return the path of a benchmark, for `in_fresh_process`."""
    return str(Path(file).resolve())
