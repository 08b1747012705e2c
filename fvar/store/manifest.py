"""The manifest that finishes every stage's folder: what was read, what was written, with which settings.

The format is specified in ``data_manifests/README.md``.
"""

import json
import os
import platform
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Field, StringConstraints

from fvar.config import (
    EvalConfig,
    ExtractConfig,
    InspectConfig,
    Split,
    TrainConfig,
)
from fvar.errors import ManifestError
from fvar.settings import Settings, parse
from fvar.store.files import (
    MANIFEST_NAME,
    NEVER,
    REPLACE,
    check_out_dir,
    is_complete,
    sha256_of,
    write_json,
)

Status = Literal["ok", "partial", "failed"]

_MAX_BYTES = 1 << 30  # a manifest of a million videos takes about 400 MB


def _inside(path: str) -> str:
    parts = PurePosixPath(path)
    if (
        parts.is_absolute()
        or ".." in parts.parts
        or not parts.parts
        or "\\" in path
        or "\0" in path
    ):
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
    """One row of the source CSV, and what became of it."""

    id: str
    video: str
    label: str
    split: Split
    start_seconds: float | None = None
    end_seconds: float | None = None
    group: str | None = None
    status: Status
    reason: str | None = Field(None, description="why it is not ok")
    note: str | None = Field(None, description="what to know although nothing is missing")
    num_frames: int = Field(0, ge=0, description="frames in the store")
    decoded_frames: int | None = Field(
        None, ge=0, description="frames there were before some were left out on purpose"
    )
    shard: InsidePath | None = Field(None, description="file that holds them")
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
    seconds: float


class EvalSummary(Settings):
    """Headline figures of an evaluation; accuracies in 0..1."""

    top1: float
    top5: float | None = Field(description="null under 6 classes")
    mean_class_accuracy: float
    evaluated: int
    expected: int
    split: Split
    checkpoint: str
    clustering: str
    clusters: int
    crops: int
    frames: int = Field(description="frames that the network saw")
    seconds: float


class ClustersSummary(Settings):
    """Headline figures of an inspection."""

    num_videos: int
    available: int = Field(description="videos that the split holds")
    right: int = Field(description="videos whose predicted class is their label")
    frames: int
    num_clusters: int = Field(description="over all videos")
    clustering: str
    clusters: int
    split: Split
    checkpoint: str


class StageManifest(Settings):
    """What every manifest holds."""

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
    """Written by ``fvar train``; `classes` are the classifier's rows in order."""

    COMMAND: ClassVar[str] = "fvar train"

    schema_: Literal["fvar.checkpoint/1"] = Field("fvar.checkpoint/1", alias="schema")
    config: TrainConfig
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


_Manifest = TypeVar("_Manifest", bound=StageManifest)
_STAGES: dict[str, type[StageManifest]] = {
    str(stage.model_fields["schema_"].default): stage
    for stage in (FramesManifest, CheckpointManifest, PredictionsManifest, ClustersManifest)
}


def locate(path: Path) -> Path:
    """Return the manifest's own path, given it or the folder that holds it.

    Raises:
        ManifestError: There is none.
    """
    manifest = path / MANIFEST_NAME if path.is_dir() else path
    if not manifest.is_file():
        problem = (
            "holds no manifest.json: no stage finished there" if path.is_dir() else "does not exist"
        )
        raise ManifestError(
            path, problem, fix="give the folder of a complete run, or rerun the stage that fills it"
        )
    return manifest


def read_manifest(path: Path, stage: type[_Manifest]) -> _Manifest:
    """Read and validate the manifest at `path` (a file) as written by `stage`.

    Raises:
        ManifestError: It cannot be read, is not JSON, is another stage's, or breaks the schema.
    """
    data = _read_json(path)
    schema = data.get("schema") if isinstance(data, dict) else None
    wanted = stage.model_fields["schema_"].default
    if schema != wanted:
        writer = _STAGES[schema].COMMAND if isinstance(schema, str) and schema in _STAGES else None
        found = f"was written by `{writer}`" if writer else f"has schema {schema!r:.60}"
        raise ManifestError(
            path, f"{found}, wanted {wanted!r}", fix=f"give a folder that `{stage.COMMAND}` wrote"
        )
    return parse(stage, data, source=path, error=ManifestError)


def read_any_manifest(path: Path) -> StageManifest:
    """Read and validate the manifest at `path` (a file), whichever stage wrote it.

    Raises:
        ManifestError: It cannot be read, is not JSON, is of no known format, or breaks the schema.
    """
    data = _read_json(path)
    schema = data.get("schema") if isinstance(data, dict) else None
    stage = _STAGES.get(schema) if isinstance(schema, str) else None
    if stage is None:
        problem = f"has schema {schema!r:.60}, must be one of {', '.join(_STAGES)}"
        raise ManifestError(path, problem, fix="rerun the stage that wrote it")
    return parse(stage, data, source=path, error=ManifestError)


