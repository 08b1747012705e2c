"""The stem with its frozen batch norms folded into the convolutions before them.

A batch norm that keeps its statistics is an affine map of each channel, so it and the convolution before it
are one convolution: ``W' = W * g / sqrt(v + eps)``, ``b' = b - m * g / sqrt(v + eps)``. There is less to
compute, and the tape holds no input of a norm. W' and b' are computed from the parameters with a tape, once a
step: gradients reach W, g and b through them.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def depends_on_batch(modules: Iterator[nn.Module]) -> bool:
    """Tell whether a batch norm among `modules` takes its statistics from the batch it is given."""
    return any(isinstance(module, BATCH_NORMS) and module.training for module in modules)


class FoldedStem:
    """A function of pictures and weights that equals the stem while its batch norms keep their statistics.

    Attributes:
        names: Of the weights, in the order that `weights` returns them.
    """

    def __init__(self, units: Sequence[nn.Module]) -> None:
        """Fold `units`, which run one after the other.

        Raises:
            ValueError: A batch norm does not follow a convolution of its width.
        """
        stem = nn.Sequential(*units)
        self._pairs = dict(
            _convolutions_and_norms(stem)
        )  # name of the convolution -> (it, its norm)
        self._shape = _without_norms(stem)
        self.names = tuple(name for name, _ in self._shape.named_parameters())
        self._stem = stem

    def weights(self) -> tuple[Tensor, ...]:
        """Return the weights as the parameters are now, with a tape to them."""
        found: dict[str, Tensor] = dict(self._stem.named_parameters())
        for name, (convolution, norm) in self._pairs.items():
            weight, bias = _folded(convolution, norm)
            found |= {f"{name}.weight": weight, f"{name}.bias": bias}
        return tuple(found[name] for name in self.names)

    def __call__(self, pictures: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Return activations before the clustering: (n, 3, H, W) -> (n, C, H', W')."""
        named = dict(zip(self.names, weights, strict=True))
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        return cast("Tensor", functional_call(self._shape, named, (pictures,)))


def _convolutions_and_norms(
    stem: nn.Module,
) -> Iterator[tuple[str, tuple[nn.Conv2d, nn.BatchNorm2d]]]:
    """Yield each convolution that a batch norm follows: torchvision declares them in the order they run."""
    before: tuple[str, nn.Conv2d] | None = None
    for name, module in stem.named_modules():
        if isinstance(module, nn.Conv2d):
            before = (name, module)
        elif isinstance(module, BATCH_NORMS):
            if before is None or before[1].out_channels != module.num_features:
                raise ValueError(f"batch norm {name}: must follow a convolution of its width")
            yield before[0], (before[1], cast("nn.BatchNorm2d", module))
            before = None


def _without_norms(stem: nn.Sequential) -> nn.Module:
    """Return the stem without values: norms are gone, the convolutions before them have a bias."""
    shape = copy.deepcopy(stem).to("meta")
    pairs = list(_convolutions_and_norms(shape))
    norms = {id(norm) for _, (_, norm) in pairs}
    for _, (convolution, _) in pairs:
        convolution.bias = nn.Parameter(torch.empty(convolution.out_channels, device="meta"))
    for parent in list(shape.modules()):
        for name, child in parent.named_children():
            if id(child) in norms:
                setattr(parent, name, nn.Identity())
    return shape


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    inner = -mean if convolution.bias is None else convolution.bias - mean
    return convolution.weight * scale[:, None, None, None], norm.bias + inner * scale
