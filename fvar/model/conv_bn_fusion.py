"""Layers with their frozen batch norms folded into the convolutions before them.

A batch norm that keeps its statistics is an affine map of each channel, so it and the convolution before it
are one convolution: ``W' = W * g / sqrt(v + eps)``, ``b' = b - m * g / sqrt(v + eps)``. There is less to
compute, and the tape holds no input of a norm. W' and b' are computed from the parameters with a tape, once
per step: gradients reach W, g and b through them.
"""

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def depends_on_batch(modules: Iterator[nn.Module]) -> bool:
    """Return whether a batch norm among `modules` takes its statistics from the batch it is given."""
    return any(isinstance(module, BATCH_NORMS) and module.training for module in modules)


class FoldedLayers:
    """A function of activations and weights that equals layers while their batch norms keep their statistics.

    Attributes:
        layers: As they are, with the parameters.
        shape: The same layers without folded norms and without values.
        names: Of the weights, in the order that `weights` returns them.
    """

    def __init__(self, units: Sequence[nn.Module]) -> None:
        """Fold the norms of `units`, which run one after the other, where that changes no result."""
        self.layers = nn.Sequential(*units)
        self._norm_of = _foldable_norms(self.layers)
        self.shape = _without_norms(self.layers, self._norm_of)
        # Buffers are those of norms that are not folded.
        named = [*self.shape.named_parameters(), *self.shape.named_buffers()]
        self.names = tuple(name for name, _ in named)

    def weights(self) -> tuple[Tensor, ...]:
        """Return the weights as the parameters are now, with a tape to them."""
        found = dict[str, Tensor](self.layers.named_parameters())
        found.update(self.layers.named_buffers())
        for name, norm_name in self._norm_of.items():
            weight, bias = _folded(
                cast("nn.Conv2d", self.layers.get_submodule(name)),
                cast("nn.BatchNorm2d", self.layers.get_submodule(norm_name)),
            )
            found |= {f"{name}.weight": weight, f"{name}.bias": bias}
        return tuple(found[name] for name in self.names)

    def take_modes(self) -> None:
        """Put every module of `shape` into the mode of its original: a dropout drops in training."""
        for name, module in self.layers.named_modules():
            self.shape.get_submodule(name).training = module.training

    def __call__(self, x: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Return what the layers make of pictures or activations: (n, C, H, W) -> (n, C', H', W')."""
        named = dict(zip(self.names, weights, strict=True))
        x = x.contiguous(memory_format=torch.channels_last)
        return cast("Tensor", functional_call(self.shape, named, (x,)))


class _Tracer(fx.Tracer):
    """Follows the data through a network, and takes every batch norm as a whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, BATCH_NORMS) or super().is_leaf_module(m, module_qualified_name)


def _foldable_norms(layers: nn.Sequential) -> dict[str, str]:
    """Return the convolutions that feed a batch norm and nothing else, each with that norm, by name."""
    try:
        graph = _Tracer().trace(layers)
    except Exception:  # noqa: BLE001  # code that cannot be traced fails in many ways; it runs unfolded
        return {}
    calls = {node: node.target for node in graph.nodes if node.op == "call_module"}
    times = Counter(calls.values())
    found = {}
    for call, norm_name in calls.items():
        if _is_plain_norm(layers.get_submodule(norm_name)):
            (source,) = call.all_input_nodes
            name = calls.get(source, "")  # "" is all of them
            is_convolution = type(layers.get_submodule(name)) is nn.Conv2d
            if is_convolution and len(source.users) == times[name] == times[norm_name] == 1:
                found[name] = norm_name
    return found


def _is_plain_norm(module: nn.Module) -> bool:
    """Return whether `module` is nothing but an affine map: a subclass may hold an activation too."""
    plain = type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm)
    return plain and bool(module.affine and module.track_running_stats)


def _without_norms(layers: nn.Sequential, norm_of: dict[str, str]) -> nn.Module:
    """Return the layers without values: folded norms are gone, the convolutions before them have a bias."""
    shape = copy.deepcopy(layers).to("meta").eval()
    for name, norm_name in norm_of.items():
        convolution = cast("nn.Conv2d", shape.get_submodule(name))
        convolution.bias = nn.Parameter(torch.empty(convolution.out_channels, device="meta"))
        shape.set_submodule(norm_name, nn.Identity())
    return shape


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    inner = -mean if convolution.bias is None else convolution.bias - mean
    return convolution.weight * scale[:, None, None, None], norm.bias + inner * scale
