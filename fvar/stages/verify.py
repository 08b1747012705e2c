"""Verification: all that a run stands on, read anew, decoded and counted; nothing is written."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from fvar.config import VerifyConfig
from fvar.errors import FvarError, ManifestError
from fvar.processes import in_processes
from fvar.reporting import Reporter
from fvar.store.check import shard_faults, summary_faults, video_faults
from fvar.store.files import MANIFEST_NAME
from fvar.store.frame_store import REDO
from fvar.store.manifest import (
    FramesManifest,
    StageManifest,
    VideoEntry,
    input_faults,
    locate,
    output_faults,
    read_any_manifest,
    rerun,
)
from fvar.store.recount import recount

_SHOWN = 20  # faults told as they are found; the verdict holds them all
_NAMED = 5  # files named in a note
_ORDER = ("fvar extract", "fvar train", "fvar eval", "fvar inspect-clusters")


@dataclass(frozen=True)
class Link:
    """A run that another one stands on, or the one in question."""

    path: Path  # of its manifest
    manifest: StageManifest

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.path.parent

    def upstream(self) -> Iterator[Path]:
        """Yield the manifests that it read, whether or not they are there."""
        for source in self.manifest.inputs:
            if PurePosixPath(source.path).name == MANIFEST_NAME:
                # No path holds NUL, which resolving trips over: what is named so is not there.
                yield (self.folder / source.path.replace("\0", "?")).resolve()


@dataclass(frozen=True)
class Verdict:
    """What verification found.

    Attributes:
        chain: The run and all it stands on, what was made first first.
        faults: What is wrong, each with how to mend it; empty: nothing.
        notes: What is odd, but harms nothing.
        not_ok: Videos that extraction itself called partial or failed.
        num_files: Read and hashed.
        num_videos: Checked: read, and every picture decoded.
        num_frames: Of these videos.
    """

    chain: tuple[Link, ...]
    faults: tuple[FvarError, ...]
    notes: tuple[str, ...]
    not_ok: tuple[VideoEntry, ...]
    num_files: int
    num_videos: int
    num_frames: int


@dataclass(frozen=True)
class _Check:
    """A piece of work for one process."""

    action: Callable[[], Iterable[FvarError]]
    name: str  # of the file or the video
    num_files: int = 0
    num_videos: int = 0
    num_frames: int = 0

    def faults(self) -> list[FvarError]:
        """Do it; an error that ends it is a fault too."""
        found: list[FvarError] = []
        try:
            found.extend(self.action())
        except FvarError as error:
            found.append(error)
        return found


class _Faults:
    """Faults in the order they were found, each once and told at once."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._found: dict[str, FvarError] = {}

    def add(self, faults: Iterable[FvarError]) -> None:
        for fault in faults:
            if str(fault) in self._found:  # every video of a shard that cannot be opened says so
                continue
            self._found[str(fault)] = fault
            if len(self._found) <= _SHOWN:
                self._reporter.warning(str(fault))
            elif len(self._found) == _SHOWN + 1:
                self._reporter.warning(f"more than {_SHOWN} faults: the others are only counted")

    def __len__(self) -> int:
        return len(self._found)

    def all(self) -> tuple[FvarError, ...]:
        return tuple(self._found.values())


def verify(run: Path, config: VerifyConfig, reporter: Reporter) -> Verdict:
    """Check a run and every run that it stands on: hashes, counts, shards, all pictures of all videos.

    It goes on after a fault, so that all are known at once. Nothing is written anywhere.

    Args:
        run: Folder or manifest that any stage wrote.
        config: Settings.
        reporter: Hears of the first faults and of all notes as they are found.

    Raises:
        ManifestError: There is no finished run at `run`.
        StoppedError: A process that reads died.
    """
    faults = _Faults(reporter)
    chain = _follow(locate(run), faults)
    notes = [note for link in chain for note in _notes(link)]
    for note in notes:
        reporter.info(f"note: {note}")
    for link in chain:
        faults.add(_count(link, chain))
    done: Counter[str] = Counter()
    total = sum(_num_frames(link) for link in chain)
    with reporter.progress("verify", total=total or None, unit="frames") as progress:
        results = in_processes(_checks(chain), _Check.faults, workers=config.workers)
        for check, found in results:
            faults.add(found)
            done.update(files=check.num_files, videos=check.num_videos, frames=check.num_frames)
            if check.num_frames:
                progress.advance(check.num_frames, note=f"{check.name}, {len(faults)} faults")
    videos = [video for link in chain for video in _videos(link)]
    return Verdict(
        chain=tuple(chain),
        faults=faults.all(),
        notes=tuple(notes),
        not_ok=tuple(video for video in videos if video.status != "ok"),
        num_files=done["files"],
        num_videos=done["videos"],
        num_frames=done["frames"],
    )


