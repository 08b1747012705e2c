"""Real clips in several containers, damaged in hundreds of places, and what extraction says of each copy.

Usage: python benchmarks/damage.py DATA [--flips 50] [--repeats 10]

DATA is a folder with `long/` and `ut_interaction/`. A clip is cut at every 5 % of its bytes, and a byte is
flipped (all eight bits) at each of 50 seeded places, one place at a time and all at once. What matters is the
column of clips that ended ok with fewer frames than the whole one has; each of them is listed below. A
sample of the damaged clips is extracted again and again: verdict and frames must stay the same. (The words
need not: ffmpeg's own contain figures that change from run to run.)
"""

import argparse
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import imageio_ffmpeg
from rich.console import Console
from rich.table import Table

from fvar.extraction.decode import Decoded, Decoder
from fvar.extraction.ffmpeg import DecodeSettings, find_ffmpeg
from fvar.extraction.probe.pool import ProbePool

STEP_PERCENT = 5
UNITS = {"whole-packets.ts": 188}  # cut between two packets: nothing in the file shows it
SAMPLE_EVERY = 12  # damaged clips of which one is extracted again and again
_SMALL = "-vf scale=320:-2 -frames:v 120"
_X264 = f"{_SMALL} -c:v libx264 -preset veryfast -crf 28"

# container -> the clip under DATA, and how ffmpeg makes the sample from it
SAMPLES = {
    "avi": ("ut_interaction/videos/hug/10_2_1.avi", "-c copy"),
    "mp4": ("long/sam2__04_coffee.mp4", f"{_X264} -c:a aac -shortest"),
    "mov": ("long/intel__bottle-detection.mp4", f"{_SMALL} -c:v mpeg4 -q:v 4"),
    "mkv": ("long/askanything__jesse_dance.mp4", _X264),
    "webm": (
        "long/tracktor__mouse_video.mp4",
        f"{_SMALL} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 300k",
    ),
    "ts": ("long/intel__one-by-one-person-detection.mp4", _X264),
    "whole-packets.ts": ("long/intel__one-by-one-person-detection.mp4", _X264),
    "mpg": ("ut_interaction/videos/kick/11_12_2.avi", f"{_SMALL} -c:v mpeg2video -q:v 4"),
    "flv": ("long/sam2__04_coffee.mp4", f"{_X264} -an"),
    "wmv": ("long/intel__bottle-detection.mp4", f"{_SMALL} -c:v wmv2 -q:v 4"),
    "ogv": ("long/askanything__jesse_dance.mp4", f"{_SMALL} -c:v libtheora -q:v 4"),
    "gif": ("ut_interaction/videos/hug/10_2_1.avi", "-vf scale=96:-2 -frames:v 60"),
    "apng": ("ut_interaction/videos/hug/10_2_1.avi", "-vf scale=96:-2 -frames:v 60"),
    "fragmented.mp4": (
        "long/sam2__04_coffee.mp4",
        f"{_X264} -an -g 24 -movflags frag_keyframe+empty_moov",
    ),
}


@dataclass
class Tally:
    """What became of one clip's damaged copies."""

    num_frames: int
    cut: Counter[str] = field(default_factory=Counter)
    flipped: Counter[str] = field(default_factory=Counter)
    believed: list[str] = field(default_factory=list)  # ok with fewer frames
    unsteady: list[str] = field(default_factory=list)


def main() -> int:
    """Damage, extract, print the table; return 1 when verdicts of one file differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--flips", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=SAMPLES, default=list(SAMPLES))
    options = parser.parse_args()
    tallies = {}
    with tempfile.TemporaryDirectory() as folder, ProbePool() as probes:
        for name in options.only:
            clip = _make(name, options.data, Path(folder))
            tallies[name] = _damage(
                clip,
                probes,
                flips=options.flips,
                repeats=options.repeats,
                unit=UNITS.get(name, 1),
            )
            print(f"{name}: {len(tallies[name].believed)} believed", file=sys.stderr)
    _show(tallies)
    return int(any(tally.unsteady for tally in tallies.values()))


def _make(name: str, data: Path, folder: Path) -> Path:
    source, how = SAMPLES[name]
    clip = folder / f"clip.{name}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-i", data / source]
    subprocess.run([*map(str, command), *how.split(), str(clip)], check=True)
    return clip


def _damage(clip: Path, probes: ProbePool, *, flips: int, repeats: int, unit: int) -> Tally:
    whole = clip.read_bytes()
    intact = _extract(clip, probes)
    if intact.status != "ok":
        raise SystemExit(f"{clip.name} is {intact.status} as it is: {intact.reason}")
    tally = Tally(intact.num_decoded)
    damaged = clip.with_name(f"damaged {clip.name}")
    for number, (what, counts, data) in enumerate(_copies(whole, flips, unit, tally)):
        damaged.write_bytes(data)
        decoded = _extract(damaged, probes)
        counts[decoded.status] += 1
        if decoded.status == "ok" and decoded.num_decoded < intact.num_decoded:
            tally.believed.append(f"{what}: {decoded.num_decoded} of {intact.num_decoded} frames")
        if number % SAMPLE_EVERY == 0:
            again = {_summary(_extract(damaged, probes)) for _ in range(repeats - 1)} | {
                _summary(decoded)
            }
            if len(again) > 1:
                tally.unsteady.append(f"{what}: {sorted(again)}")
    return tally


def _copies(
    whole: bytes, flips: int, unit: int, tally: Tally
) -> Iterator[tuple[str, Counter[str], bytes]]:
    for percent in range(STEP_PERCENT, 100, STEP_PERCENT):
        place = len(whole) * percent // 100
        yield f"cut at {percent} %", tally.cut, whole[: place - place % unit]
    draw = random.Random(0)
    places = [draw.randrange(len(whole)) for _ in range(flips)]
    for place in places:
        yield f"byte {place} of {len(whole)}", tally.flipped, _flip(whole, [place])
    yield f"{flips} bytes", tally.flipped, _flip(whole, places)


def _flip(whole: bytes, places: list[int]) -> bytes:
    data = bytearray(whole)
    for place in places:
        data[place] ^= 0xFF
    return bytes(data)


def _extract(path: Path, probes: ProbePool) -> Decoded:
    settings = DecodeSettings(64, 5, threads=2, time_limit_seconds=60)
    (decoded,) = Decoder(find_ffmpeg(), settings, probes).decode(path)
    return decoded


def _summary(decoded: Decoded) -> str:
    return f"{decoded.status}, {decoded.num_decoded} frames"


def _show(tallies: dict[str, Tally]) -> None:
    table = Table(title="damaged clips: ok / partial / failed", title_justify="left", box=None)
    for heading in ("container", "frames", "cut", "flipped", "ok with fewer", "unsteady"):
        table.add_column(heading, justify="left" if heading == "container" else "right")
    for name, tally in tallies.items():
        verdicts = [
            " / ".join(str(counts[status]) for status in ("ok", "partial", "failed"))
            for counts in (tally.cut, tally.flipped)
        ]
        figures = [
            str(tally.num_frames),
            *verdicts,
            str(len(tally.believed)),
            str(len(tally.unsteady)),
        ]
        table.add_row(name, *figures)
    console = Console(width=100)
    console.print(table)
    for name, tally in tallies.items():
        for line in (*tally.believed, *tally.unsteady):
            console.print(f"{name}: {line}", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
