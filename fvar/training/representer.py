"""From clips to what the trunk sees, where the stem never changes: read from the cache, or made and kept."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
import torchcodec

import fvar.loading
import fvar.model
from fvar.config import TrainConfig
from fvar.loading.clip import CropMemo, EncodedClip
from fvar.loading.representation_cache import Maker, RepresentationCache
from fvar.model.backbone import Backbone
from fvar.model.build import freezes_stem
from fvar.model.clusterings import load_clustering
from fvar.model.interface import Representations, Sweep
from fvar.model.recognizer import represent_without_tape
from fvar.reporting import Reporter
from fvar.store.files import cache_folder
from fvar.system import processor_model
from fvar.training.distributed import World, autocast_dtype


@dataclass(frozen=True)
class Representer:
    """Makes the representations of clips by a stem without a tape, one clip at a time.

    Attributes:
        backbone: Holds the stem.
        sweep: How it goes over the frames.
        cache: Keeps the representations of clips that have a key; None keeps nothing.
    """

    backbone: Backbone
    sweep: Sweep
    cache: RepresentationCache | None

    def __call__(self, clips: Sequence[EncodedClip]) -> Representations:
        """Return the representations of at least one clip; they do not depend on the other clips."""
        return Representations.join(
            [self._make(clip) if clip.kept is None else clip.kept for clip in clips]
        )

    def _make(self, clip: EncodedClip) -> Representations:
        """Return what the stem makes of a clip, after making and keeping what later epochs need."""
        views = (*clip.later, clip)
        # Mirror images are made from the same crops: decoding takes a third of the time.
        shares = len({view.framing.rectangle for view in views}) < len(views)
        half = self.sweep.keep_bytes // 2
        memo, sweep = (
            (CropMemo(half), replace(self.sweep, keep_bytes=half)) if shares else (None, self.sweep)
        )
        for view in views:
            seen = represent_without_tape(self.backbone, replace(view, memo=memo), sweep)
            if self.cache is not None and view.key is not None:
                self.cache.write(view.key, seen)
        return seen


def open_cache(
    train_dir: Path,
    config: TrainConfig,
    backbone: Backbone,
    sweep: Sweep,
    *,
    max_gb: float | None,
    world: World,
    reporter: Reporter,
) -> RepresentationCache | None:
    """Open the cache of a training; None where the stem is trained, nothing is clustered or kept.

    Args:
        train_dir: Folder of the training.
        config: Of the training.
        backbone: With its final stem, on the device.
        sweep: How it goes over the frames.
        max_gb: Size of the cache, which the processes share; None keeps nothing.
        world: The processes.
        reporter: Gets a warning when there is no more room.
    """
    if max_gb is None or sweep.clustering is None or not freezes_stem(config):
        return None
    return RepresentationCache(
        cache_folder(train_dir),
        _maker(config, backbone, sweep, sweep.clustering, world.device),
        max_bytes=int(max_gb * 1e9),
        num_writers=world.world_size,
        device=world.device,
        warn=reporter.warning,
    )


def _maker(
    config: TrainConfig, backbone: Backbone, sweep: Sweep, clustering: str, device: torch.device
) -> Maker:
    """Return what identifies the way from pictures to representations, to the last bit."""
    digest = hashlib.sha256(_code().encode())
    stem = backbone.folded_stem
    for name, weight in zip(stem.names, stem.weights(), strict=True):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().data)
    aggregator = f"{sweep.aggregator.__module__}.{sweep.aggregator.__qualname__}"
    made_with = (
        *(config.backbone, config.stage, config.size),
        *(clustering, sweep.num_clusters, sweep.chunk_frames, aggregator),
        *(autocast_dtype(config.precision, device), _processor(device)),
        *(torch.__version__, torchcodec.__version__),
    )
    digest.update(repr(made_with).encode())
    return Maker(
        digest.hexdigest(),
        is_random=load_clustering(clustering).IS_RANDOM,
        with_steps=sweep.needs_distances,
    )


def _processor(device: torch.device) -> str:
    """Return the kind of processor: another one may round differently."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return f"{processor_model()}, {capability}, {threads} threads"


@cache
def _code() -> str:
    """Return a hash of all code that makes representations: after a change of it, old ones are not found."""
    digest = hashlib.sha256()
    for package in (fvar.model, fvar.loading):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
