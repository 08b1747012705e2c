"""Tiny videos, made by the bundled ffmpeg; the command that makes each stands beside its name."""

import subprocess
from pathlib import Path

import imageio_ffmpeg

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
