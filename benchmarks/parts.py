"""Where the time of a chunked step goes: the step against the sum of its parts, and what each choice saves.

Usage: python benchmarks/parts.py [--backbone resnet50] [--size 112] [--frames 128] [--compile]

Each part is measured alone, on the same frames in the same process. ``--compile`` adds torch.compile, which
needs a C++ compiler and a minute.
"""

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from measuring import fastest, jpeg_clip, print_machine, print_table, recognizer, step
from torch import Tensor, nn

from fvar.model.averaging import Assignment, mean
from fvar.model.clustering import cluster, flatten_frames, sign_pattern, step_distances
from fvar.model.engine import _empty_means
from fvar.model.interface import Representations, Sweep
from fvar.model.recognizer import Recognizer

REPEATS = 5
CHUNK = 8  # frames, the default of chunk_frames on a CPU


class Parts:
    """The parts of a step of one video, each a function without arguments."""

    def __init__(self, network: Recognizer, sweep: Sweep, num_frames: int, size: int) -> None:
        self.network, self.backbone, self.sweep = network, network.backbone, sweep
        self.clip = jpeg_clip(num_frames, size)
        self.chunks = [
            range(first, min(first + CHUNK, num_frames)) for first in range(0, num_frames, CHUNK)
        ]
        self.pictures = [self.clip.pictures(chunk) for chunk in self.chunks]
        self.weights = [weight.detach() for weight in self.backbone.folded_stem.weights()]
        self.leaves = [weight.clone().requires_grad_() for weight in self.weights]
        with torch.no_grad():
            self.outputs = [self.backbone.folded_stem(p, self.weights) for p in self.pictures]
        self.steps = self.measure_distances()
        self.means = self.measure_means().requires_grad_()

    def decode(self) -> None:
        """Make the pictures of all frames from their JPEG bytes."""
        for chunk in self.chunks:
            self.clip.pictures(chunk)

    @torch.no_grad()
    def forward(self) -> None:
        """Sweep once without a tape."""
        for pictures in self.pictures:
            self.backbone.folded_stem(pictures, self.weights)

    def forward_backward(self) -> None:
        """Sweep once with a tape, and back."""
        for pictures in self.pictures:
            output = self.backbone.folded_stem(pictures, self.leaves)
            torch.autograd.grad(output, self.leaves, output)

    def trunk(self) -> None:
        """Go forward and backward from the means on."""
        seen = Representations(self.means, (self.sweep.num_clusters,), None, None, 1)
        self.network.classify(seen).sum().backward()

    def measure_distances(self, pattern_of: Callable[[Tensor], Tensor] = sign_pattern) -> Tensor:
        """Return step distances from patterns as the engine makes them, or as `pattern_of` does."""
        steps, before = list[Tensor](), None
        for output in self.outputs:
            pattern = pattern_of(output)
            if before is not None:
                steps.append(step_distances(torch.cat([before, pattern[:1]])))
            steps.append(step_distances(pattern))
            before = pattern[-1:].clone()
        return nn.functional.pad(torch.cat(steps), (0, 1))

    @torch.no_grad()
    def measure_means(self) -> Tensor:
        """Return boundaries and means as the engine computes them."""
        lengths = torch.tensor([len(self.steps)])
        clusters = cluster("cumulative", self.steps, lengths, num_clusters=8)
        assignment = Assignment.of_all_frames(clusters, [len(self.steps)], mean)
        total = _empty_means(8, self.outputs[0])
        for chunk, output in zip(self.chunks, self.outputs, strict=True):
            touched, matrix = assignment.matrix(0, chunk, dtype=total.dtype)
            flatten_frames(total)[touched].addmm_(matrix, flatten_frames(output))
        return total


