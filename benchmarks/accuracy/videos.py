"""The data sets of the accuracy tables: toy clips, and UT-Interaction as it is and made untrimmed.

Untrimmed means that each clip stands at a random place of a longer video, in one of two surroundings. `still`
repeats the clip's own first and last frame: nothing moves there, but every pixel of the whole video has noise
(sigma 4 of 255, brightness) and the brightness drifts by 6 levels over 300 to 600 frames. `scenes` shows
parts of long videos before and after the clip, with all their own movement, and adds no noise.

Letters: T frames of a clip, N frames of the video it is put into.
"""

import csv
import math
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from fvar.config import ExtractConfig, ToyConfig
from fvar.reporting import SilentReporter
from fvar.sources.toy.move4mnist import make_toy
from fvar.stages.extract import extract
from fvar.store.files import is_complete

Frames = npt.NDArray[np.uint8]  # (T, H, W, 3), RGB

NUM_FOLDS = 3  # fold f tests the sequences whose number leaves the remainder f
NOISE_SIGMA, DRIFT = 4.0, 6.0  # of 255
SHORT_SIDE = 128  # the central crop of 0.875 is then 112 px, so that nothing is resized again
SCENES = ("bottle-detection", "one-by-one-person-detection", "mouse_video")
SURROUNDINGS = {"still5": 5, "still10": 10, "scenes5": 5}  # N / T
DIGIT_TRAVEL_PX = 24.0  # how far the digit of a toy clip moves in all
TOY_FRAMES = 256


@dataclass(frozen=True)
class Clip:
    """A clip of UT-Interaction.

    Attributes:
        path: Below the folder of the videos.
        label: Its class.
        sequence: The recording it was cut from.
    """

    path: str
    label: str
    sequence: int

    @property
    def id(self) -> str:
        """The name of its video."""
        return self.path.removesuffix(".avi").replace("/", "-")


def read_clips(data: Path) -> list[Clip]:
    """Return the 120 clips in the folder `data`."""
    with (data / "ut_interaction" / "all.csv").open() as file:
        return [Clip(r["path"], r["class"], int(r["sequence"])) for r in csv.DictReader(file)]


def make_frames(name: str, fold: int, data: Path, work: Path) -> Path:
    """Return the folder of an extraction, made unless it is there.

    Args:
        name: ``trimmed``, one of `SURROUNDINGS`, or a toy set as ``burst-5-8``: layout, share of informative
            frames in %, noise.
        fold: Which third of the recordings is tested; without effect for a toy set.
        data: Holds `ut_interaction` and `long`.
        work: Folder of the data sets.
    """
    folder = work / name
    frames = folder / f"frames{fold}"
    if is_complete(frames):
        return frames
    if name == "trimmed":
        videos, suffix, side = data / "ut_interaction" / "videos", ".avi", 256
    elif name in SURROUNDINGS:
        make_untrimmed(name, data, folder)
        videos, suffix, side = folder / "videos", ".avi", SHORT_SIDE
    else:
        return make_toy_frames(name, folder, frames)
    source = folder / f"fold{fold}.csv"
    rows = [("id", "video", "label", "split")]
    for clip in read_clips(data):
        path = clip.path if name == "trimmed" else clip.id + suffix
        split = "test" if clip.sequence % NUM_FOLDS == fold else "train"
        rows.append((clip.id, path, clip.label, split))
    write_rows(source, rows)
    settings = ExtractConfig(videos=str(videos), short_side=side)
    extract(source, frames, settings, SilentReporter())
    return frames


def write_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def make_toy_frames(name: str, folder: Path, frames: Path) -> Path:
    """Draw and extract a toy set; the digit moves 24 px in all, however many frames show it."""
    layout, percent, noise = name.split("-")
    informative = max(3, round(TOY_FRAMES * int(percent) / 100))
    source = make_toy(
        folder / "toy",
        ToyConfig(
            layout=layout,  # type: ignore[arg-type]
            clips_per_class=60,
            frames=TOY_FRAMES,
            informative=informative,
            step_px=DIGIT_TRAVEL_PX / (informative - 1),
            noise=float(noise),
        ),
        SilentReporter(),
        overwrite=True,
    )
    settings = ExtractConfig(videos=str(folder / "toy" / "videos"), short_side=64)
    extract(source, frames, settings, SilentReporter())
    return frames


