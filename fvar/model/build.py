"""The recognizer and the sweep that a config describes; the only file of the model that sees a config."""

from pathlib import Path

import torch

from fvar.config import TrainConfig
from fvar.errors import ConfigError
from fvar.model.backbone import Backbone
from fvar.model.conv_bn_fusion import depends_on_batch
from fvar.model.interface import Engine, Sweep
from fvar.model.networks import cut_backbone
from fvar.model.recognizer import NormMode, Recognizer
from fvar.model.weights import imagenet_state, load_strictly, read_state
from fvar.names import clustering_names

# On a CPU larger chunks are no faster and take more memory (benchmarks/README.md); a GPU would wait for
# the host between small ones.
_CHUNK_FRAMES = {"cpu": 8, "cuda": 64}
# A CPU computes with the cores that would decode: a step then takes 0.95 to 1.02 of the time
# (benchmarks/README.md). Beside a GPU, one chunk is decoded while another is copied to pinned memory.
_CHUNKS_AHEAD = {"cpu": 0, "cuda": 2}
_CPU = torch.device("cpu")


def build_recognizer(config: TrainConfig, *, num_classes: int) -> Recognizer:
    """Build the network of `config` with fresh parameters, on the host and in training mode.

    Args:
        config: Of the training.
        num_classes: Outputs of the classifier.
    """
    backbone = cut_backbone(config.backbone, stage=config.stage)
    recognizer = Recognizer(
        backbone, num_classes=num_classes, dropout=config.dropout, norm=norm_mode(config)
    )
    for parameter in backbone.stem_parameters():
        parameter.requires_grad_(not freezes_stem(config))
    return recognizer


def build_sweep(config: TrainConfig, backbone: Backbone, *, device: torch.device = _CPU) -> Sweep:
    """Return how a training with the settings `config` goes over the frames.

    Args:
        config: Of the training.
        backbone: Of the recognizer, in training mode: the choice of the engine depends on its batch norms.
        device: Where it is going to run: the size of chunks, and how many are decoded ahead, suit it.

    Raises:
        ConfigError: The engine does not fit the clustering or the batch norms.
    """
    return Sweep(
        engine=_engine(config, backbone),
        clustering=_clustering(config),
        num_clusters=config.clusters,
        chunk_frames=config.chunk_frames or _CHUNK_FRAMES[device.type],
        keep_bytes=config.keep_mb << 20,
        backward_fraction=config.backward_share,
        chunks_ahead=_CHUNKS_AHEAD[device.type],
    )


def load_weights(backbone: Backbone, config: TrainConfig) -> list[str]:
    """Load the starting weights that `config` names; return the classifier's keys that were left out.

    Raises:
        WeightsError: They cannot be read, or a key does not fit.
    """
    if config.weights == "none":
        return []
    if config.weights == "imagenet":
        return load_strictly(
            backbone.network, imagenet_state(config.backbone), source="--weights imagenet"
        )
    return load_strictly(backbone.network, read_state(Path(config.weights)), source=config.weights)


def starting_files(config: TrainConfig) -> list[Path]:
    """Return the file of the starting weights, where it is one."""
    return [] if config.weights in {"none", "imagenet"} else [Path(config.weights)]


def freezes_stem(config: TrainConfig) -> bool:
    """Return whether the stem keeps its parameters: as `config` sets it, else if the weights are pretrained.

    Fine-tuning on few videos gains little from the first layers, and without them an epoch is cheaper by the
    whole backward sweep. A stem whose batch norm trains is trained as well.
    """
    if config.freeze_stem is not None:
        return config.freeze_stem
    return config.weights != "none" and config.norm not in {"train", "partial"}


def norm_mode(config: TrainConfig) -> NormMode:
    """Return the mode of the batch norms: with ``auto``, pretrained statistics stay and fresh ones train.

    A frozen stem keeps its statistics too, also in a mode in which its norms would train.
    """
    fresh: NormMode = "train" if config.weights == "none" else "frozen"
    mode = fresh if config.norm == "auto" else config.norm
    if freezes_stem(config):
        # The first batch norm, the one that `partial` trains, is the stem's.
        return "frozen" if mode in {"frozen", "partial"} else "stem-frozen"
    return mode


def _clustering(config: TrainConfig) -> str | None:
    """Return the clustering, or None for `uniform` and `none`, which make no clusters."""
    return config.clustering if config.clustering in clustering_names() else None


def _engine(config: TrainConfig, backbone: Backbone) -> Engine:
    trains_norm = depends_on_batch(backbone.stem_modules())
    clusters = _clustering(config) is not None
    if clusters and freezes_stem(config):
        return "chunked"  # there is no backward pass through the stem, for which `plain` keeps activations
    if config.engine == "auto":
        return "chunked" if clusters and not trains_norm else "plain"
    if config.engine == "chunked" and trains_norm:
        raise ConfigError(
            "--engine chunked",
            "the stem's batch norm trains, and a chunk's statistics are not the batch's",
            fix="set norm = 'frozen' or 'stem-frozen' in --config, or use --engine plain",
        )
    if config.engine == "chunked" and not clusters:
        raise ConfigError(
            "--engine chunked",
            f"clustering {config.clustering} makes no clusters, so there are no means to compute in chunks",
            fix="use --engine plain or another --clustering",
        )
    return config.engine
