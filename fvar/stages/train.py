"""Training: frames in, a recogniser and its history out."""

from pathlib import Path

import torch

from fvar.config import TrainConfig
from fvar.errors import ConfigError, ManifestError
from fvar.model.build import build_recognizer, freezes_stem, load_weights, starting_files
from fvar.model.recognizer import Recognizer
from fvar.reporting import Reporter
from fvar.store.files import MANIFEST_NAME, is_complete, remove_leftovers, remove_outputs
from fvar.store.hashing import sha256_of
from fvar.store.manifest import (
    CheckpointManifest,
    FramesManifest,
    TrainSummary,
    VideoEntry,
    check_out,
    locate,
    read_manifest,
    write_manifest,
)
from fvar.store.provenance import check_files, input_file, output_file, tool_versions
from fvar.training.checkpoint import BEST, LAST, Checkpoint, load_checkpoint
from fvar.training.distributed import Team, team
from fvar.training.inputs import report_thinning, select_videos, stored_videos
from fvar.training.loop import METRICS, TENSORBOARD, Trainer, TrainingSet
from fvar.training.shared_files import check_alike

# What a resumed run may set anew: none of these changes a number.
_FREE_ON_RESUME = {"workers"}
_PACKAGES = ("torch", "torchvision", "torchcodec", "numpy", "h5py", "torchmetrics")