def make_untrimmed(name: str, data: Path, folder: Path) -> None:
    """Write the videos of all clips and, last, the true places of the clips, `places.csv`."""
    if (folder / "places.csv").exists():
        return
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    rows: list[tuple[object, ...]] = [("id", "start_frame", "stop_frame", "num_frames")]
    for number, clip in enumerate(read_clips(data)):
        rng = np.random.default_rng([number, SURROUNDINGS[name]])
        frames = read_video(data / "ut_interaction" / "videos" / clip.path)
        if name.startswith("still"):
            video, start = surround_still(frames, SURROUNDINGS[name], rng)
        else:
            third = clip.sequence % NUM_FOLDS
            scenes = read_scenes(data, SCENES[number % len(SCENES)], third, frames.shape[1:3])
            video, start = surround_scenes(frames, SURROUNDINGS[name], scenes, rng)
        write_avi(folder / "videos" / f"{clip.id}.avi", video)
        rows.append((clip.id, start, start + len(frames), len(video)))
    write_rows(folder / "places.csv", rows)


def surround_still(frames: Frames, times: int, rng: np.random.Generator) -> tuple[Frames, int]:
    """Put a clip between repetitions of its own ends, with noise and drift: (N, H, W, 3) and its start."""
    total = times * len(frames)
    start = int(rng.integers(total - len(frames) + 1))
    shown = np.clip(np.arange(total) - start, 0, len(frames) - 1)
    drift = DRIFT * np.sin(2 * np.pi * (rng.random() + np.arange(total) / rng.uniform(300, 600)))
    video = np.empty((total, *frames.shape[1:]), np.uint8)
    for at, source in enumerate(shown):
        noise = rng.standard_normal((*frames.shape[1:3], 1), dtype=np.float32) * NOISE_SIGMA
        video[at] = np.clip(np.rint(frames[source] + noise + drift[at]), 0, 255)
    return video, start


def surround_scenes(
    frames: Frames, times: int, scenes: Frames, rng: np.random.Generator
) -> tuple[Frames, int]:
    """Put a clip into a piece of other footage, forwards and backwards where that is too short."""
    missing = (times - 1) * len(frames)
    start, first = int(rng.integers(missing + 1)), int(rng.integers(len(scenes)))
    there_and_back = np.concatenate([np.arange(len(scenes)), np.arange(len(scenes))[::-1]])
    shown = there_and_back[(first + np.arange(missing)) % len(there_and_back)]
    return np.concatenate([scenes[shown[:start]], frames, scenes[shown[start:]]]), start


def read_video(path: Path) -> Frames:
    """Return a video's frames, with a short side of 128 px."""
    with av.open(str(path)) as container:
        return np.stack([fit(frame.to_image(), None) for frame in container.decode(video=0)])


def fit(picture: Image.Image, size: tuple[int, int] | None) -> Frames:
    """Return a picture that fills `size` or has a short side of 128 px and even sides, uint8 (H, W, 3)."""
    scale = SHORT_SIDE / min(picture.size)
    if size is not None:
        scale = max(size[0] / picture.height, size[1] / picture.width)
    width, height = (math.ceil(side * scale / 2) * 2 for side in picture.size)
    resized = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    if size is None:
        return resized
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return resized[top : top + size[0], left : left + size[1]]


@cache
def read_scenes(data: Path, name: str, third: int, size: tuple[int, int]) -> Frames:
    """Return a third of a long video at a size (height, width): training and test see different thirds."""
    (path,) = (data / "long").glob(f"*{name}.mp4")
    with av.open(str(path)) as container:
        total = min(sum(1 for _ in container.decode(video=0)), 3_000)
    first = total * third // NUM_FOLDS
    with av.open(str(path)) as container:
        wanted = islice(container.decode(video=0), first, first + total // NUM_FOLDS)
        return np.stack([fit(frame.to_image(), size) for frame in wanted])


def write_avi(path: Path, video: Frames) -> None:
    """Write frames as motion JPEG of the best quality, 25 frames per second."""
    _, height, width, _ = video.shape
    raw = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r 25 -i -".split()
    command = [get_ffmpeg_exe(), "-v", "error", "-y", *raw, "-c:v", "mjpeg", "-q:v", "2", str(path)]
    subprocess.run(command, input=video.data, check=True)
