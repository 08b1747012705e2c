"""The manifest that completes every stage's folder: what was read, what was written, with which settings.

The format is specified in ``data_manifests/README.md``.
"""

import json
import shlex
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Field, StringConstraints

from fvar.config import (
    EvalConfig,
    ExportConfig,
    ExtractConfig,
    FrameSettings,
    InspectConfig,
    PredictConfig,
    Split,
    TrainConfig,
)
from fvar.errors import ManifestError
from fvar.settings import Settings, parse
from fvar.store.files import (
    MANIFEST_NAME,
    REPLACE,
    check_out_dir,
    is_complete,
    write_json,
)
from fvar.store.hashing import sha256_of

UNFINISHED = "checkpoints/last.pt"  # and no manifest beside it: a training that was stopped
Status = Literal["ok", "partial", "failed"]

_MAX_BYTES = 1 << 30  # a manifest of a million videos takes about 400 MB


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or set(path) & {"\\", "\0"}:
        raise ValueError("must be a relative path inside the folder")
    return path


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
InsidePath = Annotated[str, AfterValidator(_inside)]


class InputFile(Settings):
    """A file that a stage read, with its hash at that time. `path` is relative to the manifest's folder."""

    path: str
    sha256: Sha256


class OutputFile(Settings):
    """A file that a stage wrote inside its folder."""

    path: InsidePath
    sha256: Sha256
    num_bytes: int = Field(ge=0)


class VideoEntry(Settings):
    """One row of the source CSV, and the result of its extraction."""

    id: str
    video: str
    label: str
    split: Split
    start_seconds: float | None = None
    end_seconds: float | None = None
    group: str | None = None
    start_frame: int | None = None
    end_frame: int | None = None
    status: Status
    reason: str | None = Field(None, description="why the status is not ok")
    note: str | None = Field(None, description="what to know although nothing is missing")
    num_frames: int = Field(0, ge=0, description="frames in the store")
    decoded_frames: int | None = Field(
        None, ge=0, description="frames before some were left out on purpose"
    )
    shard: InsidePath | None = Field(None, description="file that holds the frames")
    width: int | None = Field(None, description="of the stored pictures, px")
    height: int | None = None
    fps: float | None = None
    num_bytes: int = Field(0, ge=0, description="of the encoded frames")


class FramesSummary(Settings):
    """Headline figures of an extraction."""

    num_videos: int
    ok: int
    partial: int
    failed: int
    frames: int
    num_bytes: int


class TrainSummary(Settings):
    """Headline figures of a training."""

    epochs: int
    num_videos: int
    frames: int
    train_loss: float
    train_top1: float
    best_epoch: int | None = None
    best_val_top1: float | None = None
    skipped: list[str] = Field(
        default_factory=list, description="ids of videos that are not complete and were left out"
    )
    seconds: float


class EvalSummary(Settings):
    """Headline figures of an evaluation; accuracies in 0..1."""

    top1: float
    top5: float | None = Field(description="null under 6 classes")
    mean_class_accuracy: float
    evaluated: int
    expected: int = Field(description="videos of the split")
    unlabelled: int = Field(
        default=0, description="evaluated videos without a label, which no accuracy counts"
    )
    skipped: list[str] = Field(
        default_factory=list, description="ids of videos that are not complete and were left out"
    )
    split: Split
    checkpoint: str
    clustering: str
    clusters: int
    crops: int
    frames: int = Field(description="frames that the network saw")
    seconds: float

    @property
    def labelled(self) -> int:
        """Number of videos that the accuracies count."""
        return self.evaluated - self.unlabelled


class ClustersSummary(Settings):
    """Headline figures of an inspection."""

    num_videos: int
    available: int = Field(description="videos that the split holds")
    right: int = Field(description="videos whose predicted class is their label")
    unlabelled: int = Field(default=0, description="videos without a label")
    frames: int
    num_clusters: int = Field(description="over all videos")
    clustering: str
    clusters: int
    split: Split
    checkpoint: str


class StageManifest(Settings):
    """The part that all manifests have in common."""

    COMMAND: ClassVar[str]

    versions: dict[str, str]
    classes: list[str]
    inputs: list[InputFile]
    outputs: list[OutputFile]


class FramesManifest(StageManifest):
    """Written by ``fvar extract``; `classes` are the labels in natural order."""

    COMMAND: ClassVar[str] = "fvar extract"

    schema_: Literal["fvar.frames/1"] = Field("fvar.frames/1", alias="schema")
    config: ExtractConfig
    summary: FramesSummary
    videos: list[VideoEntry]


class CheckpointManifest(StageManifest):
    """Written by ``fvar train``; `classes` are in the order of the classifier's outputs."""

    COMMAND: ClassVar[str] = "fvar train"

    schema_: Literal["fvar.checkpoint/1"] = Field("fvar.checkpoint/1", alias="schema")
    config: TrainConfig
    frames: FrameSettings | None = Field(
        None, description="of the extraction; null in trainings of earlier versions"
    )
    summary: TrainSummary


class PredictionsManifest(StageManifest):
    """Written by ``fvar eval``."""

    COMMAND: ClassVar[str] = "fvar eval"

    schema_: Literal["fvar.predictions/1"] = Field("fvar.predictions/1", alias="schema")
    config: EvalConfig
    summary: EvalSummary


class ClustersManifest(StageManifest):
    """Written by ``fvar inspect-clusters``."""

    COMMAND: ClassVar[str] = "fvar inspect-clusters"

    schema_: Literal["fvar.clusters/1"] = Field("fvar.clusters/1", alias="schema")
    config: InspectConfig
    summary: ClustersSummary


