"""The frames that a training, an evaluation or an inspection reads: a checked extraction and its splits."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fvar.errors import ManifestError
from fvar.fields import Split
from fvar.loading.dataset import StoredVideo
from fvar.reporting import Reporter
from fvar.store.hashing import sha256_of
from fvar.store.manifest import FramesManifest, OutputFile, VideoEntry
from fvar.store.manifest_file import locate, read_manifest
from fvar.store.provenance import check_files
from fvar.training.distributed import World

_SHOWN = 5  # names of videos in a message


@dataclass(frozen=True, repr=False)
class StoredFrames:
    """An extraction whose files are what its manifest says, for every process.

    Attributes:
        path: Of the manifest.
        manifest: What it says.
        sha256: Of the manifest.
    """

    path: Path
    manifest: FramesManifest
    sha256: str

    @property
    def folder(self) -> Path:
        """Folder of the frame store."""
        return self.path.parent

    def report_thinning(self, reporter: Reporter) -> None:
        """Tell the user where extraction left frames out on purpose."""
        if self.manifest.config.thinning is not None:
            reporter.info(f"frames thinned at extraction, kept: {self.manifest.config.thinning}")

    def videos(
        self,
        split: Split,
        classes: Sequence[str],
        *,
        allow_partial: bool,
        skip_incomplete: bool = False,
    ) -> list[StoredVideo]:
        """Return the videos of a split in the source's order, with labels as positions in `classes`.

        The position of a video without a label is -1.

        Args:
            split: Which.
            classes: Of the network.
            allow_partial: Take those of which frames are missing.
            skip_incomplete: Leave out those that are not taken.

        Raises:
            ManifestError: The split has no videos that are taken, one that is failed (or partial without
                `allow_partial`) and not left out, or one whose label is not among `classes`.
        """
        entries = [video for video in self.manifest.videos if video.split == split]
        refused = self.incomplete(split, allow_partial=allow_partial)
        if skip_incomplete:
            left_out = {video.id for video in refused}
            entries = [video for video in entries if video.id not in left_out]
        self._check(entries, [] if skip_incomplete else refused, split)
        position = {name: index for index, name in enumerate(classes)} | {"": -1}
        for video in entries:
            if video.label not in position:
                raise ManifestError(
                    self.path,
                    f"video {video.id!r} has label {video.label!r}, which the training did not have",
                    fix=f"use labels among {', '.join(classes[:20])}",
                )
        return [
            StoredVideo(video.id, str(video.shard), position[video.label], video.num_frames)
            for video in entries
        ]

    def incomplete(self, split: Split, *, allow_partial: bool) -> list[VideoEntry]:
        """Return the videos of a split that are not taken: failed, or partial without `allow_partial`."""
        accepted = {"ok", "partial"} if allow_partial else {"ok"}
        return [
            video
            for video in self.manifest.videos
            if video.split == split and (video.status not in accepted or video.shard is None)
        ]

    def report_skipped(
        self, reporter: Reporter, splits: Sequence[Split], *, allow_partial: bool
    ) -> list[str]:
        """Tell the user which videos of the splits are left out; return their ids."""
        found = [v for split in splits for v in self.incomplete(split, allow_partial=allow_partial)]
        if found:
            names = ", ".join(f"{video.id} ({video.status})" for video in found[:_SHOWN])
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            reporter.warning(
                f"{len(found)} videos that are not complete are left out: {names}{more}"
            )
        return [video.id for video in found]

    def _check(
        self, entries: Sequence[VideoEntry], refused: Sequence[VideoEntry], split: Split
    ) -> None:
        if not entries:
            found = sorted({video.split for video in self.manifest.videos})
            raise ManifestError(
                self.path,
                f"split {split!r} has no videos",
                fix=f"use one of {', '.join(found)}, or add rows to the CSV",
            )
        if refused:
            first = refused[0]
            raise ManifestError(
                self.path,
                f"{len(refused)} of {len(entries)} {split} videos are not complete, first {first.id!r} "
                f"({first.status}: {first.reason})",
                fix="fix or remove their rows and rerun fvar extract; "
                + ("" if first.status == "failed" else "--allow-partial accepts partial ones, ")
                + "--skip-incomplete leaves all of them out",
            )


def open_frames(path: Path, world: World) -> StoredFrames:
    """Return the extraction at `path`, the folder or its manifest, after checking its files.

    Raises:
        ManifestError: A file is missing or changed, or a process sees another one.
    """
    frames = world.on_main(lambda: _open_frames(path))
    check_same_files(world, frames.path, frames.manifest.outputs)
    return frames


def _open_frames(path: Path) -> StoredFrames:
    path = locate(path)
    manifest = read_manifest(path, FramesManifest)
    check_files(path, manifest)
    return StoredFrames(path, manifest, sha256_of(path))


def check_same_files(world: World, path: Path, outputs: Sequence[OutputFile] = ()) -> None:
    """Check that all processes, on whatever machines, see the files that the main process has checked.

    Args:
        world: The processes; all of them must call this.
        path: A file; its content is compared.
        outputs: Files that it lists, relative to its folder; their sizes are compared.

    Raises:
        ManifestError: In all processes; names the file and the machine.
    """
    if world.world_size == 1:
        return
    problem = _difference(path, world.on_main(lambda: sha256_of(path)), outputs)
    where = f"on {socket.gethostname()} (process {world.rank} of {world.world_size})"
    for found in filter(None, world.gather(problem and f"{problem} {where}")):
        fix = "put its folder on a file system that all machines share, or copy it to each"
        error = ManifestError(path, found, fix=fix)
        error.is_duplicate = not world.is_main
        raise error


def _difference(path: Path, sha256: str, outputs: Sequence[OutputFile]) -> str | None:
    if not path.is_file():
        return "is not there"
    if sha256_of(path) != sha256:
        return "is another file"
    for output in outputs:
        file = path.parent / output.path
        if not file.is_file() or file.stat().st_size != output.num_bytes:
            return f"lists {output.path}, which is missing or another"
    return None