def compare_step(parts: Parts) -> None:
    """Print the step against the sum of its parts, for what is kept: tapes, outputs, nothing."""
    alone = {
        name: fastest(action, repeats=REPEATS)
        for name, action in (
            ("sweep", parts.forward),
            ("sweep and back", parts.forward_backward),
            ("trunk", parts.trunk),
            ("decode", parts.decode),
            ("distances", parts.measure_distances),
            ("means", parts.measure_means),
        )
    }
    print_table(
        "parts alone", tuple(alone), [[f"{seconds * 1000:.1f} ms" for seconds in alone.values()]]
    )
    small = alone["distances"] + alone["means"]
    print(f"distances, boundaries and means / one sweep: {small / alone['sweep']:.3f}\n")
    output_bytes = sum(output.numel() * output.element_size() for output in parts.outputs)
    rows = []
    for kept, budget, sweeps in (
        ("tapes", 1 << 40, 0),
        ("outputs", output_bytes, 1),
        ("nothing", 0, 2),
    ):
        sweep = replace(parts.sweep, keep_bytes=budget)
        whole = fastest(partial(step, parts.network, sweep, parts.clip), repeats=REPEATS)
        total = alone["sweep and back"] + alone["trunk"] + alone["decode"]
        total += sweeps * (alone["sweep"] + alone["decode"])
        rows.append((kept, f"{whole:.2f}", f"{total:.2f}", f"{whole / total:.2f}"))
    print_table(
        "a chunked step against the sum of its sweeps, trunk and decode",
        ("kept", "step s", "sum s", "ratio"),
        rows,
    )


def compare_patterns(parts: Parts) -> None:
    """Print what it costs to compare patterns packed into bits, and a byte an activation."""

    def in_bytes() -> Tensor:
        return parts.measure_distances(lambda x: flatten_frames(x) > 0)

    assert torch.equal(parts.measure_distances(), in_bytes())
    packed = fastest(parts.measure_distances, repeats=REPEATS)
    unpacked = fastest(in_bytes, repeats=REPEATS)
    print_table(
        "distances of all frames from patterns packed into bits, and a byte an activation",
        ("packed", "bytes", "ratio"),
        [(f"{packed * 1e3:.1f} ms", f"{unpacked * 1e3:.1f} ms", f"{packed / unpacked:.2f}")],
    )


def compare_stems(parts: Parts, *, compiled: bool) -> None:
    """Print forward, and forward with backward, of the stem as it might be computed."""
    units = nn.Sequential(*copy.deepcopy(parts.backbone)._stem_units)
    folded = parts.backbone.folded_stem
    ways: dict[str, tuple[Callable[[Tensor], Tensor], Sequence[Tensor]]] = {
        "torchvision's modules": (
            lambda pictures: units(pictures.contiguous()),
            list(units.to(memory_format=torch.contiguous_format).parameters()),
        )
    }
    last = copy.deepcopy(units).to(memory_format=torch.channels_last)
    ways["channels last"] = (
        lambda pictures: last(pictures.contiguous(memory_format=torch.channels_last)),
        list(last.parameters()),
    )
    ways["and norms folded"] = (lambda pictures: folded(pictures, parts.leaves), parts.leaves)
    if compiled:
        compiled_stem = torch.compile(lambda pictures: folded(pictures, parts.leaves))
        ways["and torch.compile"] = (compiled_stem, parts.leaves)
    first: tuple[float, float] | None = None
    rows = []
    for name, (stem, weights) in ways.items():
        seconds = _time_stem(parts.pictures, stem, weights)
        first = first or seconds
        ratios = [f"{now / before:.2f}" for now, before in zip(seconds, first, strict=True)]
        rows.append((name, *(f"{s * 1e3:.0f} ms" for s in seconds), *ratios))
    print_table("one sweep of the stem", ("", "forward", "and backward", "ratio", "ratio"), rows)


def _time_stem(
    pictures: Sequence[Tensor], stem: Callable[[Tensor], Tensor], weights: Sequence[Tensor]
) -> tuple[float, float]:
    def forward() -> None:
        with torch.no_grad():
            for chunk in pictures:
                stem(chunk)

    def forward_backward() -> None:
        for chunk in pictures:
            output = stem(chunk)
            torch.autograd.grad(output, weights, output)

    return fastest(forward, repeats=REPEATS), fastest(forward_backward, repeats=REPEATS)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--compile", action="store_true")
    flags = parser.parse_args()
    print(f"{flags.backbone}, {flags.size} px, {flags.frames} frames, k = 8, float32\n")
    parts = Parts(*recognizer(flags.backbone, flags.size), flags.frames, flags.size)
    compare_step(parts)
    compare_patterns(parts)
    compare_stems(parts, compiled=flags.compile)
    print_machine()


if __name__ == "__main__":
    main()
