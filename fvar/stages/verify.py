"""Verification: every file of a run and of the runs it was made from is read again; nothing is written."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from fvar.config import VerifyConfig
from fvar.errors import FvarError, ManifestError
from fvar.processes import in_processes
from fvar.reporting import Reporter
from fvar.store.check import shard_faults, video_faults
from fvar.store.files import MANIFEST_NAME, cache_folder, size_of
from fvar.store.frame_store import REMAKE_SHARD
from fvar.store.manifest import (
    CheckpointManifest,
    FramesManifest,
    InputFile,
    OutputFile,
    StageManifest,
    VideoEntry,
)
from fvar.store.manifest_file import locate, read_manifest
from fvar.store.provenance import file_faults, rerun

_REPORTED = 20  # faults reported as they are found; the verdict holds them all
_NAMED = 5  # files named in one note
_ORDER = (  # of the commands
    *("fvar extract", "fvar train", "fvar eval", "fvar inspect-clusters", "fvar predict"),
    *("fvar compare", "fvar export"),
)


@dataclass(frozen=True)
class Run:
    """The folder that one command wrote, known by its manifest.

    Attributes:
        path: Path of the manifest.
        manifest: Its content.
    """

    path: Path
    manifest: StageManifest

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return self.path.parent

    @property
    def videos(self) -> list[VideoEntry]:
        """The videos of an extraction; empty for another stage."""
        return self.manifest.videos if isinstance(self.manifest, FramesManifest) else []

    def upstream(self) -> Iterator[Path]:
        """Yield the paths of the manifests that the command read, whether or not they still exist."""
        for entry in self.manifest.inputs:
            if PurePosixPath(entry.path).name == MANIFEST_NAME:
                # Resolving a path fails on NUL, which no path of a file can hold.
                yield (self.folder / entry.path.replace("\0", "?")).resolve()

    def by_shard(self) -> dict[str, list[VideoEntry]]:
        """Return the stored videos by their shard."""
        shards: dict[str, list[VideoEntry]] = {}
        for video in self.videos:
            if video.shard is not None:
                shards.setdefault(video.shard, []).append(video)
        return shards


@dataclass(frozen=True)
class Verdict:
    """The result of a verification.

    Attributes:
        chain: The run and all runs it was made from, the first made first.
        faults: What is wrong, each with its fix; empty if nothing is.
        notes: What is odd but harmless.
        not_ok: Videos that extraction itself called partial or failed.
        num_files: Number of files read and hashed.
        num_videos: Number of videos read, with every picture decoded.
        num_frames: Number of frames of these videos.
    """

    chain: tuple[Run, ...]
    faults: tuple[FvarError, ...]
    notes: tuple[str, ...]
    not_ok: tuple[VideoEntry, ...]
    num_files: int
    num_videos: int
    num_frames: int


@dataclass(frozen=True)
class _Check:
    """A piece of work for one process; it hashes `num_files` files (0 or 1), or decodes `video`."""

    action: Callable[[], Iterable[FvarError]]
    num_files: int = 0
    video: VideoEntry | None = None

    def faults(self) -> list[FvarError]:
        """Do the work; an error that ends it is a fault too."""
        found: list[FvarError] = []
        try:
            found.extend(self.action())
        except FvarError as error:
            found.append(error)
        return found


class _Faults:
    """Faults in the order they were found, without repetition; the first ones are reported at once."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.found: dict[str, FvarError] = {}

    def add(self, faults: Iterable[FvarError]) -> None:
        for fault in faults:
            if str(fault) in self.found:  # all videos of a shard that cannot be opened say the same
                continue
            self.found[str(fault)] = fault
            if len(self.found) <= _REPORTED:
                self._reporter.warning(str(fault))
            elif len(self.found) == _REPORTED + 1:
                self._reporter.warning(f"more than {_REPORTED} faults: the rest are only counted")


def verify(run: Path, config: VerifyConfig, reporter: Reporter) -> Verdict:
    """Check a run and every run it was made from: all hashes, all shards, all pictures of all videos.

    It goes on after a fault, so that all faults are known at once. Nothing is written anywhere.
    `run` is the folder or manifest of any stage; `reporter` gets the first faults and all notes as they come.

    Raises:
        ManifestError: There is no complete run at `run`.
        StoppedError: A process that reads died.
    """
    faults = _Faults(reporter)
    chain = _follow(locate(run), faults)
    notes = [note for one in chain for note in _notes(one)]
    for note in notes:
        reporter.info(f"note: {note}")
    planned = (check.video for one in chain for check in _checks(one))
    num_frames = sum(video.num_frames for video in planned if video)
    num_files = num_videos = 0
    with reporter.progress("verify", total=num_frames or None, unit="frames") as progress:
        checks = (check for one in chain for check in _checks(one))
        for check, found in in_processes(checks, _Check.faults, workers=config.workers):
            faults.add(found)
            num_files += check.num_files
            if check.video:
                num_videos += 1
                note = f"{check.video.id}, {len(faults.found)} faults"
                progress.advance(check.video.num_frames, note=note)
    return Verdict(
        chain=tuple(chain),
        faults=tuple(faults.found.values()),
        notes=tuple(notes),
        not_ok=tuple(video for one in chain for video in one.videos if video.status != "ok"),
        num_files=num_files,
        num_videos=num_videos,
        num_frames=num_frames,
    )