def _read_json(path: Path) -> Any:
    fix = "restore it, or delete it and rerun the stage that wrote it"
    try:
        num_bytes = path.stat().st_size
        if num_bytes <= _MAX_BYTES:
            return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(path, f"is not a readable manifest ({error})", fix=fix) from error
    raise ManifestError(path, f"has {num_bytes} bytes, a manifest at most {_MAX_BYTES}", fix=fix)


def write_manifest(folder: Path, manifest: StageManifest) -> None:
    """Write `manifest` into `folder`, atomically: this is what makes the folder complete."""
    write_json(folder / MANIFEST_NAME, manifest.model_dump(mode="json", by_alias=True))


def check_out(
    folder: Path, stage: type[StageManifest], *, overwrite: bool, fix: str = REPLACE
) -> None:
    """Refuse an output folder that holds a complete run, or with `overwrite` one that another stage wrote.

    `fix` is what the user is told to do about a complete run.

    Raises:
        ManifestError: As `fvar.store.files.check_out_dir`, or `folder` is not one of `stage`'s own.
    """
    check_out_dir(folder, overwrite=overwrite, fix=fix)
    if is_complete(folder):
        read_manifest(folder / MANIFEST_NAME, stage)


def output_file(folder: Path, name: str) -> OutputFile:
    """Describe the file `name` (relative, with slashes) that the stage wrote inside `folder`."""
    path = folder / name
    return OutputFile(path=name, sha256=sha256_of(path), num_bytes=path.stat().st_size)


def input_file(folder: Path, path: Path) -> InputFile:
    """Describe a file that the stage in `folder` read, by its path relative to `folder`."""
    relative = os.path.relpath(path.resolve(), folder.resolve())
    return InputFile(path=Path(relative).as_posix(), sha256=sha256_of(path))


def check_files(path: Path, manifest: StageManifest, *, with_inputs: bool = True) -> None:
    """Check that what the manifest at `path` wrote, and what it read, is still what it was, to the byte.

    An input that is no longer there is passed over (a folder may be moved without it); one that is there
    must match.

    Raises:
        ManifestError: Names the first file that is missing or differs, and the command to rerun.
    """
    command, fix = manifest.COMMAND, rerun(manifest, path.parent)
    for output in manifest.outputs:
        for fault in output_faults(path, output, command=command, fix=fix):
            raise fault
    for source in manifest.inputs if with_inputs else []:
        for fault in input_faults(path, source, command=command, fix=fix):
            raise fault


def output_faults(
    path: Path, entry: OutputFile, *, command: str, fix: str, anew: bool = False
) -> Iterator[ManifestError]:
    """Yield what is wrong with a file that `command` wrote: one error, or none.

    Args:
        path: The manifest that lists it.
        entry: The file.
        command: What wrote it.
        fix: What the user does where it is wrong.
        anew: Read it even if its hash is remembered.

    Raises:
        ManifestError: It cannot be read.
    """
    target = path.parent / entry.path
    if not target.is_file():
        yield ManifestError(target, f"is missing, {path} lists it", fix=fix)
    elif target.stat().st_size != entry.num_bytes or _hash(target, anew=anew) != entry.sha256:
        problem = f"is not what `{command}` wrote (its SHA-256 differs from {path})"
        yield ManifestError(target, problem, fix=fix)


def input_faults(
    path: Path, entry: InputFile, *, command: str, fix: str, anew: bool = False
) -> Iterator[ManifestError]:
    """Yield how a file that `command` read has changed: one error, or none; it may be no longer there.

    Args:
        path: The manifest that names it.
        entry: The file.
        command: What read it.
        fix: What the user does where it has changed.
        anew: Read it even if its hash is remembered.

    Raises:
        ManifestError: It cannot be read.
    """
    target = path.parent / entry.path
    if target.is_file() and _hash(target, anew=anew) != entry.sha256:
        yield ManifestError(target.resolve(), f"changed since `{command}` read it", fix=fix)


def _hash(path: Path, *, anew: bool) -> str:
    return sha256_of(path, remember_from_bytes=NEVER) if anew else sha256_of(path)


def rerun(manifest: StageManifest, folder: Path) -> str:
    """Return how a file of the run in `folder` is mended."""
    # Of an extraction only what is not as it was is made again: its videos may be gone by now.
    flag = "--update" if isinstance(manifest, FramesManifest) else "--overwrite"
    return f"restore it, or rerun `{manifest.COMMAND}` with --out {folder} {flag}"


def tool_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of fvar, Python, the system and the named packages, without importing them."""
    found = {
        "fvar": metadata.version("fvar"),
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    return found | {package: metadata.version(package) for package in sorted(packages)}