def train(
    frames: Path,
    out_dir: Path,
    config: TrainConfig,
    reporter: Reporter,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> CheckpointManifest:
    """Train a recogniser on the train split of an extraction, choosing the best epoch on its val split.

    Args:
        frames: Folder or manifest that `fvar extract` wrote.
        out_dir: Gets checkpoints, metrics.csv, TensorBoard events and, last, the manifest.
        config: Settings.
        reporter: Hears what happens.
        resume: Go on from the last whole epoch in `out_dir`.
        overwrite: Replace what `out_dir` holds.

    Raises:
        InputError: The input or a setting is wrong; nothing was written.
        StoppedError: Stopped midway; whole epochs are kept.
    """
    with team(config.device) as members:
        path, manifest = members.on_main(
            lambda: _open_frames(frames, out_dir, resume=resume, overwrite=overwrite)
        )
        check_alike(members, path, manifest.outputs)
        videos = _training_set(path, manifest, config)
        checkpoint = members.on_main(
            lambda: _checkpoint(out_dir, config, videos) if resume else None
        )
        recognizer = _start(config, videos, reporter, members)
        trainer = Trainer(
            recognizer, videos, config, team=members, out_dir=out_dir, reporter=reporter
        )
        if recognizer.engine == "plain":
            trainer.refuse_what_cannot_fit()
        if members.is_main:
            if overwrite:
                remove_outputs(out_dir, ["checkpoints", METRICS, TENSORBOARD])
            remove_leftovers(out_dir, [LAST, BEST, METRICS, MANIFEST_NAME])
        if checkpoint:
            trainer.restore(checkpoint)
            reporter.info(f"resuming after epoch {checkpoint.epoch}/{config.epochs}")
        trainer.fit()
        return members.on_main(lambda: _finish(trainer, path, out_dir))


def _open_frames(
    frames: Path, out_dir: Path, *, resume: bool, overwrite: bool
) -> tuple[Path, FramesManifest]:
    path = locate(frames)
    manifest = read_manifest(path, FramesManifest)
    if resume and overwrite:
        raise ConfigError(
            "--resume --overwrite", "one goes on, the other starts anew", fix="pass one of them"
        )
    if resume and is_complete(out_dir):
        raise ManifestError(
            out_dir, "holds a complete training, nothing is left", fix="choose another --out"
        )
    check_out(out_dir, CheckpointManifest, overwrite=overwrite)
    unfinished = (out_dir / LAST).exists()
    if unfinished and not (resume or overwrite):
        raise ManifestError(
            out_dir,
            "holds an unfinished training",
            fix="pass --resume to go on or --overwrite to start anew",
        )
    check_files(path, manifest)
    return path, manifest


def _training_set(path: Path, manifest: FramesManifest, config: TrainConfig) -> TrainingSet:
    train_videos = select_videos(manifest, "train", allow_partial=config.allow_partial, source=path)
    val_videos: list[VideoEntry] = []
    if any(video.split == "val" for video in manifest.videos):
        val_videos = select_videos(manifest, "val", allow_partial=config.allow_partial, source=path)
    known = {video.label for video in train_videos}
    classes = [name for name in manifest.classes if name in known]
    if len(classes) < 2:
        raise ManifestError(
            path,
            f"its train videos have {len(classes)} class ({', '.join(classes)})",
            fix="label at least two",
        )
    return TrainingSet(
        folder=path.parent,
        frames_sha256=sha256_of(path),
        train=stored_videos(train_videos, classes, source=path),
        val=stored_videos(val_videos, classes, source=path),
        classes=classes,
        thinning=manifest.config.thinning,
    )


def _start(
    config: TrainConfig, videos: TrainingSet, reporter: Reporter, members: Team
) -> Recognizer:
    """Build the network from its seed and starting weights, and say what will happen."""
    torch.manual_seed(config.seed)
    torch.backends.cudnn.deterministic = True
    recognizer = build_recognizer(config, num_classes=len(videos.classes), device=members.device)
    left_out = load_weights(recognizer.backbone, config)
    if left_out:
        reporter.info(f"weights {config.weights}: left out {len(left_out)} keys of its classifier")
    longest = max(videos.train, key=lambda video: video.num_frames)
    if recognizer.engine == "plain" and config.clustering != "uniform":
        _refuse_long(longest.id, longest.num_frames, config)
    report_thinning(videos.thinning, reporter)
    frames = sum(video.num_frames for video in videos.train)
    reporter.info(
        f"{len(videos.train)} videos, {frames} frames, {len(videos.classes)} classes; {config.backbone}, "
        f"clustering {config.clustering} to {config.clusters} after stage {config.stage}, stem "
        f"{'kept' if freezes_stem(config) else 'trained'}, engine "
        f"{recognizer.engine}, {members.device}, {members.world_size} process(es)"
    )
    return recognizer.to(members.device)


def _refuse_long(video_id: str, num_frames: int, config: TrainConfig) -> None:
    if num_frames > config.frames_per_batch:
        raise ConfigError(
            f"video {video_id}",
            f"has {num_frames} frames, more than --frames-per-batch {config.frames_per_batch} (engine plain)",
            fix="set norm = 'frozen' in --config to use the chunked engine, or raise --frames-per-batch",
        )


def _checkpoint(out_dir: Path, config: TrainConfig, videos: TrainingSet) -> Checkpoint:
    path = out_dir / LAST
    if not path.is_file():
        raise ManifestError(
            path, "does not exist, no epoch was finished", fix="train without --resume"
        )
    checkpoint = load_checkpoint(path)
    for name, value in checkpoint.config:
        if name not in _FREE_ON_RESUME and value != getattr(config, name):
            raise ConfigError(
                f"--resume: {name}",
                f"is {getattr(config, name)!r}, the training began with {value!r}",
                fix="pass the same settings, or start anew with --overwrite",
            )
    if checkpoint.frames_sha256 != videos.frames_sha256:
        raise ManifestError(
            path,
            f"was trained on other frames than those in {videos.folder} now",
            fix="restore them, or start anew with --overwrite",
        )
    return checkpoint


def _finish(trainer: Trainer, path: Path, out_dir: Path) -> CheckpointManifest:
    """Write the manifest that completes the folder."""
    best, last = trainer.best_epoch, trainer.history[-1]
    outputs = [LAST, METRICS, *([BEST] if best is not None else [])]
    events = sorted(
        event.relative_to(out_dir).as_posix() for event in (out_dir / TENSORBOARD).iterdir()
    )
    manifest = CheckpointManifest(
        versions=tool_versions(_PACKAGES),
        classes=list(trainer.videos.classes),
        inputs=[input_file(out_dir, source) for source in [path, *starting_files(trainer.config)]],
        outputs=[output_file(out_dir, name) for name in [*outputs, *events]],
        config=trainer.config,
        summary=TrainSummary(
            epochs=len(trainer.history),
            num_videos=len(trainer.videos.train),
            frames=sum(video.num_frames for video in trainer.videos.train),
            train_loss=last["train_loss"],
            train_top1=last["train_top1"],
            best_epoch=None if best is None else best + 1,
            best_val_top1=None if best is None else trainer.history[best]["val_top1"],
            seconds=sum(row["seconds"] for row in trainer.history),
        ),
    )
    write_manifest(out_dir, manifest)
    return manifest
