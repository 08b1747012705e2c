"""Which videos go into which shard, and the record by which an interrupted extraction goes on."""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from fvar.config import ExtractConfig, Settings, parse
from fvar.errors import ConfigError, FvarError, ManifestError
from fvar.extraction.image_folder import hash_series
from fvar.extraction.probe.claims import UnreadableError
from fvar.sources.source_csv import SourceRow
from fvar.store.files import write_json
from fvar.store.frame_store import VERSION
from fvar.store.hashing import sha256_of
from fvar.store.manifest import OutputFile, Sha256, VideoEntry
from fvar.store.provenance import output_file

FOLDER = "shards"
_OURS = re.compile(r"\.?shard-\d{5,}\.(h5|json)(\.[0-9a-f]+\.partial)?")
_RECORD = re.compile(r"shard-\d{5,}\.json")


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
        return _num_rows(self.jobs)

    @property
    def record_name(self) -> str:
        """Path of its record, relative to the output folder."""
        return f"{self.name.removesuffix('.h5')}.json"


class ShardRecord(Settings):
    """What became of a shard's rows, job by job; written once the shard is whole.

    Attributes:
        fingerprint: Of all but the videos' bytes that decides what the shard holds.
        sources: SHA-256 of each job's video; None: no verdict stands on one, so it is looked at again.
        shard: The file.
        videos: One entry a row.
    """

    fingerprint: str
    sources: list[Sha256 | None]
    shard: OutputFile
    videos: list[VideoEntry]


def plan_shards(
    rows: Sequence[SourceRow],
    paths: Sequence[Path],
    *,
    config: ExtractConfig,
    ffmpeg_version: str,
    folder: Path | None = None,
) -> list[Shard]:
    """Cut the source into shards of `config.videos_per_shard` rows, in the order of its videos.

    All rows of a video go into one shard, so that it is decoded once; a video with more rows than a shard has
    gets one of its own. Where `folder` holds shards that another list of rows was cut into, those whose
    rows are all wanted as they are stay, and only the other videos are cut into new ones.
    """
    jobs = _jobs(rows, paths)
    cut = _Cut(config, ffmpeg_version)
    plain = cut.shards(jobs, taken=())
    found = {} if folder is None else _records(folder)
    marks = {shard.name: shard.fingerprint for shard in plain}
    if all(marks.get(name) == record.fingerprint for name, record in found.items()):
        return plain
    kept = cut.still_wanted(jobs, found)
    there = {job.path for shard in kept for job in shard.jobs}
    new = cut.shards([job for job in jobs if job.path not in there], taken=kept)
    return sorted([*kept, *new], key=lambda shard: shard.name)


@dataclass(frozen=True)
class _Cut:
    """How jobs become shards."""

    config: ExtractConfig
    ffmpeg_version: str

    def shards(self, jobs: Sequence[Job], *, taken: Sequence[Shard]) -> list[Shard]:
        used = {shard.name for shard in taken}
        names = (f"{FOLDER}/shard-{number:05d}.h5" for number in count())
        free = (name for name in names if name not in used)
        parts = _whole_videos(jobs, self.config.videos_per_shard)
        return [Shard(next(free), part, self._fingerprint(part)) for part in parts]

    def still_wanted(self, jobs: Sequence[Job], records: Mapping[str, ShardRecord]) -> list[Shard]:
        by_id = {row.id: job for job in jobs for row in job.rows}
        kept: list[Shard] = []
        there: set[Path] = set()
        for name, record in records.items():
            wanted = dict.fromkeys(by_id[v.id] for v in record.videos if v.id in by_id)
            part = tuple(job for job in wanted if job.path not in there)
            fits = len(part) == 1 or _num_rows(part) <= self.config.videos_per_shard
            if part and fits and self._fingerprint(part) == record.fingerprint:
                kept.append(Shard(name, part, record.fingerprint))
                there.update(job.path for job in part)
        return kept

    def _fingerprint(self, jobs: Sequence[Job]) -> str:
        return _fingerprint(jobs, self.config, self.ffmpeg_version)


def _records(folder: Path) -> dict[str, ShardRecord]:
    """Read the records that are there, by the name of their shard."""
    paths = [p for p in sorted((folder / FOLDER).glob("*.json")) if _RECORD.fullmatch(p.name)]
    read = {f"{FOLDER}/{path.stem}.h5": _read_record(path) for path in paths}
    return {name: record for name, record in read.items() if record is not None}


def _jobs(rows: Sequence[SourceRow], paths: Sequence[Path]) -> list[Job]:
    """Gather the rows of each video, videos in the order of their first row."""
    wanted: dict[Path, list[SourceRow]] = {}
    for row, path in zip(rows, paths, strict=True):
        wanted.setdefault(path, []).append(row)
    return [Job(path, tuple(members)) for path, members in wanted.items()]


def _whole_videos(jobs: Sequence[Job], size: int) -> Iterator[tuple[Job, ...]]:
    part: list[Job] = []
    for job in jobs:
        if part and _num_rows(part) + len(job.rows) > size:
            yield tuple(part)
            part = []
        part.append(job)
    if part:
        yield tuple(part)


def _num_rows(jobs: Sequence[Job]) -> int:
    return sum(len(job.rows) for job in jobs)


def _fingerprint(jobs: Sequence[Job], config: ExtractConfig, ffmpeg_version: str) -> str:
    """Hash everything but the videos' bytes that decides what a shard holds."""
    decisive = config.model_dump(include={"short_side", "quality", "fps", "stride"})
    rows = [asdict(row) for job in jobs for row in job.rows]
    text = json.dumps([VERSION, ffmpeg_version, decisive, rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_source(
    path: Path, *, beat: Callable[[], None] = lambda: None
) -> tuple[str | None, str | None]:
    """Return the SHA-256 of a video file or of a folder's pictures, or None and why it cannot be read.

    Args:
        path: Of the file or folder.
        beat: Called at every MB; raises to end the reading.
    """
    try:
        if not path.exists():
            return None, f"{path} does not exist"
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
    that were written. A video that is no longer there, or cannot be read now, takes nothing from the store.
    """
    record = _read_record(folder / shard.record_name)
    path = folder / shard.name
    if record is None or record.fingerprint != shard.fingerprint or not path.is_file():
        return None
    now = [hash_source(job.path)[0] for job in shard.jobs]
    if any(new not in (old, None) for old, new in zip(record.sources, now, strict=True)):
        return None
    try:
        whole = output_file(folder, shard.name) == record.shard
    except (OSError, ManifestError):
        return None  # it cannot be read: made again, it can
    return record if whole else None


def check_nothing_lost(folder: Path, missing: Sequence[Shard], kept: Collection[str]) -> None:
    """Make sure that what is to be made again can be.

    Args:
        folder: Of the store.
        missing: Shards to be made.
        kept: Names of those that stay.

    Raises:
        ConfigError: A video of `missing` is no longer there, and a shard that will not stay holds its frames.
    """
    held = {
        video.video: name
        for name, record in _records(folder).items()
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
        return None  # no use to us: the shard is made again, which loses nothing


def remove_strangers(folder: Path, shards: Sequence[Shard]) -> None:
    """Delete from the shards' folder what an earlier run with other rows, or a killed one, left there."""
    wanted = {name for shard in shards for name in (shard.name, shard.record_name)}
    for path in sorted((folder / FOLDER).glob("*")):
        if f"{FOLDER}/{path.name}" not in wanted and _OURS.fullmatch(path.name):
            path.unlink()
