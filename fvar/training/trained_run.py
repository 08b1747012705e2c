"""A finished training opened for inference: its network, its settings, and the videos of a split."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from fvar.config import Split, TrainConfig
from fvar.errors import ManifestError
from fvar.loading.dataset import FrameBatch, StoredVideo, VideoDataset
from fvar.model.build import build_recognizer
from fvar.model.recognizer import Inference, Recognizer
from fvar.store.encoded_video import EncodedVideo
from fvar.store.files import is_complete
from fvar.store.manifest import (
    CheckpointManifest,
    FramesManifest,
    VideoEntry,
    locate,
    read_manifest,
)
from fvar.store.provenance import check_files
from fvar.training.checkpoint import BEST, LAST, load_checkpoint
from fvar.training.distributed import Team
from fvar.training.inputs import select_videos, stored_videos, testing_view
from fvar.training.predict import infer_videos
from fvar.training.shared_files import check_alike


@dataclass(frozen=True, repr=False)
class Trained:
    """A training and the videos to look at.

    Attributes:
        recognizer: On the device, in evaluation mode.
        config: The training's settings.
        classes: Names of the classifier's rows.
        checkpoint: The file that was loaded.
        checkpoint_name: best, last, or the file as it was given.
        frames_dir: Folder of the frame store.
        videos: The split's rows, in the source's order.
        thinning: Which of their frames extraction kept; None: all.
        inputs: Files whose content the result depends on, for the manifest.
    """

    recognizer: Recognizer
    config: TrainConfig
    classes: list[str]
    checkpoint: Path
    checkpoint_name: str
    frames_dir: Path
    videos: list[VideoEntry]
    thinning: str | None
    inputs: list[Path]

    def __repr__(self) -> str:
        return f"Trained({self.checkpoint}, videos={len(self.videos)}, classes={len(self.classes)})"

    def stored(self, videos: list[VideoEntry]) -> list[StoredVideo]:
        """Return where the frames of `videos` are."""
        return stored_videos(videos, self.classes, source=self.frames_dir)

    def infer(
        self, videos: list[VideoEntry], *, team: Team, workers: int
    ) -> Iterator[tuple[VideoEntry, EncodedVideo, Inference]]:
        """Yield each video with its frames and what the recogniser says of it, step distances included."""
        view = testing_view(self.config)
        dataset = VideoDataset(self.frames_dir, self.stored(videos), view)
        inferred = infer_videos(
            self.recognizer,
            dataset,
            view,
            team=team,
            precision=self.config.precision,
            workers=workers,
            with_steps=True,
        )
        for entry, (batch, inference) in zip(videos, inferred, strict=True):
            yield entry, _only_video(batch, entry), inference


def _only_video(batch: FrameBatch, entry: VideoEntry) -> EncodedVideo:
    """Return the one video of a batch of one as it was stored."""
    ((height, width),) = batch.picture_sizes
    return EncodedVideo(
        jpeg=batch.encoded.numpy(),
        offsets=batch.offsets.numpy(),
        pts_seconds=batch.pts_seconds.numpy(),
        width=width,
        height=height,
        fps=entry.fps,
    )


def open_training(
    train: Path,
    *,
    split: Split,
    checkpoint: str | None,
    frames: Path | None,
    team: Team,
    allow_partial: bool,
) -> Trained:
    """Open the training whose manifest is at `train` (or in that folder), after checking what it vouches for.

    Args:
        train: Folder or manifest that `fvar train` wrote.
        split: Which videos.
        checkpoint: best, last or a file; None takes best where there is one, else last.
        frames: Another extraction than the one trained on; None: that one.
        team: Where to put the network; the main process checks the files, the others see the same.
        allow_partial: Take videos that extraction found incomplete.

    Raises:
        ManifestError: A file is missing or changed, or the split does not fit the training.
        WeightsError: The checkpoint does not load.
    """
    path, manifest = team.on_main(lambda: _open(train, with_inputs=frames is None))
    frames_path, frames_manifest = team.on_main(lambda: _open_frames(frames, path, manifest))
    name, file = team.on_main(lambda: _checkpoint_file(path.parent, checkpoint))
    check_alike(team, frames_path, frames_manifest.outputs)
    check_alike(team, file)
    videos = select_videos(frames_manifest, split, allow_partial=allow_partial, source=frames_path)
    stored_videos(videos, manifest.classes, source=frames_path)
    recognizer = _load_recognizer(file, manifest, device=team.device).to(team.device).eval()
    return Trained(
        recognizer=recognizer,
        config=manifest.config,
        classes=manifest.classes,
        checkpoint=file,
        checkpoint_name=name,
        frames_dir=frames_path.parent,
        videos=videos,
        thinning=frames_manifest.config.thinning,
        inputs=[path, file, frames_path],
    )


def _open(train: Path, *, with_inputs: bool) -> tuple[Path, CheckpointManifest]:
    path = locate(train)
    manifest = read_manifest(path, CheckpointManifest)
    check_files(path, manifest, with_inputs=with_inputs)
    return path, manifest


def _open_frames(
    frames: Path | None, trained: Path, manifest: CheckpointManifest
) -> tuple[Path, FramesManifest]:
    path = locate(frames) if frames else _frames_of(trained, manifest)
    frames_manifest = read_manifest(path, FramesManifest)
    check_files(path, frames_manifest)
    return path, frames_manifest


def _frames_of(path: Path, manifest: CheckpointManifest) -> Path:
    """Return the manifest of the frames that were trained on."""
    if not manifest.inputs:
        raise ManifestError(
            path,
            "names no input, the frames are unknown",
            fix="rerun `fvar train`, or pass --frames",
        )
    recorded = path.parent / manifest.inputs[0].path
    if not is_complete(recorded.parent):
        raise ManifestError(
            recorded,
            f"is not there, {path} was trained on it",
            fix="put the folder back or pass --frames with another extraction",
        )
    return recorded.resolve()


def _checkpoint_file(folder: Path, name: str | None) -> tuple[str, Path]:
    files = {"best": folder / BEST, "last": folder / LAST}
    if name is None:
        name = "best" if files["best"].is_file() else "last"
    file = files.get(name, Path(name))
    if not file.is_file():
        fix = (
            "there is one only where a val split chose it: use --checkpoint last"
            if name == "best"
            else "give best, last or a file"
        )
        raise ManifestError(f"--checkpoint {name}", f"{file} does not exist", fix=fix)
    return name, file


def _few(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _load_recognizer(
    file: Path, manifest: CheckpointManifest, *, device: torch.device
) -> Recognizer:
    loaded = load_checkpoint(file)
    if loaded.classes != manifest.classes:
        raise ManifestError(
            file,
            f"knows the classes {_few(loaded.classes)}, its training {_few(manifest.classes)}",
            fix="give a checkpoint of this training",
        )
    recognizer = build_recognizer(manifest.config, num_classes=len(manifest.classes), device=device)
    try:
        recognizer.load_state_dict(loaded.model)
    except RuntimeError as error:
        raise ManifestError(
            file,
            f"does not fit the network {manifest.config.backbone} ({str(error).splitlines()[0][:120]})",
            fix="give a checkpoint of this training",
        ) from error
    return recognizer
