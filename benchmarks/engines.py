"""One training step by each engine, and by checkpointed chunks: time, peak memory and their ratios.

Usage: python benchmarks/engines.py [--backbone mobilenet_v2] [--size 112] [--frames 128 1024 4096]
       [--plain-up-to 128] [--rounds 1] [--repeats 1]

A step is forward and backward of one video of JPEG pictures, with frozen batch norm statistics and a stem
that trains. Each figure comes from a process of its own; the ways take turns, and the fastest step counts.
Peak memory is the process's largest resident set, the program and the encoded frames included. Ratios are
those to `checkpointed`, the thirty lines of checkpointing.py. Gradients are compared in float64, because in
float32 a rounded activation may change the side of a ReLU.
"""

import argparse
from collections.abc import Sequence
from functools import partial

import torch
from checkpointing import checkpointed_logits
from measuring import (
    StillClip,
    fastest,
    in_fresh_process,
    jpeg_clip,
    peak_mb,
    print_machine,
    print_table,
    recognizer,
    script_name,
    step,
)
from torch import Tensor

from fvar.loading.clip import EncodedClip
from fvar.model.interface import Sweep
from fvar.model.recognizer import Recognizer

WAYS = ("checkpointed", "plain", "chunked", "chunked, keep_mb = 0")
COMPARED_FRAMES = 64  # of which gradients are compared


def measure(way: str, backbone: str, num_frames: int, size: int, repeats: int) -> None:
    """Print seconds and MB of one step, in this process."""
    network, sweep = _build(way, backbone, size)
    clip = jpeg_clip(num_frames, size)
    print(fastest(partial(_step, way, network, sweep, clip), repeats=repeats), peak_mb())


def print_differences(backbone: str, size: int) -> None:
    """Print how far each way's gradient is from that of `plain`, as a fraction of its length."""
    pictures = jpeg_clip(COMPARED_FRAMES, size).pictures(range(COMPARED_FRAMES)).double()
    gradients = {way: _gradient(way, backbone, size, StillClip(pictures)) for way in WAYS}
    exact = gradients.pop("plain")
    for way, gradient in gradients.items():
        difference = (gradient - exact).norm() / exact.norm()
        print(f"gradient of the stem, float64, {way} against plain: {difference:.1e}")


def _build(way: str, backbone: str, size: int) -> tuple[Recognizer, Sweep]:
    settings = {"keep_mb": 0} if way.endswith("= 0") else {}
    engine = "plain" if way == "plain" else "chunked"
    return recognizer(backbone, size, engine=engine, **settings)


def _step(way: str, network: Recognizer, sweep: Sweep, clip: EncodedClip | StillClip) -> None:
    if way != "checkpointed":
        step(network, sweep, clip)
        return
    network.zero_grad()
    logits = checkpointed_logits(network, clip, sweep)
    torch.nn.functional.cross_entropy(logits, torch.zeros(1, dtype=torch.int64)).backward()


def _gradient(way: str, backbone: str, size: int, clip: StillClip) -> Tensor:
    network, sweep = _build(way, backbone, size)
    _step(way, network.double(), sweep, clip)
    stem = network.backbone.stem_parameters()
    return torch.cat([p.grad.flatten() for p in stem if p.grad is not None])


def main() -> None:
    """Print the table and the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--frames", type=int, nargs="+", default=[128, 1024, 4096])
    parser.add_argument("--plain-up-to", type=int, default=128, help="frames; it needs the memory")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each way")
    parser.add_argument("--repeats", type=int, default=1, help="0: a first step alone")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        way, backbone, *numbers = flags.one
        measure(way, backbone, *map(int, numbers))
        return
    rows = [row for num_frames in flags.frames for row in _rows(num_frames, flags)]
    print_table(
        f"one step, {flags.backbone}, {flags.size} px, k = 8, float32",
        ("frames", "", "s", "ratio", "MB", "ratio"),
        rows,
    )
    print_differences(flags.backbone, flags.size)
    print_machine()


def _rows(num_frames: int, flags: argparse.Namespace) -> Sequence[Sequence[str]]:
    """Measure each way at this length and return the rows of the table."""
    ways = [way for way in WAYS if way != "plain" or num_frames <= flags.plain_up_to]
    arguments = flags.backbone, num_frames, flags.size, flags.repeats
    rounds = [
        {way: in_fresh_process(script_name(__file__), way, *arguments) for way in ways}
        for _ in range(flags.rounds)
    ]
    seconds = {way: min(measured[way][0] for measured in rounds) for way in ways}
    megabytes = {way: max(measured[way][1] for measured in rounds) for way in ways}
    return [
        [
            str(num_frames),
            way,
            f"{seconds[way]:.2f}",
            f"{seconds[way] / seconds['checkpointed']:.2f}",
            f"{megabytes[way]:.0f}",
            f"{megabytes[way] / megabytes['checkpointed']:.2f}",
        ]
        for way in ways
    ]


if __name__ == "__main__":
    main()
