"""A training and the videos of a split, for an inspection."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fvar.config import InspectConfig
from fvar.errors import ConfigError, ManifestError
from fvar.loading.clip import EncodedClip
from fvar.loading.dataset import StoredVideo
from fvar.model.recognizer import Inference
from fvar.names import clustering_names
from fvar.reporting import Reporter
from fvar.store.clusters.video_clusters import VideoClusters
from fvar.store.manifest_file import locate
from fvar.training.distributed import World
from fvar.training.inputs import StoredFrames
from fvar.training.metrics import label_name
from fvar.training.predict import infer_clips
from fvar.training.representer import Representer
from fvar.training.trained_run import TrainedRun, open_trained_run


@dataclass(frozen=True, repr=False)
class InspectedRun:
    """A training whose clusters are looked at.

    Attributes:
        name: Its folder, as it was given.
        run: The training.
        frames: The extraction that is read.
        videos: Those of the split, in the source's order.
        representer: Makes their representations, with the distances between frames.
    """

    name: str
    run: TrainedRun
    frames: StoredFrames
    videos: list[StoredVideo]
    representer: Representer

    @property
    def files(self) -> list[Path]:
        """What it is made from: its manifest, its checkpoint and the manifest of its frames."""
        return [self.run.path, self.run.checkpoint, self.frames.path]

    def infer(
        self, videos: Sequence[StoredVideo], *, workers: int
    ) -> Iterator[tuple[EncodedClip, Inference]]:
        """Yield each video with what the network computes for it, one in memory at a time."""
        return infer_clips(
            self.run.recognizer,
            self.representer,
            self.run.dataset(self.frames, videos, self.representer),
            range(len(videos)),
            precision=self.run.config.precision,
            workers=workers,
        )

    def training_videos(self, config: InspectConfig) -> list[StoredVideo]:
        """Return the videos of split train.

        Raises:
            ManifestError: There are none, or one is not complete.
        """
        return self.frames.videos(
            "train",
            self.run.classes,
            allow_partial=config.allow_partial,
            skip_incomplete=config.skip_incomplete,
        )

    def same_videos(
        self, videos: Sequence[StoredVideo], first: "InspectedRun"
    ) -> list[StoredVideo]:
        """Return those that are the `videos` of another run, in their order.

        Raises:
            ManifestError: One is not there, or is another file or another part of it.
        """
        found, sources = {video.id: video for video in self.videos}, self._sources()
        others = first._sources()  # noqa: SLF001  # of the same class
        for video in videos:
            problem = None
            if video.id not in found:
                problem = f"has no video {video.id!r} in this split, which {first.name} shows"
            elif sources[video.id] != others[video.id]:
                problem = f"has another video {video.id!r} than {first.name}"
            if problem:
                raise ManifestError(
                    self.frames.path,
                    problem,
                    fix="inspect trainings of the same videos, or pass one extraction with --frames",
                )
        return [found[video.id] for video in videos]

    def _sources(self) -> dict[str, tuple[object, ...]]:
        """Return which part of which file each video is, by its id."""
        return {
            v.id: (v.video, v.start_seconds, v.end_seconds, v.start_frame, v.end_frame)
            for v in self.frames.manifest.videos
        }

    def originals(self, out_dir: Path) -> dict[str, str]:
        """Return the address of each video file that is there, from a page in `out_dir`, by its id."""
        folder = Path(self.frames.manifest.config.videos)
        found = {video.id: folder / video.video for video in self.frames.manifest.videos}
        return {
            video: quote(os.fsencode(Path(os.path.relpath(path, out_dir)).as_posix()))
            for video, path in found.items()
            if path.is_file()
        }

    def clusters_of(self, clip: EncodedClip, inference: Inference) -> VideoClusters:
        """Return the record of a video's clusters."""
        return VideoClusters(
            id=clip.id,
            label=label_name(clip.label, self.run.classes),
            predicted=self.run.classes[int(inference.logits.argmax())],
            boundaries=inference.boundaries,
            step_distances=inference.step_distances,
            num_bits=inference.num_bits,
            pts_seconds=clip.video.pts_seconds,
            fps=clip.video.fps,
            logits=inference.cluster_logits.numpy(),
        )


def check_trainings(trains: Sequence[Path], config: InspectConfig) -> None:
    """Refuse to inspect a training twice, or several with the checkpoint of one.

    Raises:
        InputError: One is no training, is named twice, or the checkpoint is a file.
    """
    folders = [locate(train).resolve().parent for train in trains]
    for at, train in enumerate(trains):
        if folders[at] in folders[:at]:
            raise ConfigError(train, "is named twice", fix="name each training once")
    if len(trains) > 1 and config.checkpoint not in (None, "best", "last"):
        raise ConfigError(
            f"--checkpoint {config.checkpoint}",
            f"belongs to one training, not to {len(trains)}",
            fix="give best or last",
        )


def open_inspected_run(
    train: Path, config: InspectConfig, world: World, reporter: Reporter, *, frames: Path | None
) -> InspectedRun:
    """Open a training to inspect it.

    Args:
        train: Folder or manifest that `fvar train` wrote.
        config: Of the inspection.
        world: The processes.
        reporter: Is told which videos and frames are left out.
        frames: Another extraction; None takes the one trained on.

    Raises:
        InputError: A file is missing or changed, the split has no videos that can be taken, or the
            training has no clusters.
    """
    run = open_trained_run(train, checkpoint=config.checkpoint, world=world)
    if run.config.clustering not in clustering_names():
        raise ConfigError(
            train,
            f"was trained with --clustering {run.config.clustering}, which makes no clusters",
            fix=f"inspect a training with one of: {', '.join(clustering_names())}",
        )
    stored = run.open_frames(frames, world)
    videos = stored.videos(
        config.split,
        run.classes,
        allow_partial=config.allow_partial,
        skip_incomplete=config.skip_incomplete,
    )
    stored.report_skipped(reporter, [config.split], allow_partial=config.allow_partial)
    stored.report_thinning(reporter)
    return InspectedRun(
        str(run.path.parent), run, stored, videos, run.representer(config, world, reporter)
    )
