"""Weights are read and loaded strictly: every key must fit, except those of the replaced classifier."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fvar.errors import WeightsError, in_brief

CLASSIFIERS = ("fc.", "classifier.", "new_fc.", "head.")
# Wrappers that others leave around the names: DataParallel, TSM's model, PyTorch Lightning, ours.
PREFIXES = re.compile(r"^((module|base_model|backbone|network|model)\.)+")
# Keys under which others save a state dict; of several the first
_HOLDERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "ema", "module")
_SHOWN_KEYS = 4


def imagenet_state(backbone: str) -> dict[str, Tensor]:
    """Return torchvision's current ImageNet weights for `backbone`, downloaded once into torch's cache.

    Raises:
        WeightsError: There are none, or they cannot be downloaded.
    """
    from torchvision.models import get_model_weights  # noqa: PLC0415  # loads torch's compiler, in seconds

    try:
        published = get_model_weights(backbone)
    except ValueError as error:  # no network of torchvision
        raise WeightsError(
            "--weights imagenet",
            f"backbone {backbone} has no ImageNet weights",
            fix="pass --weights none or a file",
        ) from error
    if torch.hub.get_dir().startswith("~"):  # torch would make a folder of that name
        raise WeightsError(
            "--weights imagenet",
            "the home folder is not known, so there is no place to keep the download",
            fix="set TORCH_HOME to a folder, or pass --weights FILE",
        )
    try:
        state = published.DEFAULT.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            "--weights imagenet",
            f"torchvision cannot download the weights of {backbone} ({error})",
            fix="connect to the network once, or pass --weights FILE (a state dict) or --weights none",
        ) from error
    return dict(state)


def load_tensors(path: Path) -> Any:
    """Return what ``torch.save`` wrote to `path`, on the host: tensors and plain containers alone.

    The file may come from anywhere: no code in it runs, and it cannot grow when it is read.

    Raises:
        ValueError: It is not a file, or it is a compressed archive.
        Exception: torch raises a dozen kinds on a damaged file.
    """
    if path.exists() and not path.is_file():
        raise ValueError("is not a file")  # reading a pipe or a device may never end
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                # torch.save stores, torch.load reads anything
                if record.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(
                        f"is compressed, to {record.file_size} bytes of {record.filename}"
                    )
    return torch.load(path, map_location="cpu", weights_only=True)


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a file, bare or under one of `_HOLDERS`, without wrappers' prefixes.

    The file is one of ``torch.save`` or of safetensors.

    Raises:
        WeightsError: The file cannot be read, holds no state dict, or two tensors for one name.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else load_tensors(path)
    except Exception as error:  # torch raises a dozen kinds on a damaged file
        problem, fix = (
            f"({in_brief(error)})",
            "give a file of tensors that torch.save or safetensors wrote",
        )
        if isinstance(error, pickle.UnpicklingError) and "global" in str(error).lower():
            problem = (
                "(it holds Python objects, perhaps a whole model, and reading them would run code)"
            )
            fix = "load it where you trust it, and save model.state_dict()"
        raise WeightsError(path, f"cannot be read as weights {problem}", fix=fix) from error
    while isinstance(content, Mapping) and not _is_state(content):
        held = next((content[k] for k in _HOLDERS if isinstance(content.get(k), Mapping)), None)
        if held is None:
            break
        content = held
    if not _is_state(content):
        raise WeightsError(
            path, "holds no state dict", fix="save model.state_dict() and pass that file"
        )
    state: dict[str, Tensor] = {}
    for name, value in content.items():
        if state.setdefault(_plain_name(name), value) is not value:
            raise WeightsError(
                path,
                f"holds more than one tensor for {_plain_name(name)}, the last as {name}",
                fix="save one network's state dict and pass that file",
            )
    return state


def _is_state(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
        )
    )


def _plain_name(name: str) -> str:
    """Return torchvision's name: prefixes off, and TSM's ``.net`` inside shifted convolutions."""
    return PREFIXES.sub("", name).replace(".net.", ".")


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], *, source: object) -> list[str]:
    """Load `state` into a network without classifier; return the classifier's keys that were left out.

    Raises:
        WeightsError: Names keys that are missing, unknown or of another shape.
    """
    left_out = [name for name in state if name.startswith(CLASSIFIERS)]
    wanted = network.state_dict()
    offered = {name: value for name, value in state.items() if name not in left_out}
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    both = wanted.keys() & offered.keys()
    problems = {
        "lacks": sorted(wanted.keys() - offered.keys() - counters),
        "has unknown": sorted(offered.keys() - wanted.keys()),
        "has other shapes for": sorted(n for n in both if wanted[n].shape != offered[n].shape),
    }
    if found := [f"{what} {_shortened(names)}" for what, names in problems.items() if names]:
        raise WeightsError(
            source,
            "; ".join(found),
            fix=f"give weights of this backbone, e.g. with keys like {next(iter(wanted))}",
        )
    network.load_state_dict({name: offered.get(name, wanted[name]) for name in wanted}, strict=True)
    return left_out


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN_KEYS} more" if len(names) > _SHOWN_KEYS else ""
    return f"{', '.join(names[:_SHOWN_KEYS])}{more}"
