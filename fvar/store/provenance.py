"""What a run was made from and with: its files by their hashes, and the versions of its tools."""

import os
import platform
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from fvar.errors import ManifestError
from fvar.store.files import MANIFEST_NAME
from fvar.store.hashing import sha256_of
from fvar.store.manifest import FramesManifest, InputFile, OutputFile, StageManifest
from fvar.store.manifest_file import read_manifest


def output_file(folder: Path, name: str) -> OutputFile:
    """Return the manifest's entry for the file `name` (relative, with slashes) written inside `folder`."""
    path = folder / name
    return OutputFile(path=name, sha256=sha256_of(path), num_bytes=path.stat().st_size)


def input_file(folder: Path, path: Path) -> InputFile:
    """Return the manifest's entry for a file that the stage in `folder` read, relative to `folder`."""
    relative = os.path.relpath(path.resolve(), folder.resolve())
    return InputFile(path=Path(relative).as_posix(), sha256=sha256_of(path))


def made_from(path: Path) -> Iterator[tuple[Path, InputFile]]:
    """Yield the files from which the run of the manifest at `path` was made, back to the beginning.

    Each comes as its path and the entry that lists it. A file that is gone is listed, and not followed.
    """
    waiting, seen = [path], set()
    while waiting:
        manifest = waiting.pop(0)
        for entry in read_manifest(manifest, StageManifest).inputs:
            found = Path(os.path.normpath(manifest.parent / entry.path))
            if found in seen:
                continue
            seen.add(found)
            yield found, entry
            if found.name == MANIFEST_NAME and found.is_file():
                waiting.append(found)


def check_files(path: Path, manifest: StageManifest, *, with_inputs: bool = True) -> None:
    """Check that the files which the manifest at `path` lists have not changed, to the byte.

    An input that is no longer there is ignored, because a folder may be moved without it.

    Raises:
        ManifestError: Names the first file that is missing or differs, and the command to rerun.
    """
    fix = rerun(manifest, path.parent)
    inputs = manifest.inputs if with_inputs else []
    entries: list[InputFile | OutputFile] = [*manifest.outputs, *inputs]
    for entry in entries:
        for fault in file_faults(path, entry, command=manifest.COMMAND, fix=fix):
            raise fault


def file_faults(
    path: Path,
    entry: InputFile | OutputFile,
    *,
    command: str,
    fix: str,
    read_again: bool = False,
) -> Iterator[ManifestError]:
    """Yield one error if a listed file has changed or if an output is missing, otherwise nothing.

    Args:
        path: The manifest that lists it.
        entry: The file. An input may be absent.
        command: The command that read or wrote it.
        fix: What the user does if it has changed.
        read_again: Read it even if its hash is remembered.

    Raises:
        ManifestError: It cannot be read.
    """
    target = path.parent / entry.path
    if isinstance(entry, InputFile):
        if target.is_file() and sha256_of(target, read_again=read_again) != entry.sha256:
            yield ManifestError(target.resolve(), f"changed since `{command}` read it", fix=fix)
    elif not target.is_file():
        yield ManifestError(target, f"is missing, {path} lists it", fix=fix)
    elif (
        target.stat().st_size != entry.num_bytes
        or sha256_of(target, read_again=read_again) != entry.sha256
    ):
        problem = f"is not what `{command}` wrote (its SHA-256 differs from {path})"
        yield ManifestError(target, problem, fix=fix)


def rerun(manifest: StageManifest, folder: Path) -> str:
    """Return how the user restores a file of the run in `folder`."""
    # An extraction makes only what has changed again, because its videos may be gone by now.
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
