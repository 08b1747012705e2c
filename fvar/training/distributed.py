"""The processes of a run that torchrun started, or the one process there is; and their device."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fvar.config import DeviceName, PrecisionName
from fvar.errors import ConfigError, FvarError, StoppedError, in_brief
from fvar.system import keep_freed_memory

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Team:
    """The processes that work together, and what this one is."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def on_main(self, action: Callable[[], _Result]) -> _Result:
        """Run `action` in the main process alone and return its result, or raise its error, in all."""
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome[0] = action()
            except FvarError as error:
                outcome[1] = error
        if self.world_size > 1:
            dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            outcome[1].is_echo = not self.is_main
            raise outcome[1]
        result: _Result = outcome[0]
        return result

    def gather(self, value: _Result) -> list[_Result]:
        """Return every process's value, in order of rank, in all of them."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of every process's tensor."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def share(self, items: Sequence[_Result]) -> list[_Result]:
        """Return the items that this process takes: every world_size-th."""
        return list(items[self.rank :: self.world_size])

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return `module` with gradients averaged over the processes, where there are several."""
        if self.world_size == 1:
            return module
        device_ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=device_ids)


@contextmanager
def team(device: DeviceName) -> Iterator[Team]:
    """Join the processes that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK), or be alone.

    Raises:
        ConfigError: A GPU was asked for and there is none.
        StoppedError: Another process ended, or memory does not suffice.
    """
    world_size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = _choose_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    try:
        if world_size > 1:
            dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        yield Team(rank, world_size, chosen)
    except RuntimeError as error:
        if stopped := _stopped(error, Team(rank, world_size, chosen)):
            raise stopped from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _stopped(error: RuntimeError, members: Team) -> StoppedError | None:
    """Return what to tell the user where `error` is not ours: a process or the memory is gone."""
    if isinstance(error, torch.OutOfMemoryError):
        return StoppedError(
            f"memory of {members.device}",
            f"does not suffice ({in_brief(error)})",
            fix="lower --batch-size or --size, or chunk_frames and keep_mb in --config; then run again",
        )
    if isinstance(error, dist.DistError) or "by peer" in str(error):  # gloo has no class of its own
        return StoppedError(
            f"process {members.rank} of {members.world_size}",
            f"lost another one ({in_brief(error)})",
            fix="see what that one said, then run again",
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
    return torch.device("cuda", local_rank)


def autocast_dtype(precision: PrecisionName, device: torch.device) -> torch.dtype | None:
    """Return the dtype to autocast to, None for float32; ``auto`` takes bf16, else fp16, on GPUs alone."""
    if precision == "auto":
        if device.type == "cpu":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(precision: PrecisionName, device: torch.device) -> torch.autocast:
    """Return a context in which the network runs in `precision`; training and inference enter the same."""
    dtype = autocast_dtype(precision, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
