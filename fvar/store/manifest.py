"""The manifest that completes every stage's folder: what was read, what was written, with which settings.

The format is specified in ``data_manifests/README.md``.
"""

from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints

from fvar.config import (
    EvalConfig,
    ExportConfig,
    ExtractConfig,
    FrameSettings,
    InspectConfig,
    PredictConfig,
    TrainConfig,
)
from fvar.fields import Split
from fvar.settings import Settings

Status = Literal["ok", "partial", "failed"]


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
