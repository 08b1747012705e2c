"""Tiny videos, made by the bundled ffmpeg (each command beside its name), and what extracts them."""

import contextlib
import csv
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest

from fvar.config import ExtractConfig
from fvar.extraction.decode import Decoded, Decoder
from fvar.extraction.run import Extraction, open_extraction
from fvar.reporting import Progress, SilentReporter
from fvar.store.manifest import FramesManifest

NAMES = ["plain.mp4", "b frames.avi", "vfr.mp4"]
WHOLE = [*NAMES, "turned.mp4", "wide pixels.mp4"]

Run = Callable[..., FramesManifest]  # the fixture `run` of the tests of `fvar extract`

_TEST = "-f lavfi -i testsrc=duration={seconds}:rate=25:size={size}"
_X264 = "-c:v libx264 -pix_fmt yuv420p"

# name -> the arguments between `ffmpeg -y` and the name; {name} is an earlier sample.
_COMMANDS = {
    "plain.mp4": f"{_TEST} {_X264} -bf 2 -movflags +faststart".format(seconds=2, size="64x48"),
    "b frames.avi": f"{_TEST} -c:v mpeg4 -bf 2".format(seconds=1, size="64x48"),
    # Every 2nd frame of the first second (13), every 5th of the next (5): filling the gaps would make more.
    "vfr.mp4": (
        f"{_TEST} {_X264} -vf select='lt(t,1)*not(mod(n,2))+gte(t,1)*not(mod(n,5))' -fps_mode vfr"
    ).format(seconds=2, size="64x48"),
    "turned.mp4": "-display_rotation 90 -i plain.mp4 -c copy",
    "wide pixels.mp4": f"{_TEST} {_X264} -vf setsar=2/1".format(seconds=1, size="64x48"),
    "-dash:colon [b] 'q'.mp4": "-i plain.mp4 -c copy",
    "plain.mkv": "-i plain.mp4 -c copy",
    "plain.ts": "-i plain.mp4 -c copy",
    "plain.flv": "-i plain.mp4 -c copy",
    "plain.ogv": f"{_TEST} -c:v libtheora".format(seconds=2, size="64x48"),
    "plain.wmv": f"{_TEST} -c:v wmv2".format(seconds=2, size="64x48"),
    "plain.webm": f"{_TEST} -c:v libvpx-vp9 -deadline realtime -cpu-used 8".format(
        seconds=2, size="64x48"
    ),
    "fragments.mp4": f"{_TEST} {_X264} -g 10 -movflags frag_keyframe+empty_moov".format(
        seconds=2, size="64x48"
    ),
    "indexed.mp4": "-i fragments.mp4 -c copy -movflags +dash+global_sidx",
    "live.mkv": "-i plain.mp4 -c copy -f matroska -live 1",
    "trimmed.mp4": f"{_TEST} {_X264} -g 25 -bf 0".format(seconds=2, size="64x48"),
    "small.h264": f"{_TEST} {_X264}".format(seconds=0.4, size="64x48"),
    "wide.h264": f"{_TEST} {_X264}".format(seconds=0.4, size="128x48"),
    "large.h264": f"{_TEST} {_X264}".format(seconds=0.4, size="128x96"),
    "sound.m4a": "-f lavfi -i sine=duration=1 -c:a aac",
}


def make_samples(folder: Path) -> Path:
    """Fill `folder` with the samples above, and with broken ones made from them."""
    for name, command in _COMMANDS.items():
        _ffmpeg(folder, *command.split(), name)
    # A copy that begins between two key frames: the edit list hides the 10 frames before.
    (folder / "trimmed.mp4").rename(folder / "whole.mp4")
    _ffmpeg(folder, "-ss", "0.4", "-i", "whole.mp4", "-c", "copy", "trimmed.mp4")
    # Bare streams may be joined byte by byte: the frame size changes in the middle.
    for change, second in (("wider.h264", "wide.h264"), ("larger.h264", "large.h264")):
        joined = (folder / "small.h264").read_bytes() + (folder / second).read_bytes()
        (folder / change).write_bytes(joined)
    for name in ("plain.mp4", "plain.mkv"):
        whole = (folder / name).read_bytes()
        (folder / f"cut {name}").write_bytes(whole[: len(whole) * 6 // 10])
    (folder / "text.mp4").write_text("not a video\n")
    (folder / "empty.mp4").write_bytes(b"")
    return folder


def _ffmpeg(folder: Path, *arguments: str) -> None:
    *rest, name = arguments
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *rest]
    subprocess.run([*command, f"file:{name}"], cwd=folder, check=True)


def write_source(folder: Path, names: list[str], **columns: list[str]) -> Path:
    """Write a source CSV of videos `names`, with ids v0 and on, classes c0 and c1, and more columns."""
    path = folder / "source.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "video", "label", "split", *columns])
        for n, name in enumerate(names):
            cells = (column[n] for column in columns.values())
            writer.writerow([f"v{n}", name, f"c{n % 2}", "train", *cells])
    return path


def extract_config(videos: Path, **settings: Any) -> ExtractConfig:
    """Return settings for small pictures, one video per shard and one worker, changed by `settings`."""
    flags = {"videos": str(videos), "short_side": 16, "videos_per_shard": 1, "workers": 1}
    return ExtractConfig.model_validate(flags | settings)


def plan_extraction(folder: Path, names: list[str], config: ExtractConfig) -> Extraction:
    """Return the plan of an extraction of `names` into a folder that exists."""
    source, out = write_source(folder, names), folder / "planned"
    flags = {"label": "", "overwrite": False, "update": False}
    with open_extraction(source, out, config, SilentReporter(), **flags) as plan:
        (out / "shards").mkdir(parents=True)
        return plan


def fake_ffmpeg(folder: Path, body: str) -> Path:
    """Write a program that says it is an ffmpeg, does `body`, and then what the bundled ffmpeg does."""
    path = folder / "ffmpeg"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = -version ] && {{ echo ffmpeg version 9.0; exit; }}\n{body}\n'
        f'exec "{imageio_ffmpeg.get_ffmpeg_exe()}" "$@"\n'
    )
    path.chmod(0o755)
    return path


def before_decode(monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], object]) -> None:
    """Call `act` with the path of each file before the file is decoded."""
    decode = Decoder.decode

    def acted(decoder: Decoder, path: Path, *rest: Any, **hashed: Any) -> list[Decoded]:
        act(path)
        return decode(decoder, path, *rest, **hashed)

    monkeypatch.setattr(Decoder, "decode", acted)


def decoded_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that receives the name of each file that is decoded."""
    names: list[str] = []
    before_decode(monkeypatch, lambda path: names.append(path.name))
    return names


class Recorder(SilentReporter):
    """Keeps what a stage reports."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.bar: tuple[str, float | None, str] | None = None
        self.done = 0.0

    def info(self, message: str) -> None:
        self.lines.append(message)

    warning = info

    @contextlib.contextmanager
    def progress(self, description: str, *, total: float | None, unit: str) -> Iterator[Progress]:
        self.bar = (description, total, unit)
        yield self

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        self.done += amount
        self.notes.append(note or "")
