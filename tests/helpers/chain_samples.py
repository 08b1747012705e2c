"""A whole chain of tiny runs, from frames to clusters, made without training anything."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clusters_samples import sample_clusters
from training_samples import CLASSES, ROWS, Row, tiny_config, write_frames

from fvar.config import EvalConfig, InspectConfig
from fvar.store.clusters_file import write_clusters, write_clusters_csv
from fvar.store.manifest import (
    CheckpointManifest,
    ClustersManifest,
    ClustersSummary,
    EvalSummary,
    InputFile,
    OutputFile,
    PredictionsManifest,
    TrainSummary,
    write_manifest,
)
from fvar.store.provenance import input_file, output_file

FOLDERS = ("frames", "train", "eval", "clusters")
_HOW = {"clustering": "cumulative", "clusters": 4, "split": "test", "checkpoint": "last"}
_TEST = [row for row in ROWS if row.split == "test"]


def write_chain(folder: Path) -> Path:
    """Fill `folder` with the folders of the four stages, each with its manifest."""
    write_frames(folder / "frames")
    _write_train(folder / "train")
    _write_eval(folder / "eval")
    _write_clusters(folder / "clusters")
    return folder


def _write_table(path: Path, rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _write_train(folder: Path) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.pt").write_bytes(bytes(range(256)) * 40)
    _write_table(folder / "metrics.csv", [("epoch", "lr", "val_top1"), (0, 0.1, ""), (1, 0.1, "")])
    manifest = CheckpointManifest(
        versions={},
        classes=list(CLASSES),
        inputs=[input_file(folder, folder.parent / "frames" / "manifest.json")],
        outputs=[output_file(folder, name) for name in ("checkpoints/last.pt", "metrics.csv")],
        config=tiny_config(),
        summary=TrainSummary(
            epochs=2, num_videos=6, frames=37, train_loss=1.0, train_top1=0.5, seconds=1.0
        ),
    )
    write_manifest(folder, manifest)


def _inputs(folder: Path) -> list[InputFile]:
    names = ("train/manifest.json", "train/checkpoints/last.pt", "frames/manifest.json")
    return [input_file(folder, folder.parent / name) for name in names]


def _write_eval(folder: Path) -> None:
    header = ("id", "label", "predicted", *(f"score:{name}" for name in CLASSES))
    scores = (0.5, 0.25, 0.25)
    _write_table(
        folder / "predictions.csv", [header, *((r.id, r.label, "up", *scores) for r in _TEST)]
    )
    manifest = PredictionsManifest(
        versions={},
        classes=list(CLASSES),
        inputs=_inputs(folder),
        outputs=[output_file(folder, "predictions.csv")],
        config=EvalConfig(),
        summary=EvalSummary(
            top1=1 / 3,  # of down, left and up
            top5=None,
            mean_class_accuracy=1 / 3,
            evaluated=3,
            expected=3,
            crops=1,
            frames=21,
            seconds=1.0,
            **_HOW,
        ),
    )
    write_manifest(folder, manifest)


def _write_clusters(folder: Path) -> None:
    folder.mkdir()
    write_clusters(
        folder / "clusters.h5",
        [
            replace(sample_clusters(row.num_frames, 4), id=row.id, label=row.label, predicted="up")
            for row in _TEST
        ],
    )
    write_clusters_csv(folder / "clusters.csv", folder / "clusters.h5")
    manifest = ClustersManifest(
        versions={},
        classes=list(CLASSES),
        inputs=_inputs(folder),
        outputs=[output_file(folder, name) for name in ("clusters.h5", "clusters.csv")],
        config=InspectConfig(),
        summary=ClustersSummary(
            num_videos=3, available=3, right=1, frames=21, num_clusters=4 + 2 + 4, **_HOW
        ),
    )
    write_manifest(folder, manifest)


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Let `change` alter the manifest in `folder` in place."""
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def vouch(folder: Path, name: str) -> None:
    """Let the manifest in `folder` list the file `name` as it is now."""
    entry = output_file(folder, name).model_dump()

    def change(data: dict[str, Any]) -> None:
        data["outputs"] = [entry if old["path"] == name else old for old in data["outputs"]]

    edit_manifest(folder, change)


def listed(folder: Path) -> list[OutputFile]:
    """Return the outputs that the manifest in `folder` lists."""
    data = json.loads((folder / "manifest.json").read_text())
    return [OutputFile(**entry) for entry in data["outputs"]]


def rows_of(*statuses: str) -> list[Row]:
    """Return a row for every status; a failed video has no frames."""
    return [
        Row(f"{status}-{number}", "up", "train", 0 if status == "failed" else 2, status)  # type: ignore[arg-type]  # a status
        for number, status in enumerate(statuses)
    ]
