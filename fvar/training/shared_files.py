"""A check that every process sees the same files, whatever machine it runs on."""

import socket
from collections.abc import Sequence
from pathlib import Path

from fvar.errors import ManifestError
from fvar.store.hashing import sha256_of
from fvar.store.manifest import OutputFile
from fvar.training.distributed import World


def check_same_files(world: World, path: Path, outputs: Sequence[OutputFile] = ()) -> None:
    """Make sure that all processes see the files that the main process has checked.

    Args:
        world: The processes; all of them must call this.
        path: A file; its content is compared.
        outputs: Files that it lists, relative to its folder; their sizes are compared.

    Raises:
        ManifestError: In all processes; names the file and the machine.
    """
    if world.world_size == 1:
        return
    digest = world.on_main(lambda: sha256_of(path))
    found = world.gather((socket.gethostname(), _problem(path, digest, outputs)))
    for rank, (host, problem) in enumerate(found):
        if problem:
            error = ManifestError(
                path,
                f"{problem} on {host} (process {rank} of {world.world_size})",
                fix="put its folder on a file system that all machines share, or copy it to each",
            )
            error.is_duplicate = not world.is_main
            raise error


def _problem(path: Path, digest: str, outputs: Sequence[OutputFile]) -> str | None:
    if not path.is_file():
        return "is not there"
    if sha256_of(path) != digest:
        return "is another file"
    for output in outputs:
        file = path.parent / output.path
        if not file.is_file() or file.stat().st_size != output.num_bytes:
            return f"lists {output.path}, which is missing or another"
    return None
