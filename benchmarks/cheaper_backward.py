"""A backward pass over a fraction of each cluster's frames: how near the exact gradient, how much faster.

Usage: python benchmarks/cheaper_backward.py [--frames RUN/frames --id VIDEO]
       [--backbone resnet50] [--size 112] [--draws 20] [--keep-mb 1024]

``--frames`` is an extraction; without it 128 made-up frames are used. Each draw takes other frames, so the
expected gradient is the exact one. ``cosine`` is that of a draw with the exact gradient of the stem.
``deviation`` is the standard deviation of a draw as a fraction of the exact gradient's length. ``bias`` is
how far the mean of all draws is from the exact gradient, in standard errors: about 1 if there is none.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from measuring import StillClip, fastest, print_machine, print_table, recognizer, some_clip, step
from torch import Tensor

from fvar.model.interface import Sweep
from fvar.model.recognizer import Recognizer

ONE_FRAME = 1e-6  # of a cluster: rounded up, one
FRACTIONS = {"1": 1.0, "1/2": 0.5, "1/4": 0.25, "1/8": 0.125, "one frame": ONE_FRAME}


def stem_gradient(network: Recognizer, sweep: Sweep, clip: StillClip) -> Tensor:
    """Return the gradient of the stem's parameters, one vector."""
    step(network, sweep, clip)
    parts = [p.grad for p in network.backbone.stem_parameters() if p.grad is not None]
    return torch.cat([part.flatten() for part in parts])


def compare(
    network: Recognizer, sweep: Sweep, clip: StillClip, exact: Tensor, *, draws: int
) -> list[str]:
    """Return cosine, deviation and bias of the gradient by `sweep`."""
    gradients = []
    for draw in range(draws):
        clip.cut_key = draw
        gradients.append(stem_gradient(network, sweep, clip))
    found = torch.stack(gradients)
    cosine = torch.cosine_similarity(found, exact[None], dim=1)
    deviation = (found - exact).square().sum(dim=1).mean().sqrt() / exact.norm()
    standard_error = deviation / draws**0.5
    bias = (found.mean(dim=0) - exact).norm() / exact.norm() / standard_error.clamp_min(1e-12)
    return [f"{cosine.mean():.3f}", f"{deviation:.2f}", f"{bias:.2f}" if deviation > 1e-6 else "0"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--id")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--keep-mb", type=int, default=1024)
    flags = parser.parse_args()
    network, sweep = recognizer(flags.backbone, flags.size, keep_mb=flags.keep_mb)
    encoded = some_clip(flags.frames, flags.id, flags.size, made_up=128)
    clip = StillClip(encoded.pictures(range(encoded.num_frames)))
    exact = stem_gradient(network, sweep, clip)
    rows, whole = [], 0.0
    for name, fraction in FRACTIONS.items():
        cheaper = replace(sweep, backward_fraction=fraction)
        seconds = fastest(partial(step, network, cheaper, encoded), repeats=3)
        whole = whole or seconds
        fidelity = compare(network, cheaper, clip, exact, draws=flags.draws if fraction < 1 else 1)
        rows.append((name, *fidelity, f"{seconds:.2f}", f"{whole / seconds:.2f}"))
    print_table(
        f"backward over a fraction of each cluster: {flags.backbone}, {flags.size} px, "
        f"{clip.num_frames} frames, k = 8",
        ("fraction", "cosine", "deviation", "bias", "step s", "faster by"),
        rows,
    )
    print_machine()


if __name__ == "__main__":
    main()
