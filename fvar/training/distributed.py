"""The processes of a command that torchrun started, or the one process there is; and their device."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fvar.errors import ConfigError, FvarError, StoppedError, in_brief
from fvar.fields import DeviceName, PrecisionName
from fvar.system import keep_freed_memory

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class World:
    """The processes that work together.

    Attributes:
        rank: Number of this process, from 0.
        world_size: Number of processes.
        device: Where this process computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def on_main(self, action: Callable[[], _Result]) -> _Result:
        """Run `action` in the main process alone; return its result, or raise its error, in all processes."""
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome[0] = action()
            except FvarError as error:
                outcome[1] = error
        if self.world_size > 1:
            dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            outcome[1].is_duplicate = not self.is_main
            raise outcome[1]
        result: _Result = outcome[0]
        return result

    def gather(self, value: _Result) -> list[_Result]:
        """Return the values of all processes in order of rank, in all of them."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of the tensors of all processes."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return `module` with gradients averaged over the processes; in one process, `module` itself."""
        if self.world_size == 1:
            return module
        device_ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=device_ids)


@contextmanager
def join_world(device: DeviceName) -> Iterator[World]:
    """Join the processes that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK); without torchrun, work alone.

    Raises:
        ConfigError: A GPU was asked for and there is none.
        StoppedError: Another process ended, or memory does not suffice.
    """
    rank, local_rank = (int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    world = World(rank, world_size, _choose_device(device, local_rank=local_rank))
    try:
        if world_size > 1:
            dist.init_process_group("nccl" if world.device.type == "cuda" else "gloo")
        yield world
    except RuntimeError as error:
        if stopped := _stopped(error, world):
            raise stopped from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _stopped(error: RuntimeError, world: World) -> StoppedError | None:
    """Return what to report where `error` is no bug: another process ended, or memory does not suffice."""
    if isinstance(error, torch.OutOfMemoryError):
        return StoppedError(
            f"memory of {world.device}",
            f"does not suffice ({in_brief(error)})",
            fix="lower --batch-size or --size, or chunk_frames and keep_mb in --config; then run again",
        )
    # gloo raises no class of its own
    if isinstance(error, dist.DistError) or "by peer" in str(error):
        return StoppedError(
            f"process {world.rank} of {world.world_size}",
            f"lost another process ({in_brief(error)})",
            fix="see the error of that process, then run again",
        )
    return None


def _choose_device(name: DeviceName, *, local_rank: int) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError(
            "--device cuda", "torch finds no GPU", fix="use --device cpu, or install a CUDA torch"
        )
    if name == "cpu" or not available:
        keep_freed_memory()
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    torch.backends.cudnn.deterministic = (
        True  # the same bits in training, evaluation and inspection
    )
    return torch.device("cuda", local_rank)


def autocast_dtype(precision: PrecisionName, device: torch.device) -> torch.dtype | None:
    """Return the dtype to autocast to; None is float32. ``auto`` takes bf16, else fp16, on GPUs alone."""
    if precision == "auto":
        if device.type == "cpu":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(precision: PrecisionName, device: torch.device) -> torch.autocast:
    """Return a context in which the network runs in `precision`, in training and in inference."""
    dtype = autocast_dtype(precision, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
