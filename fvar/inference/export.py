"""A training as programs that run without fvar: ONNX files and programs of `torch.export`.

Letters: n frames of a chunk, K clusters, C H W, S side of what the network sees.
"""

import copy
import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fvar.errors import ConfigError, StoppedError
from fvar.inference import exported
from fvar.inference.exported import CLUSTERINGS
from fvar.loading.transforms import MEAN, STD
from fvar.model.recognizer import Recognizer
from fvar.model.shift import VideoLayout
from fvar.report.templates import load_template
from fvar.store.files import atomic_open, atomic_path
from fvar.training.trained_run import TrainedRun

SETTINGS, CODE, CARD = "settings.json", "recognize.py", "MODEL_CARD.md"
_LICENSES = {  # of starting weights
    "imagenet": "torchvision's for ImageNet (BSD 3-Clause; ImageNet's pictures are for research)",
    "none": "none, all parameters were trained on these videos",
}
NAMES = ("stem.onnx", "trunk.onnx", "stem.pt2", "trunk.pt2", SETTINGS, CODE, CARD)


class Stem(nn.Module):
    """The layers before the clustering, batch norms folded in: (n, 3, S, S) -> (n, C, H, W)."""

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__()
        folded = recognizer.backbone.folded_stem
        self.layers = copy.deepcopy(folded.shape).to_empty(device="cpu")
        weights = dict(zip(folded.names, folded.weights(), strict=True))
        self.layers.load_state_dict({name: value.detach() for name, value in weights.items()})

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the activations that are clustered."""
        seen: Tensor = self.layers(pictures)
        return seen.contiguous()


class Trunk(nn.Module):
    """The layers behind the clustering, for the clusters of one video: (K, C, H, W) -> (K, classes)."""

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__()
        self.recognizer = recognizer

    def forward(self, rows: Tensor) -> Tensor:
        """Return the logits of each cluster."""
        place = torch.arange(rows.shape[0]).view(-1, 1, 1, 1)
        layout = VideoLayout(has_next=place < rows.shape[0] - 1, has_previous=place > 0)
        logits: Tensor = self.recognizer.classifier(self.recognizer.backbone.trunk(rows, layout))
        return logits


def check_exportable(run: TrainedRun) -> None:
    """Refuse a training whose way to frames is not in the exported code.

    Raises:
        ConfigError: It samples frames, keeps all, or cuts at random, or ONNX is not installed.
    """
    if run.config.clustering not in CLUSTERINGS:
        raise ConfigError(
            run.path.parent,
            f"was trained with --clustering {run.config.clustering}, which cannot be exported",
            fix=f"export a training with one of: {', '.join(CLUSTERINGS)}",
        )
    try:
        import onnx  # noqa: F401, PLC0415  # installed for exports alone
        import onnxscript  # noqa: F401, PLC0415
    except ImportError as error:
        raise ConfigError(
            f"package {error.name}", "is not installed", fix="pip install onnx onnxscript"
        ) from error


def write_export(
    folder: Path, run: TrainedRun, settings: Mapping[str, Any], results: Sequence[str]
) -> None:
    """Write the programs, the settings, the code and the model card.

    Args:
        folder: Gets the files.
        run: The training, on the host.
        settings: What `recognize.py` needs beside the programs, and what the card tells.
        results: Of evaluations, in words.
    """
    recognizer = run.recognizer.eval()
    size = run.config.size
    stem, trunk = Stem(recognizer).eval(), Trunk(recognizer)
    pictures = torch.zeros(2, 3, size, size)
    with torch.no_grad():
        rows = stem(pictures)
    _write_program(folder, "stem", stem, pictures, "pictures", "activations")
    _write_program(folder, "trunk", trunk, rows, "rows", "logits")
    with atomic_open(folder / SETTINGS) as file:
        json.dump(dict(settings), file, indent=2, ensure_ascii=False)
        file.write("\n")
    with atomic_path(folder / CODE) as temporary:
        shutil.copyfile(exported.__file__, temporary)
    with atomic_open(folder / CARD) as file:
        file.write(_card(settings, results))


def export_settings(run: TrainedRun, *, short_side: int, dataset: str) -> dict[str, Any]:
    """Return the settings of an export.

    Args:
        run: The training.
        short_side: Of the stored frames, px.
        dataset: What it was trained on, in words.
    """
    config, summary = run.config, run.manifest.summary
    return {
        "classes": run.classes,
        "short_side": short_side,
        "size": config.size,
        "crop_share": config.crop_share,
        "mean": list(MEAN),
        "std": list(STD),
        "clustering": config.clustering,
        "clusters": config.clusters,
        "backbone": config.backbone,
        "stage": config.stage,
        "weights": config.weights,
        "epochs": summary.epochs,
        "train_videos": summary.num_videos,
        "best_val_top1": summary.best_val_top1,
        "checkpoint": run.checkpoint_name,
        "dataset": dataset,
        "versions": run.manifest.versions,
    }


def _write_program(
    folder: Path, name: str, module: nn.Module, example: Tensor, given: str, returned: str
) -> None:
    """Write a module as a program of any number of frames or rows, and as ONNX."""
    number, saved = torch.export.Dim("number", min=1), BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about its own inner workings
        program = torch.export.export(module, (example,), dynamic_shapes=({0: number},))
        torch.export.save(program, saved)
        found = torch.onnx.export(
            program, input_names=[given], output_names=[returned], dynamo=True, verbose=False
        )
    if found is None:
        raise StoppedError(f"{name}.onnx", "was not made by torch.onnx", fix="report this")
    with atomic_path(folder / f"{name}.pt2") as temporary:
        temporary.write_bytes(saved.getvalue())
    with atomic_path(folder / f"{name}.onnx") as temporary:
        found.save(temporary)


def _card(settings: Mapping[str, Any], results: Sequence[str]) -> str:
    """Return the model card, in Markdown."""
    weights = str(settings["weights"])
    weights = _LICENSES.get(weights, f"the file `{weights}`, whose own license holds")
    template = load_template("model_card.md.j2")
    return template.render(s=settings, results=results, weights=weights)
