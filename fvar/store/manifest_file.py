"""Manifests on disk: found, read, checked and written."""

import json
import shlex
from pathlib import Path
from typing import Any, TypeVar

from fvar.errors import ManifestError
from fvar.settings import parse
from fvar.store.files import (
    MANIFEST_NAME,
    REPLACE,
    check_out_dir,
    is_complete,
    write_json,
)
from fvar.store.hashing import sha256_of
from fvar.store.manifest import (
    CheckpointManifest,
    ClustersManifest,
    ComparisonManifest,
    ExportManifest,
    FramesManifest,
    PredictionsManifest,
    StageManifest,
    TimelinesManifest,
)

UNFINISHED = "checkpoints/last.pt"  # and no manifest beside it: a training that was stopped

_MAX_BYTES = 1 << 30  # a manifest of a million videos takes about 400 MB

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
