"""Files that every process must see alike, on whatever machine it runs."""

import socket
from collections.abc import Sequence
from pathlib import Path

from fvar.errors import ManifestError
from fvar.store.hashing import sha256_of
from fvar.store.manifest import OutputFile
from fvar.training.distributed import Team

_Seen = tuple[
    str | None, str | None
]  # hash of the file | what it lists that is not there as it says


def check_alike(team: Team, path: Path, outputs: Sequence[OutputFile] = ()) -> None:
    """Make sure that all processes see what the main one has checked.

    Args:
        team: The processes; all of them must call this.
        path: A file, compared to the byte.
        outputs: Files that it lists, relative to its folder, looked for and compared by size.

    Raises:
        ManifestError: In all processes: names file and machine.
    """
    if team.world_size == 1:
        return
    found = team.gather((socket.gethostname(), _look(path, outputs)))
    for rank, (host, seen) in enumerate(found):
        if seen != found[0][1]:
            error = ManifestError(
                path,
                f"{_difference(seen, found[0][1])} on {host} (process {rank} of {team.world_size})",
                fix="put its folder on a file system that all machines share, or copy it to each",
            )
            error.is_echo = not team.is_main
            raise error


def _look(path: Path, outputs: Sequence[OutputFile]) -> _Seen:
    if not path.is_file():
        return None, None
    digest = sha256_of(path)
    for output in outputs:
        file = path.parent / output.path
        if not file.is_file() or file.stat().st_size != output.num_bytes:
            return digest, output.path
    return digest, None


def _difference(seen: _Seen, wanted: _Seen) -> str:
    digest, missing = seen
    if digest is None:
        return "is not there"
    if digest != wanted[0]:
        return "is another file"
    return f"lists {missing}, which is missing or another"
