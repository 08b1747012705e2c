"""Which videos go into which shard, and the record by which an interrupted extraction goes on."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fvar.config import ExtractConfig, Settings, parse
from fvar.data.annotations import SourceRow
from fvar.data.container import UnreadableError
from fvar.data.folder import hash_series
from fvar.data.frame_store import VERSION
from fvar.errors import FvarError, ManifestError
from fvar.files import sha256_of, write_json
from fvar.manifest import OutputFile, Sha256, VideoEntry, output_file

FOLDER = "shards"
_OURS = re.compile(r"\.?shard-\d{5,}\.(h5|json)(\.\d+\.partial)?")


@dataclass(frozen=True)
class Job:
    """A video, and the rows of the source CSV that want it or parts of it."""

    path: Path
    rows: tuple[SourceRow, ...]


@dataclass(frozen=True)
class Shard:
    """A shard to be: its path relative to the output folder, its videos, and what decides its content."""

    name: str
    jobs: tuple[Job, ...]
    fingerprint: str

    @property
    def num_rows(self) -> int:
        """Rows of the source CSV that it answers."""
        return sum(len(job.rows) for job in self.jobs)

    @property
    def record_name(self) -> str:
        """Path of its record, relative to the output folder."""
        return f"{self.name.removesuffix('.h5')}.json"


class ShardRecord(Settings):
    """What became of a shard's rows, job by job; written once the shard is whole."""

    fingerprint: str
    sources: list[Sha256 | None]
    shard: OutputFile
    videos: list[VideoEntry]


def plan_shards(
    rows: Sequence[SourceRow], paths: Sequence[Path], *, config: ExtractConfig, ffmpeg_version: str
) -> list[Shard]:
    """Cut the source into shards of `config.videos_per_shard` rows, in the order of its videos.

    All rows of a video go into one shard, so that it is decoded once; a video with more rows than a shard has
    gets one of its own.
    """
    shards = []
    for number, part in enumerate(_whole_videos(_jobs(rows, paths), config.videos_per_shard)):
        mark = _fingerprint(part, config, ffmpeg_version)
        shards.append(Shard(f"{FOLDER}/shard-{number:05d}.h5", part, mark))
    return shards


def _jobs(rows: Sequence[SourceRow], paths: Sequence[Path]) -> list[Job]:
    """Gather the rows of each video, videos in the order of their first row."""
    wanted: dict[Path, list[SourceRow]] = {}
    for row, path in zip(rows, paths, strict=True):
        wanted.setdefault(path, []).append(row)
    return [Job(path, tuple(members)) for path, members in wanted.items()]


def _whole_videos(jobs: Sequence[Job], size: int) -> Iterator[tuple[Job, ...]]:
    part: list[Job] = []
    for job in jobs:
        if part and sum(len(member.rows) for member in part) + len(job.rows) > size:
            yield tuple(part)
            part = []
        part.append(job)
    if part:
        yield tuple(part)


def _fingerprint(jobs: Sequence[Job], config: ExtractConfig, ffmpeg_version: str) -> str:
    """Hash everything but the videos' bytes that decides what a shard holds."""
    decisive = config.model_dump(
        include={"short_side", "quality", "time_limit_seconds", "fps", "stride"}
    )
    rows = [asdict(row) for job in jobs for row in job.rows]
    text = json.dumps([VERSION, ffmpeg_version, decisive, rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_source(path: Path) -> tuple[str | None, str | None]:
    """Return the SHA-256 of a video file or of a folder's pictures, or None and why it cannot be read."""
    try:
        if not path.exists():
            return None, f"{path} does not exist"
        if path.is_dir():
            return hash_series(path), None
        if not path.is_file():
            return None, f"{path} is not a file or folder"
        return sha256_of(path), None
    except UnreadableError as error:
        return None, f"{path} {error}"
    except (OSError, ManifestError) as error:
        why = error.problem if isinstance(error, FvarError) else error.strerror
        return None, f"{path} {why}"


def write_record(
    folder: Path, shard: Shard, *, videos: list[VideoEntry], sources: list[str | None]
) -> ShardRecord:
    """Write the record of a shard that is whole, and return it."""
    record = ShardRecord(
        fingerprint=shard.fingerprint,
        sources=sources,
        shard=output_file(folder, shard.name),
        videos=videos,
    )
    write_json(folder / shard.record_name, record.model_dump(mode="json"))
    return record


def finished(folder: Path, shard: Shard) -> ShardRecord | None:
    """Return the record of a shard that is whole and what `shard` would become again; None: it must be made.

    Rows, settings, ffmpeg and the bytes of every video must be those it was made from, its own bytes those
    that were written.
    """
    record = _read_record(folder / shard.record_name)
    path = folder / shard.name
    if record is None or record.fingerprint != shard.fingerprint or not path.is_file():
        return None
    if record.sources != [hash_source(job.path)[0] for job in shard.jobs]:
        return None
    if path.stat().st_size != record.shard.num_bytes or sha256_of(path) != record.shard.sha256:
        return None
    return record


def _read_record(path: Path) -> ShardRecord | None:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        return parse(ShardRecord, data, source=path)
    except (OSError, ValueError, RecursionError, FvarError):
        return None  # no use to us: the shard is made again, which loses nothing


def remove_strangers(folder: Path, shards: Sequence[Shard]) -> None:
    """Delete from the shards' folder what an earlier run with other rows, or a killed one, left there."""
    wanted = {name for shard in shards for name in (shard.name, shard.record_name)}
    for path in sorted((folder / FOLDER).glob("*")):
        if f"{FOLDER}/{path.name}" not in wanted and _OURS.fullmatch(path.name):
            path.unlink()
