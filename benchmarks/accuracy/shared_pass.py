"""One pass of a frozen stem over all frames of an extraction, which fills `fvar-cache` for many clusterings.

Each training would make its own pass. Here a video's stem outputs are held in memory while every clustering
averages them; what is kept has the same keys and the same bits as what a training keeps.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from fvar.config import TrainConfig
from fvar.loading.clip import EncodedClip
from fvar.loading.dataset import VideoDataset
from fvar.loading.representation_cache import RepresentationCache
from fvar.loading.view import evaluation_view, training_view
from fvar.model.backbone import Backbone
from fvar.model.build import build_recognizer, build_sweep, load_weights
from fvar.model.interface import Sweep
from fvar.model.recognizer import represent_without_tape
from fvar.reporting import SilentReporter
from fvar.training.distributed import World
from fvar.training.inputs import open_frames
from fvar.training.representer import open_cache

MAX_GB = 100.0
_WORLD = World(0, 1, torch.device("cpu"))


@dataclass(frozen=True)
class HeldClip:
    """A video whose "pictures" are its frames' stem outputs.

    Attributes:
        outputs: (T, C, H, W).
        cut_key: As the clip's.
    """

    outputs: Tensor
    cut_key: int

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.outputs)

    def pictures(self, frames: Sequence[int]) -> Tensor:
        """Return the stem outputs of consecutive frames."""
        return self.outputs[frames[0] : frames[-1] + 1]


class HeldStem:
    """Stands for a backbone whose stem returns what it gets."""

    def __init__(self) -> None:
        self.folded_stem = self

    def __call__(self, outputs: Tensor, _weights: Sequence[Tensor]) -> Tensor:
        """Return the outputs."""
        return outputs

    def weights(self) -> list[Tensor]:
        """Return a weight that takes no gradient."""
        return [torch.zeros(1)]

    def stem_modules(self) -> Iterator[nn.Module]:
        """Yield nothing."""
        return iter(())


def fill_cache(frames: Path, train_dir: Path, configs: Sequence[TrainConfig]) -> int:
    """Make and keep what trainings need that differ in clustering or k; return the number of entries made.

    Args:
        frames: Of an extraction.
        train_dir: Of any of the trainings, whose folder holds `fvar-cache`.
        configs: Of the trainings. They share backbone, starting weights, stage, size and crops.
    """
    backbone = _frozen_backbone(configs[0])
    stored = open_frames(frames, _WORLD)
    classes = stored.manifest.classes
    sweeps = [build_sweep(config, backbone) for config in configs]
    caches = [_cache(train_dir, c, backbone, s) for c, s in zip(configs, sweeps, strict=True)]
    made = 0
    for split, view_of in (
        ("train", lambda config: training_view(config, epoch=0)),
        ("test", evaluation_view),
    ):
        videos = stored.videos(split, classes, allow_partial=False)  # type: ignore[arg-type]
        datasets = [
            VideoDataset(
                frames, videos, view_of(config), device=_WORLD.device, cache=cache, epochs=c.epochs
            )
            for config, cache in zip(configs, caches, strict=True)
            for c in [config]
        ]
        # All epochs are asked for: epoch 0 may have the one framing that another fold's test kept.
        for at, epoch in product(range(len(videos)), range(configs[0].epochs)):
            made += _fill(backbone, [d[epoch, at] for d in datasets], sweeps, caches)
    return made


def _frozen_backbone(config: TrainConfig) -> Backbone:
    backbone = build_recognizer(config, num_classes=2).backbone
    load_weights(backbone, config)
    return backbone


def _cache(
    train_dir: Path, config: TrainConfig, backbone: Backbone, sweep: Sweep
) -> RepresentationCache:
    cache = open_cache(
        train_dir,
        config,
        backbone,
        sweep,
        max_gb=MAX_GB,
        world=_WORLD,
        reporter=SilentReporter(),
    )
    if cache is None:
        raise SystemExit(f"{config.clustering}: its representations cannot be kept")
    return cache


def _fill(
    backbone: Backbone,
    clips: Sequence[EncodedClip],
    sweeps: Sequence[Sweep],
    caches: Sequence[RepresentationCache],
) -> int:
    """Make what is missing of one video, of every framing and clustering; return how many entries."""
    missing = [
        (view, sweep, cache)
        for clip, sweep, cache in zip(clips, sweeps, caches, strict=True)
        if clip.kept is None
        for view in (clip, *clip.later)
    ]
    for framing in {view.framing for view, *_ in missing}:
        of_framing = [found for found in missing if found[0].framing == framing]
        outputs = _outputs(backbone, of_framing[0][0], chunk=of_framing[0][1].chunk_frames)
        for view, sweep, cache in of_framing:
            held = HeldClip(outputs, view.cut_key)
            seen = represent_without_tape(cast("Backbone", HeldStem()), held, sweep)
            cache.write(str(view.key), seen)
    return len(missing)


@torch.no_grad()
def _outputs(backbone: Backbone, clip: EncodedClip, *, chunk: int) -> Tensor:
    """Return the stem outputs of all frames, (T, C, H, W), computed in the chunks of a sweep."""
    run: Callable[[Tensor, Sequence[Tensor]], Tensor] = backbone.folded_stem
    weights = backbone.folded_stem.weights()
    parts = [
        run(clip.pictures(range(at, min(at + chunk, clip.num_frames))), weights)
        for at in range(0, clip.num_frames, chunk)
    ]
    return torch.cat(parts)
