"""One optimization step on all frames of one long video: seconds, peak memory, and that every frame counts.

Usage: python benchmarks/long.py [--frames RUN/frames --id VIDEO] [--alter 4999]
       [--backbone resnet50] [--size 112] [--freeze-stem]

``--frames`` is an extraction; without it 1,000 made-up frames stand in. The step is taken twice, the second
time with the pixels of one frame inverted: the gradient must change. ``--control`` takes it a third time with
nothing altered: the gradient must be the same to the bit. With ``--freeze-stem`` the stem is not trained, as
with pretrained weights by default, and no sweep is needed in the backward pass.
"""

import argparse
import io
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measuring import encoded_video, peak_mb, print_machine, recognizer, some_clip
from PIL import Image, ImageOps

from fvar.loading.clip import EncodedClip
from fvar.model.interface import Sweep
from fvar.model.recognizer import Recognizer
from fvar.training.optim import build_optimizer


def altered_clip(clip: EncodedClip, frame: int) -> EncodedClip:
    """Return the clip with the pixels of one frame inverted."""
    pictures = [clip.video.frame(at) for at in range(clip.num_frames)]
    file = io.BytesIO()
    ImageOps.invert(Image.open(io.BytesIO(pictures[frame].tobytes()))).save(
        file, "jpeg", quality=95
    )
    pictures[frame] = np.frombuffer(file.getvalue(), np.uint8)
    video = encoded_video(pictures, clip.video.height, clip.video.width)
    return replace(clip, load=lambda: video)


def take_step(network: Recognizer, sweep: Sweep, clip: EncodedClip) -> tuple[torch.Tensor, str]:
    """Return the gradient of all parameters and how long a step took; the parameters are put back."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = build_optimizer(network, lr=0.002, momentum=0.9, weight_decay=5e-4)
    started, cpu_started = time.perf_counter(), time.process_time()
    label = torch.zeros(1, dtype=torch.int64)
    torch.nn.functional.cross_entropy(network([clip], sweep), label).backward()
    gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    optimizer.step()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    optimizer.zero_grad()
    network.load_state_dict(before)
    return gradient, f"{seconds:.0f} s ({cpu_seconds:.0f} s of CPU time)"


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--id")
    parser.add_argument("--alter", type=int, default=499, help="number of the frame")
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--freeze-stem", action="store_true")
    flags = parser.parse_args()
    network, sweep = recognizer(flags.backbone, flags.size, freeze_stem=flags.freeze_stem)
    clip = some_clip(flags.frames, flags.id, flags.size, made_up=1000)
    stem = "frozen" if flags.freeze_stem else "trained"
    print(
        f"{flags.backbone}, {flags.size} px, k = 8, float32, {clip.num_frames} frames, stem {stem}"
    )
    gradient, took = take_step(network, sweep, clip)
    print(f"one step: {took}, peak {peak_mb():.0f} MB", flush=True)
    if flags.control:
        again, _ = take_step(network, sweep, clip)
        print(f"again: the same gradient to the bit: {torch.equal(again, gradient)}", flush=True)
    altered, _ = take_step(network, sweep, altered_clip(clip, flags.alter))
    change = (altered - gradient).norm() / gradient.norm()
    print(f"frame {flags.alter} inverted: the gradient moves by {change:.2e} of its length")
    print_machine()


if __name__ == "__main__":
    main()