class TimelinesSummary(Settings):
    """Headline figures of predictions."""

    num_videos: int
    ok: int
    partial: int
    failed: int
    frames: int = Field(description="frames that the network saw")
    checkpoint: str
    seconds: float


class TimelinesManifest(StageManifest):
    """Written by ``fvar predict``."""

    COMMAND: ClassVar[str] = "fvar predict"

    schema_: Literal["fvar.timelines/1"] = Field("fvar.timelines/1", alias="schema")
    config: PredictConfig
    summary: TimelinesSummary


class ExportSummary(Settings):
    """What was exported."""

    checkpoint: str
    clustering: str


class ExportManifest(StageManifest):
    """Written by ``fvar export``."""

    COMMAND: ClassVar[str] = "fvar export"

    schema_: Literal["fvar.export/1"] = Field("fvar.export/1", alias="schema")
    config: ExportConfig
    summary: ExportSummary


class ComparisonSummary(Settings):
    """Headline figures of a comparison."""

    evaluations: int
    num_videos: int


class ComparisonManifest(StageManifest):
    """Written by ``fvar compare``; `inputs` are the evaluations, in order."""

    COMMAND: ClassVar[str] = "fvar compare"

    schema_: Literal["fvar.comparison/1"] = Field("fvar.comparison/1", alias="schema")
    summary: ComparisonSummary


_Manifest = TypeVar("_Manifest", bound=StageManifest)
_STAGES: dict[str, type[StageManifest]] = {
    str(stage.model_fields["schema_"].default): stage
    for stage in (
        FramesManifest,
        CheckpointManifest,
        PredictionsManifest,
        ClustersManifest,
        TimelinesManifest,
        ComparisonManifest,
        ExportManifest,
    )
}


def locate(path: Path) -> Path:
    """Return the path of a manifest, given that path or the folder that holds it.

    Raises:
        ManifestError: There is none.
    """
    manifest = path / MANIFEST_NAME if path.is_dir() else path
    if manifest.is_file() and manifest.suffix != ".json":
        raise ManifestError(
            path,
            "is a file, must be the folder of a run",
            fix="give the folder that a stage wrote; `fvar predict TRAINING FILE` recognizes a video",
        )
    if not manifest.is_file():
        if (path / UNFINISHED).is_file():
            raise ManifestError(
                path,
                "holds an unfinished training",
                fix=f"go on with `fvar train --resume {shlex.quote(str(path))}`",
            )
        problem = (
            "holds no manifest.json: no stage finished there" if path.is_dir() else "does not exist"
        )
        raise ManifestError(
            path, problem, fix="give the folder of a complete run, or rerun the stage that fills it"
        )
    return manifest


def read_manifest(path: Path, stage: type[_Manifest]) -> _Manifest:
    """Read and validate the manifest at `path` (a file), which `stage` must have written.

    Args:
        path: The file.
        stage: Class of the manifest; `StageManifest` accepts that of every stage.

    Raises:
        ManifestError: It cannot be read, is not JSON, is another stage's, or breaks its schema.
    """
    data = _read_json(path)
    schema = data.get("schema") if isinstance(data, dict) else None
    writer = _STAGES.get(str(schema))
    if writer is None:
        problem = f"has schema {schema!r:.60}, must be one of {', '.join(_STAGES)}"
        raise ManifestError(
            path, problem, fix="give another folder or rerun the stage that wrote it"
        )
    if not issubclass(writer, stage):
        problem = f"was written by `{writer.COMMAND}`, must be a manifest of `{stage.COMMAND}`"
        raise ManifestError(path, problem, fix=f"give a folder that `{stage.COMMAND}` wrote")
    return parse(writer, data, source=path, error=ManifestError)


def _read_json(path: Path) -> Any:
    fix = "restore it, or delete it and rerun the stage that wrote it"
    try:
        num_bytes = path.stat().st_size
        if num_bytes <= _MAX_BYTES:
            return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(path, f"is not a readable manifest ({error})", fix=fix) from error
    raise ManifestError(path, f"has {num_bytes} bytes, must have at most {_MAX_BYTES}", fix=fix)


def write_manifest(folder: Path, manifest: StageManifest) -> None:
    """Write `manifest` into `folder`, atomically; this makes the folder complete."""
    write_json(folder / MANIFEST_NAME, manifest.model_dump(mode="json", by_alias=True))


def check_out(
    folder: Path,
    stage: type[StageManifest],
    *,
    overwrite: bool,
    made_from: Path | None = None,
    fix: str = REPLACE,
) -> None:
    """Refuse an output folder that holds a complete run, or with `overwrite` the run of another stage.

    Args:
        folder: The output folder.
        stage: Class of the manifest that is to be written there.
        overwrite: Whether a complete run of `stage` may be replaced.
        made_from: The training that is read. A run made from another one is never replaced.
        fix: What the user does about a complete run.

    Raises:
        ManifestError: As for `fvar.store.files.check_out_dir`, another stage wrote the run, or it was made
            from another training.
    """
    check_out_dir(folder, overwrite=overwrite, fix=fix)
    if not is_complete(folder):
        return
    inputs = read_manifest(folder / MANIFEST_NAME, stage).inputs
    if made_from is None or not inputs:
        return
    before, now = (folder / inputs[0].path).resolve(), locate(made_from).resolve()
    if before != now and inputs[0].sha256 != sha256_of(now):  # it may have been moved
        raise ManifestError(
            folder,
            f"was made from {before.parent}, not from {now.parent}",
            fix="choose another --out, or delete the folder",
        )
