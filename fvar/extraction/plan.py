"""Which videos go into which shard."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path

from fvar.config import ExtractConfig
from fvar.errors import ConfigError
from fvar.extraction.shards import FOLDER, Job, Shard, ShardRecord, read_records
from fvar.sources.source_csv import SourceRow, video_path
from fvar.store.frame_store import VERSION

_Fingerprint = Callable[[Sequence[Job]], str]


def plan_shards(
    rows: Sequence[SourceRow],
    config: ExtractConfig,
    *,
    ffmpeg_version: str,
    store: Path | None = None,
) -> list[Shard]:
    """Divide the videos of `rows` into shards of `config.videos_per_shard` rows, in the order of `rows`.

    All rows of a video go into one shard, so that it is decoded once; a video with more rows than a shard
    gets a shard of its own. If the folder `store` holds shards of another list of rows, those whose rows are
    all wanted unchanged stay, and only the other videos go into new shards.

    Raises:
        InputError: None of the videos exists, or a path leads out of their folder.
    """
    jobs = _jobs(rows, Path(config.videos), follow_links=config.follow_links)
    fingerprint = partial(_fingerprint, config=config, ffmpeg_version=ffmpeg_version)
    size = config.videos_per_shard
    plain = _divide(jobs, size, fingerprint, taken=())
    found = {} if store is None else read_records(store)
    planned = {shard.name: shard.fingerprint for shard in plain}
    if all(planned.get(name) == record.fingerprint for name, record in found.items()):
        return plain
    kept = _still_wanted(jobs, size, fingerprint, found)
    done = {job.path for shard in kept for job in shard.jobs}
    new = _divide(
        [job for job in jobs if job.path not in done],
        size,
        fingerprint,
        taken=[shard.name for shard in kept],
    )
    return sorted([*kept, *new], key=lambda shard: shard.name)


def _divide(
    jobs: Sequence[Job], size: int, fingerprint: _Fingerprint, *, taken: Collection[str]
) -> list[Shard]:
    """Return new shards of at most `size` rows, or of one video with more, whose names are not `taken`."""
    parts: list[list[Job]] = []
    for job in jobs:
        if not parts or _num_rows(parts[-1]) + len(job.rows) > size:
            parts.append([])
        parts[-1].append(job)
    names = (f"{FOLDER}/shard-{number:05d}.h5" for number in count())
    free = (name for name in names if name not in taken)
    return [Shard(next(free), tuple(part), fingerprint(part)) for part in parts]


def _still_wanted(
    jobs: Sequence[Job],
    size: int,
    fingerprint: _Fingerprint,
    records: Mapping[str, ShardRecord],
) -> list[Shard]:
    """Return the shards on disk whose rows are all wanted unchanged."""
    by_id = {row.id: job for job in jobs for row in job.rows}
    kept: list[Shard] = []
    done: set[Path] = set()
    for name, record in records.items():
        wanted = dict.fromkeys(by_id[v.id] for v in record.videos if v.id in by_id)
        part = tuple(job for job in wanted if job.path not in done)
        fits = len(part) == 1 or _num_rows(part) <= size
        if part and fits and fingerprint(part) == record.fingerprint:
            kept.append(Shard(name, part, record.fingerprint))
            done.update(job.path for job in part)
    return kept


def _jobs(rows: Sequence[SourceRow], videos: Path, *, follow_links: bool) -> list[Job]:
    """Group the rows by video; videos come in the order of their first row."""
    if not videos.is_dir():
        raise ConfigError(
            f"--videos {videos}", "is not a folder", fix="give the folder that holds the videos"
        )
    rows_of: dict[Path, list[SourceRow]] = {}
    for row in rows:
        rows_of.setdefault(video_path(videos, row, follow_links=follow_links), []).append(row)
    jobs = [Job(path, tuple(members)) for path, members in rows_of.items()]
    if not any(job.exists() for job in jobs):
        raise ConfigError(
            f"--videos {videos}",
            f"holds none of the {len(jobs)} videos, not even {rows[0].video!r}",
            fix="give the folder that the column `video` is relative to",
        )
    return jobs


def _num_rows(jobs: Sequence[Job]) -> int:
    return sum(len(job.rows) for job in jobs)


def _hashed(row: SourceRow) -> dict[str, object]:
    """Return the cells of a row; where the columns of frames are empty, as before there were any."""
    unused = ("start_frame", "end_frame")
    return {n: v for n, v in asdict(row).items() if v is not None or n not in unused}


def _fingerprint(jobs: Sequence[Job], *, config: ExtractConfig, ffmpeg_version: str) -> str:
    """Hash everything except the bytes of the videos that determines what a shard holds."""
    settings = config.model_dump(include={"short_side", "quality", "fps", "stride"})
    later = config.model_dump(include={"keep_going", "video_stream", "stretch"})
    settings |= {
        name: value for name, value in later.items() if value not in (None, False)
    }  # shards without them stay whole
    rows = [_hashed(row) for job in jobs for row in job.rows]
    text = json.dumps([VERSION, ffmpeg_version, settings, rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
