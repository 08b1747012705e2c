"""A finished training, opened for inference: its network and its settings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fvar.config import EvalConfig, FrameSettings, InspectConfig, TrainConfig
from fvar.errors import ManifestError
from fvar.loading.dataset import StoredVideo, VideoDataset
from fvar.loading.view import evaluation_view
from fvar.model.build import build_recognizer, build_sweep
from fvar.model.interface import Sweep
from fvar.model.recognizer import Recognizer
from fvar.reporting import Reporter
from fvar.store.files import is_complete
from fvar.store.manifest import CheckpointManifest, FramesManifest
from fvar.store.manifest_file import locate, read_manifest
from fvar.store.provenance import check_files
from fvar.training.checkpoint import BEST, LAST, load_checkpoint
from fvar.training.distributed import World
from fvar.training.inputs import StoredFrames, check_same_files, open_frames
from fvar.training.representer import Representer, open_cache


@dataclass(frozen=True, repr=False)
class TrainedRun:
    """A finished training.

    Attributes:
        path: Of its manifest.
        manifest: What it says.
        checkpoint: The file that was loaded.
        checkpoint_name: best, last, or the file as it was given.
        recognizer: On the device, in evaluation mode.
        sweep: How it goes over the frames of a video.
    """

    path: Path
    manifest: CheckpointManifest
    checkpoint: Path
    checkpoint_name: str
    recognizer: Recognizer
    sweep: Sweep

    @property
    def config(self) -> TrainConfig:
        """The settings of the training."""
        return self.manifest.config

    @property
    def classes(self) -> list[str]:
        """Names of the classifier's rows."""
        return self.manifest.classes

    def __repr__(self) -> str:
        return f"TrainedRun({self.checkpoint}, classes={len(self.classes)})"

    def open_frames(self, frames: Path | None, world: World) -> StoredFrames:
        """Return the extraction at `frames`; None opens the one that was trained on.

        Raises:
            ManifestError: A file is missing or changed.
        """
        if frames is None:
            frames = world.on_main(self._recorded_frames)
        return open_frames(frames, world)

    def _recorded_frames(self) -> Path:
        if not self.manifest.inputs:
            raise ManifestError(
                self.path,
                "names no input, the frames are unknown",
                fix="rerun `fvar train`, or pass --frames",
            )
        recorded = self.path.parent / self.manifest.inputs[0].path
        if not is_complete(recorded.parent):
            raise ManifestError(
                recorded,
                f"is not there, {self.path} was trained on it",
                fix="put the folder back or pass --frames with another extraction",
            )
        check_files(self.path, self.manifest, with_inputs=True)
        return recorded.resolve()

    def frame_settings(self) -> FrameSettings:
        """Return how the videos became frames that this run was trained on.

        Raises:
            ManifestError: A version of fvar trained it that did not note this, and its extraction is gone.
        """
        if self.manifest.frames is not None:
            return self.manifest.frames
        return read_manifest(self._recorded_frames(), FramesManifest).config.frame_settings

    def representer(
        self, config: EvalConfig | InspectConfig, world: World, reporter: Reporter
    ) -> Representer:
        """Return what makes the representations of clips, or has kept them; for an inspection with steps."""
        sweep = replace(self.sweep, with_steps=isinstance(config, InspectConfig))
        cache = open_cache(
            self.path.parent,
            self.config,
            self.recognizer.backbone,
            sweep,
            max_gb=config.max_cache_gb,
            world=world,
            reporter=reporter,
        )
        return Representer(self.recognizer.backbone, sweep, cache)

    def dataset(
        self, frames: StoredFrames, videos: Sequence[StoredVideo], representer: Representer
    ) -> VideoDataset:
        """Return videos as clips for inference."""
        return VideoDataset(
            frames.folder,
            videos,
            evaluation_view(self.config),
            device=next(self.recognizer.parameters()).device,
            cache=representer.cache,
        )


def open_trained_run(train: Path, *, checkpoint: str | None, world: World) -> TrainedRun:
    """Open a training, after checking the files that its manifest lists.

    Args:
        train: Folder or manifest that `fvar train` wrote.
        checkpoint: best, last or a file; None takes best where there is one, else last.
        world: The main process checks the files, the others must see the same.

    Raises:
        ManifestError: A file is missing or changed, or the checkpoint belongs to another training.
        WeightsError: The checkpoint does not load.
    """
    path, manifest = world.on_main(lambda: _read(train))
    name, file = world.on_main(lambda: _find_checkpoint(path.parent, checkpoint))
    check_same_files(world, file)
    recognizer = _load_recognizer(file, manifest)
    sweep = build_sweep(manifest.config, recognizer.backbone, device=world.device)
    return TrainedRun(path, manifest, file, name, recognizer.to(world.device).eval(), sweep)


def _read(train: Path) -> tuple[Path, CheckpointManifest]:
    path = locate(train)
    manifest = read_manifest(path, CheckpointManifest)
    # What it read may be gone: `open_frames` checks that.
    check_files(path, manifest, with_inputs=False)
    return path, manifest


def _find_checkpoint(folder: Path, name: str | None) -> tuple[str, Path]:
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


def _load_recognizer(file: Path, manifest: CheckpointManifest) -> Recognizer:
    loaded = load_checkpoint(file)
    if loaded.classes != manifest.classes:
        raise ManifestError(
            file,
            f"has the classes {_few(loaded.classes)}, its training {_few(manifest.classes)}",
            fix="give a checkpoint of this training",
        )
    recognizer = build_recognizer(manifest.config, num_classes=len(manifest.classes))
    try:
        recognizer.load_state_dict(loaded.model)
    except RuntimeError as error:
        raise ManifestError(
            file,
            f"does not fit the network {manifest.config.backbone} ({str(error).splitlines()[0][:120]})",
            fix="give a checkpoint of this training",
        ) from error
    return recognizer


def _few(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