def _follow(path: Path, faults: _Faults) -> list[Run]:
    """Return the run whose manifest is `path` and all runs it was made from, the first made first."""
    chain: list[Run] = []
    seen, waiting = {path.resolve()}, deque([path])
    while waiting:
        current = waiting.popleft()
        try:
            run = Run(current, read_manifest(current, StageManifest))
        except ManifestError as error:
            faults.add([error])
            continue
        chain.append(run)
        for source in run.upstream():
            if not source.is_file():
                problem = f"is not there, `{run.manifest.COMMAND}` read it for {run.folder}"
                fix = "put its folder back, or rerun its stage and all later ones"
                faults.add([ManifestError(source, problem, fix=fix)])
            elif source not in seen:
                seen.add(source)
                waiting.append(source)
    return sorted(chain, key=lambda run: _ORDER.index(run.manifest.COMMAND))


def _notes(run: Run) -> Iterator[str]:
    """Yield notes on files that no manifest lists, on the cache, and on inputs that no longer exist."""
    unlisted = _unlisted(run)
    leftovers = [name for name in unlisted if name.endswith(".partial")]
    others = [name for name in unlisted if not name.endswith(".partial")]
    for names, what in (
        (leftovers, "left by an interrupted run, may be deleted"),
        (others, f"not listed in its {MANIFEST_NAME}"),
    ):
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield f"{run.folder}: {', '.join(names[:_NAMED])}{more}: {what}"
    if (
        isinstance(run.manifest, CheckpointManifest)
        and (cache := cache_folder(run.folder)).is_dir()
    ):
        yield f"{cache}: {size_of(cache) / 1e6:.1f} MB of kept representations: may be deleted"
    for entry in run.manifest.inputs:
        target = run.folder / entry.path
        if not target.is_file() and target.name != MANIFEST_NAME:
            yield f"{target}: `{run.manifest.COMMAND}` read it, it no longer exists: not checked"


def _unlisted(run: Run) -> list[str]:
    """Return the relative paths of files in the folder that are not the run's; other runs are left out."""
    known = {MANIFEST_NAME, *(output.path for output in run.manifest.outputs)}
    if isinstance(run.manifest, FramesManifest):
        # The record of each shard, from which an interrupted extraction goes on.
        known |= {str(PurePosixPath(name).with_suffix(".json")) for name in known}
    found: list[str] = []
    for place, folders, files in os.walk(run.folder):
        folders[:] = [name for name in folders if not Path(place, name, MANIFEST_NAME).is_file()]
        paths = (Path(place, name).relative_to(run.folder).as_posix() for name in files)
        found.extend(path for path in paths if path not in known)
    return sorted(found)


def _checks(run: Run) -> Iterator[_Check]:
    """Yield the checks of all files; a shard's videos follow its hash, while the system's cache holds it."""
    fix, shards = rerun(run.manifest, run.folder), run.by_shard()
    for source in run.manifest.inputs:
        yield _hash_check(run, source, fix=fix)
    for output in run.manifest.outputs:
        videos = shards.pop(output.path, [])
        yield _hash_check(run, output, fix=REMAKE_SHARD if videos else fix)
        if videos and (run.folder / output.path).is_file():
            yield from _shard_checks(run.folder, output.path, videos)
    for shard, videos in shards.items():  # named by videos, and by no output
        yield from _shard_checks(run.folder, shard, videos)


def _hash_check(run: Run, entry: InputFile | OutputFile, *, fix: str) -> _Check:
    command, target = run.manifest.COMMAND, run.folder / entry.path
    action = partial(file_faults, run.path, entry, command=command, fix=fix, read_again=True)
    return _Check(action, num_files=int(target.is_file()))


def _shard_checks(folder: Path, shard: str, videos: Sequence[VideoEntry]) -> Iterator[_Check]:
    yield _Check(partial(shard_faults, folder, shard, num_videos=len(videos)))
    for video in videos:
        yield _Check(partial(video_faults, folder, shard, video), video=video)
