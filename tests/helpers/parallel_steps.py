"""Optimisation steps over several processes, as the trainer takes them, in float64."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from engine_steps import NUM_CLASSES, gradients_of, make_recognizer, make_sweep
from tensor_clips import TensorClip, random_clips, settled_backbone
from torch import Tensor
from torch.nn import functional

from fvar.fields import DeviceName
from fvar.loading.sampling import split_batch
from fvar.model.interface import Engine
from fvar.training.distributed import World, join_world
from fvar.training.step import run_parts, split_step

# Frames of the videos, and the batches they make. Lengths are far apart: in some steps one of two processes
# has 40 frames and the other has one, or none.
NUM_FRAMES = (40, 1, 3, 12, 2)
BATCHES = ((0, 1), (2,), (3, 4, 1, 2), (1,), (0, 3))


def take_steps(engine: Engine, members: World) -> list[dict[str, Tensor]]:
    """Train on `BATCHES`; return the gradients of every step and, last, the parameters, on the host."""
    sweep = make_sweep("cumulative", 4, engine=engine, chunk=4, keep=20_000)
    recognizer = make_recognizer(settled_backbone("tiny")).to(members.device)
    optimizer = torch.optim.SGD(recognizer.parameters(), lr=1e-5)
    parallel, clips = members.wrap(recognizer), random_clips(NUM_FRAMES, device=members.device)
    found = []
    for batch in BATCHES:
        mine = split_batch(batch, NUM_FRAMES, world_size=members.world_size)[members.rank]
        factor = members.world_size / len(batch)

        def run(part: Sequence[TensorClip], factor: float = factor) -> None:
            keys = [clip.cut_key for clip in part]
            labels = torch.tensor(keys, dtype=torch.int64, device=members.device) % NUM_CLASSES
            loss = functional.cross_entropy(parallel(part, sweep), labels, reduction="sum")
            torch.autograd.backward(loss * factor)

        parts = split_step(recognizer.backbone, [clips[video] for video in mine], sweep)
        run_parts(parallel, parts, run)
        found.append({name: g.cpu() for name, g in gradients_of(recognizer).items()})
        optimizer.step()
        optimizer.zero_grad()
    return [*found, {name: p.detach().cpu() for name, p in recognizer.named_parameters()}]


def save_steps(engine: Engine, folder: Path, device: DeviceName = "cpu") -> None:
    """Take the steps with the processes that the environment names; write them to ``folder/RANK.pt``."""
    with join_world(device) as members:
        torch.save(take_steps(engine, members), folder / f"{members.rank}.pt")


def load_steps(path: Path) -> Sequence[Mapping[str, Tensor]]:
    """Read what `save_steps` wrote."""
    steps: Sequence[Mapping[str, Tensor]] = torch.load(path, weights_only=True)
    return steps
