"""A whole chain of tiny runs, from frames to clusters, made without training anything."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training_samples import CLASSES, Row, tiny_config, write_frames

from fvar.config import EvalConfig, InspectConfig
from fvar.store.manifest import (
    CheckpointManifest,
    ClustersManifest,
    ClustersSummary,
    EvalSummary,
    PredictionsManifest,
    TrainSummary,
)
from fvar.store.manifest_file import write_manifest
from fvar.store.provenance import input_file, output_file

FOLDERS = ("frames", "train", "eval", "clusters")
LAST = "checkpoints/last.pt"

_HOW = {"clustering": "cumulative", "clusters": 4, "split": "test", "checkpoint": "last"}
_TRAINED = TrainSummary(
    epochs=2, num_videos=6, frames=37, train_loss=1, train_top1=0.5, seconds=1.0
)
_TOPS = {"top1": 1 / 3, "top5": None, "mean_class_accuracy": 1 / 3}
_EVALUATED = EvalSummary(evaluated=3, expected=3, crops=1, frames=21, seconds=1.0, **_TOPS, **_HOW)
_INSPECTED = ClustersSummary(num_videos=3, available=3, right=1, frames=21, num_clusters=10, **_HOW)


def write_chain(folder: Path) -> Path:
    """Fill `folder` with the folders of the four stages, each with its manifest."""
    frames = write_frames(folder / "frames") / "manifest.json"
    train = folder / "train"
    upstream = [train / "manifest.json", train / LAST, frames]
    common = _write_files(train, [LAST, "metrics.csv"], upstream=[frames])
    write_manifest(train, CheckpointManifest(config=tiny_config(), summary=_TRAINED, **common))
    common = _write_files(folder / "eval", ["predictions.csv"], upstream=upstream)
    evaluated = PredictionsManifest(config=EvalConfig(), summary=_EVALUATED, **common)
    write_manifest(folder / "eval", evaluated)
    common = _write_files(folder / "clusters", ["clusters.h5", "clusters.csv"], upstream=upstream)
    inspected = ClustersManifest(config=InspectConfig(), summary=_INSPECTED, **common)
    write_manifest(folder / "clusters", inspected)
    return folder


def _write_files(folder: Path, names: Sequence[str], *, upstream: Sequence[Path]) -> dict[str, Any]:
    """Write files of any content; return what the manifest of every stage says of them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 1000)
    return {
        "versions": {},
        "classes": list(CLASSES),
        "inputs": [input_file(folder, path) for path in upstream],
        "outputs": [output_file(folder, name) for name in names],
    }


def edit_manifest(folder: Path, key: str, value: object) -> None:
    """Set one value in the manifest in `folder`; `key` is a path, as ``videos.0.id``."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    *parents, name = (int(part) if part.isdecimal() else part for part in key.split("."))
    record = content
    for parent in parents:
        record = record[parent]
    record[name] = value
    path.write_text(json.dumps(content))


def vouch(folder: Path, name: str) -> None:
    """Let the manifest in `folder` list the file `name` as it is now."""
    listed = json.loads((folder / "manifest.json").read_text())["outputs"]
    place = [entry["path"] for entry in listed].index(name)
    edit_manifest(folder, f"outputs.{place}", output_file(folder, name).model_dump())


def rows_of(*statuses: str) -> list[Row]:
    """Return one row for every status; a failed video has no frames."""
    return [
        Row(f"{status}-{number}", "up", "train", 0 if status == "failed" else 2, status)  # type: ignore[arg-type]  # a status
        for number, status in enumerate(statuses)
    ]