def _follow(path: Path, faults: _Faults) -> list[Link]:
    """Return the run at `path` and all it stands on, what was made first first."""
    chain: list[Link] = []
    seen, waiting = {path.resolve()}, deque([path])
    while waiting:
        current = waiting.popleft()
        try:
            link = Link(current, read_any_manifest(current))
        except ManifestError as error:
            faults.add([error])
            continue
        chain.append(link)
        for source in link.upstream():
            if not source.is_file():
                problem = f"is not there, `{link.manifest.COMMAND}` read it for {link.folder}"
                fix = "put its folder back, or rerun the stages from it on"
                faults.add([ManifestError(source, problem, fix=fix)])
            elif source not in seen:
                seen.add(source)
                waiting.append(source)
    return sorted(chain, key=lambda link: _ORDER.index(link.manifest.COMMAND))


def _notes(link: Link) -> Iterator[str]:
    """Yield what lies in the folder though no manifest lists it, and what can no longer be compared."""
    left: list[str] = []
    unknown: list[str] = []
    for name in _strangers(link):
        (left if name.endswith(".partial") else unknown).append(name)
    for names, what in (
        (left, "left by an interrupted run, may be deleted"),
        (unknown, f"not listed in its {MANIFEST_NAME}"),
    ):
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield f"{link.folder}: {', '.join(names[:_NAMED])}{more}: {what}"
    for source in link.manifest.inputs:
        target = link.folder / source.path
        if not target.is_file() and target.name != MANIFEST_NAME:
            yield f"{target}: `{link.manifest.COMMAND}` read it, it is no longer there: not checked"


def _strangers(link: Link) -> list[str]:
    """Return the files below the folder that are not the run's, by relative path; other runs are left out."""
    known = {MANIFEST_NAME, *(output.path for output in link.manifest.outputs)}
    if isinstance(link.manifest, FramesManifest):
        # A shard's record, by which an extraction goes on.
        known |= {str(PurePosixPath(name).with_suffix(".json")) for name in known}
    found: list[str] = []
    for place, folders, files in os.walk(link.folder):
        folders[:] = [name for name in folders if not Path(place, name, MANIFEST_NAME).is_file()]
        paths = (Path(place, name).relative_to(link.folder).as_posix() for name in files)
        found.extend(path for path in paths if path not in known)
    return sorted(found)


def _checks(chain: Iterable[Link]) -> Iterator[_Check]:
    """Yield the work on all files in the order in which a disk reads it best: a shard, then its videos."""
    for link in chain:
        command, fix = link.manifest.COMMAND, rerun(link.manifest, link.folder)
        for source in link.manifest.inputs:
            hashed = partial(input_faults, link.path, source, command=command, fix=fix, anew=True)
            yield _hash_check(link.folder / source.path, hashed)
        shards = _by_shard(link)
        for output in link.manifest.outputs:
            mend = REDO if output.path in shards else fix
            hashed = partial(output_faults, link.path, output, command=command, fix=mend, anew=True)
            yield _hash_check(link.folder / output.path, hashed)
            yield from _shard_checks(link.folder, output.path, shards.get(output.path, []))


def _hash_check(target: Path, action: Callable[[], Iterable[FvarError]]) -> _Check:
    return _Check(action, target.name, num_files=int(target.is_file()))


def _shard_checks(folder: Path, shard: str, videos: Sequence[VideoEntry]) -> Iterator[_Check]:
    if not videos or not (folder / shard).is_file():
        return
    yield _Check(partial(shard_faults, folder, shard, num_videos=len(videos)), shard)
    for video in videos:
        read = partial(video_faults, folder, shard, video)
        yield _Check(read, video.id, num_videos=1, num_frames=video.num_frames)


def _by_shard(link: Link) -> dict[str, list[VideoEntry]]:
    """Return the videos of each shard; none where the run is no extraction."""
    shards: dict[str, list[VideoEntry]] = {}
    for video in _videos(link):
        if video.shard is not None:
            shards.setdefault(video.shard, []).append(video)
    return shards


def _videos(link: Link) -> list[VideoEntry]:
    return link.manifest.videos if isinstance(link.manifest, FramesManifest) else []


def _num_frames(link: Link) -> int:
    """Return the frames of the videos whose shards are there."""
    shards = _by_shard(link)
    there = [shard for shard in shards if (link.folder / shard).is_file()]
    return sum(video.num_frames for shard in there for video in shards[shard])


def _count(link: Link, chain: Sequence[Link]) -> Iterator[FvarError]:
    """Compare the figures of a run's manifest with what it lists and with its tables."""
    if isinstance(link.manifest, FramesManifest):
        return summary_faults(link.path, link.manifest)
    read = set(link.upstream())
    found = (other.manifest for other in chain if other.path.resolve() in read)
    frames = next((manifest for manifest in found if isinstance(manifest, FramesManifest)), None)
    return recount(link.folder, link.manifest, frames)
