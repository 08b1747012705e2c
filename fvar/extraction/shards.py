"""Shards and their records, with which an interrupted extraction continues."""

import json
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvar.errors import ConfigError, FvarError, ManifestError
from fvar.extraction.image_folder import hash_series
from fvar.extraction.probe.claims import UnreadableError
from fvar.settings import Settings, parse
from fvar.sources.source_csv import SourceRow
from fvar.sources.suspicions import similar_path
from fvar.store.files import write_json
from fvar.store.hashing import sha256_of
from fvar.store.manifest import OutputFile, Sha256, VideoEntry
from fvar.store.provenance import output_file

FOLDER = "shards"
_OURS = re.compile(r"\.?shard-\d{5,}\.(h5|json)(\.[0-9a-f]+\.partial)?")
_RECORD = re.compile(r"shard-\d{5,}\.json")


@dataclass(frozen=True)
class Job:
    """A video, and the rows of the source CSV that ask for it or for segments of it."""

    path: Path
    rows: tuple[SourceRow, ...]

    def exists(self) -> bool:
        """Return whether the video exists."""
        return os.path.exists(self.path)  # noqa: PTH110  # pathlib raises if the name is too long


def missing(path: Path) -> str:
    """Return why a video that is not there cannot be read, with the name that was perhaps meant."""
    other = similar_path(path)
    hint = "" if other is None else f"; {other.name!r} is there, in another case or Unicode form"
    return f"{path} does not exist{hint}"


@dataclass(frozen=True)
class Shard:
    """A planned shard.

    Attributes:
        name: Path of its file, relative to the output folder.
        jobs: Its videos.
        fingerprint: Hash of everything except the bytes of the videos that determines its content.
    """

    name: str
    jobs: tuple[Job, ...]
    fingerprint: str

    @property
    def num_rows(self) -> int:
        """Number of rows of the source CSV."""
        return sum(len(job.rows) for job in self.jobs)

    @property
    def record_name(self) -> str:
        """Path of its record, relative to the output folder."""
        return f"{self.name.removesuffix('.h5')}.json"


class ShardRecord(Settings):
    """The result of a shard's rows, job by job; written once the shard is whole.

    Attributes:
        fingerprint: That of the planned shard.
        sources: SHA-256 of each job's video; None if there is no video or its verdict may change, so that
            a later run tries it again.
        shard: The file.
        videos: One entry per row.
    """

    fingerprint: str
    sources: list[Sha256 | None]
    shard: OutputFile
    videos: list[VideoEntry]

    @property
    def num_frames(self) -> int:
        """Number of frames in the shard."""
        return sum(video.num_frames for video in self.videos)

    @property
    def num_bytes(self) -> int:
        """Size of their JPEG pictures."""
        return sum(video.num_bytes for video in self.videos)


def hash_source(
    path: Path, *, beat: Callable[[], None] = lambda: None
) -> tuple[str | None, str | None]:
    """Return the SHA-256 of a video file or image folder and None, or None and why it cannot be read.

    `beat` is called for every MB; it may raise to stop the reading.
    """
    try:
        if not path.exists():
            return None, missing(path)
        if path.is_dir():
            return hash_series(path, beat=beat), None
        if not path.is_file():
            return None, f"{path} is not a file or folder"
        return sha256_of(path, beat=beat), None
    except UnreadableError as error:
        return None, f"{path} {error}"
    except (OSError, ManifestError) as error:
        why = error.problem if isinstance(error, FvarError) else error.strerror
        return None, f"{path} {why}"


def write_record(
    folder: Path, shard: Shard, *, videos: list[VideoEntry], sources: list[str | None]
) -> ShardRecord:
    """Write the record of a whole shard and return it."""
    record = ShardRecord(
        fingerprint=shard.fingerprint,
        sources=sources,
        shard=output_file(folder, shard.name),
        videos=videos,
    )
    write_json(folder / shard.record_name, record.model_dump(mode="json"))
    return record


def finished(folder: Path, shard: Shard) -> ShardRecord | None:
    """Return the record of `shard` if its file is whole and up to date; None if it must be made.

    Rows, settings, ffmpeg and the bytes of every video must be those that it was made from, and its own bytes
    those that were written. A video that no longer exists, or cannot be read now, counts as unchanged.
    """
    record = _read_record(folder / shard.record_name)
    if record is None or record.fingerprint != shard.fingerprint:
        return None
    now = [hash_source(job.path)[0] for job in shard.jobs]
    if any(new not in (old, None) for old, new in zip(record.sources, now, strict=True)):
        return None
    return record if read_shard(folder, shard.name) == record.shard else None


def read_shard(folder: Path, name: str) -> OutputFile | None:
    """Return the hash and size that the file of a shard has now; None if it cannot be read."""
    try:
        return output_file(folder, name)
    except (OSError, ManifestError):
        return None


def read_records(folder: Path) -> dict[str, ShardRecord]:
    """Return the readable records of `folder`, by the name of their shard."""
    paths = [p for p in sorted((folder / FOLDER).glob("*.json")) if _RECORD.fullmatch(p.name)]
    read = {f"{FOLDER}/{path.stem}.h5": _read_record(path) for path in paths}
    return {name: record for name, record in read.items() if record is not None}


def check_nothing_lost(folder: Path, missing: Sequence[Shard], kept: Collection[str]) -> None:
    """Make sure that no frames are lost whose video no longer exists, if only the shards `kept` stay.

    Raises:
        ConfigError: A video of `missing` cannot be read, and a shard that will be replaced holds its frames.
    """
    held = {
        video.video: name
        for name, record in read_records(folder).items()
        if name not in kept and (folder / name).is_file()
        for video in record.videos
        if video.num_frames
    }
    for job in (job for shard in missing for job in shard.jobs):
        video = job.rows[0].video
        if video in held and hash_source(job.path)[0] is None:
            raise ConfigError(
                job.path,
                f"cannot be read, and {held[video]}, which holds its frames, would be made again",
                fix="bring it back, take its rows out of the CSV, or pass --overwrite",
            )


def discard(folder: Path, shards: Sequence[Shard]) -> None:
    """Delete shards, their records first."""
    for shard in shards:
        for name in (shard.record_name, shard.name):
            (folder / name).unlink(missing_ok=True)


def _read_record(path: Path) -> ShardRecord | None:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        return parse(ShardRecord, data, source=path)
    except (OSError, ValueError, RecursionError, FvarError):
        return None  # the shard is made again, which loses nothing


def remove_unplanned(folder: Path, shards: Sequence[Shard]) -> None:
    """Delete the shards and temporary files that a run with other rows, or a killed run, left in `folder`."""
    wanted = {name for shard in shards for name in (shard.name, shard.record_name)}
    for path in sorted((folder / FOLDER).glob("*")):
        if f"{FOLDER}/{path.name}" not in wanted and _OURS.fullmatch(path.name):
            path.unlink()
