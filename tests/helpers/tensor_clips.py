"""Clips and networks that live in memory, for tests of the model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from fvar.model.backbone import Backbone
from fvar.model.conv_bn_fusion import BATCH_NORMS
from fvar.model.networks import cut_backbone

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class TensorClip:
    """A video whose pictures are a tensor (T, 3, H, W); it remembers which frames it was asked for."""

    frames: Tensor
    cut_key: int = 0
    requests: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    def pictures(self, frames: Sequence[int]) -> Tensor:
        self.requests.append(tuple(frames))
        return self.frames[list(frames)]


def random_clips(
    lengths: Sequence[int],
    *,
    seed: int = 0,
    size: int = 16,
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
) -> list[TensorClip]:
    """Return videos of noise that fades from one picture to another, so that steps differ in size."""
    generator = torch.Generator().manual_seed(seed)
    clips = []
    for key, length in enumerate(lengths):
        noise = torch.randn(length, 3, size, size, generator=generator, dtype=torch.float64)
        drift = torch.randn(3, size, size, generator=generator, dtype=torch.float64)
        pace = torch.rand(length, 1, 1, 1, generator=generator, dtype=torch.float64).cumsum(0)
        frames = (noise * 0.3 + drift * pace).to(device, dtype)
        clips.append(TensorClip(frames, cut_key=key + 10 * seed))
    return clips


def settle(network: Network, *, seed: int = 1) -> Network:
    """Give every batch norm statistics and scales as after a training, and put it into evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, BATCH_NORMS):
            assert module.running_mean is not None
            assert module.running_var is not None
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2.0),
                *(
                    [(module.weight.data, 0.5, 1.5), (module.bias.data, -0.3, 0.3)]
                    if module.affine
                    else []
                ),
            ):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return network.eval()


def settled_backbone(
    name: str, *, stage: int = 1, dtype: torch.dtype = torch.float64, seed: int = 0
) -> Backbone:
    """Return the network `name`, cut, with seeded parameters and fixed statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return settle(cut_backbone(name, stage=stage)).to(dtype)


def pixel_backbone(weight: Tensor) -> Backbone:
    """Return a backbone whose stem is one 1x1 convolution (C, 3) and whose trunk only pools."""
    channels = len(weight)
    convolution = nn.Conv2d(3, channels, 1, bias=False, dtype=weight.dtype)
    convolution.weight.data.copy_(weight[:, :, None, None])
    return Backbone(
        convolution, units=[convolution], num_stem_units=1, shifted={}, num_features=channels
    )
