"""What a report of a problem needs: the machine, the versions, and whether all stages work on toy videos."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from fvar.api.stages import extract, load, train
from fvar.config import ToyConfig
from fvar.errors import FvarError, StoppedError
from fvar.extraction.ffmpeg import find_ffmpeg
from fvar.reporting import SilentReporter
from fvar.sources.toy.move4mnist import VIDEOS_NAME, make_toy
from fvar.store.provenance import tool_versions
from fvar.system import processor_model, total_host_memory, usable_processors

_PACKAGES = ("torch", "torchvision", "torchcodec", "av", "imageio-ffmpeg", "h5py", "numpy")
_TOY = ToyConfig(clips_per_class=3, frames=16, size=64, informative=8)
_LOW_DISK_GB = 5.0


def describe_machine() -> dict[str, str]:
    """Return what fvar runs on, by name."""
    versions = tool_versions(_PACKAGES)
    disk = shutil.disk_usage(Path.cwd())
    return {
        **{name: versions.pop(name) for name in ("fvar", "python", "system")},
        "processor": f"{processor_model()}, {usable_processors()} usable",
        "memory": f"{total_host_memory() / 1e9:.0f} GB",
        "GPU": ", ".join(_gpus()) or "none, PyTorch computes on the processor",
        "disk here": f"{disk.free / 1e9:.0f} GB free of {disk.total / 1e9:.0f}",
        "ffmpeg": _ffmpeg(),
        "packages": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "weights cache": torch.hub.get_dir(),
    }


def advise() -> list[str]:
    """Return what would make this machine more useful, a sentence each."""
    found = []
    if not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        built = torch.version.cuda
        found.append(
            "An NVIDIA driver is here and PyTorch does not use the GPU: install a PyTorch built for CUDA."
            if built is None
            else f"PyTorch is built for CUDA {built} and does not find a GPU: install a newer NVIDIA driver."
        )
    if shutil.disk_usage(Path.cwd()).free < _LOW_DISK_GB * 1e9:
        found.append("The disk is nearly full: 1,000 clips of 10 seconds need about 5 GB.")
    return found


def self_test() -> float:
    """Extract toy videos, train on them and predict one, in a folder that is deleted; return the seconds.

    Raises:
        FvarError: A stage failed.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = make_toy(folder / "toy", _TOY, SilentReporter())
        videos = folder / "toy" / VIDEOS_NAME
        frames = extract(source, videos=videos, out=folder / "frames", short_side=64)
        run = train(frames.folder, out=folder / "train", recipe="toy", epochs=1, workers=0)
        with load(run.folder) as model:
            found = model.predict(next(videos.glob("*.mp4")))
    if found.num_frames != _TOY.frames:
        raise StoppedError(
            "self-test", f"{found.num_frames} of {_TOY.frames} frames were seen", fix="report this"
        )
    return time.perf_counter() - started


def _gpus() -> Iterator[str]:
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        yield f"{properties.name}, {properties.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"


def _ffmpeg() -> str:
    try:
        found = find_ffmpeg()
    except FvarError as error:
        return str(error)
    return f"{found.version} ({found.path})"
