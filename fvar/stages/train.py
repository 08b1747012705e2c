"""Training: frames in; a recognizer and the history of its training out."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fvar.config import TrainConfig
from fvar.errors import ConfigError, ManifestError, StoppedError
from fvar.fields import Split
from fvar.loading.view import evaluation_view, training_view
from fvar.model.build import (
    build_recognizer,
    build_sweep,
    freezes_stem,
    load_weights,
    starting_files,
)
from fvar.model.interface import Sweep
from fvar.model.recognizer import Recognizer
from fvar.report.pictures.history import write_curves
from fvar.reporting import Reporter
from fvar.settings import parse
from fvar.store.files import MANIFEST_NAME, is_complete, remove_leftovers, remove_outputs
from fvar.store.manifest import CheckpointManifest, TrainSummary
from fvar.store.manifest_file import check_out, read_manifest, write_manifest
from fvar.store.provenance import input_file, output_file, tool_versions
from fvar.training.batches import TrainingSet
from fvar.training.checkpoint import BEST, LAST, load_last, load_matching
from fvar.training.distributed import World, autocast, join_world
from fvar.training.inputs import StoredFrames, open_frames
from fvar.training.loop import METRICS, TENSORBOARD, Trainer
from fvar.training.memory_check import check_memory
from fvar.training.representer import Representer, open_cache

CURVES = "curves.png"
_PACKAGES = ("torch", "torchvision", "torchcodec", "numpy", "h5py")


def train(
    frames: Path,
    out_dir: Path,
    config: TrainConfig,
    reporter: Reporter,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> CheckpointManifest:
    """Train a recognizer on the train split of an extraction, choosing the best epoch on its val split.

    `resume` goes on from the last finished epoch in `out_dir`; `overwrite` replaces unfinished trainings too.

    Raises:
        InputError: The input or a setting is wrong, or a video is found damaged in the first epoch; nothing
            was written.
        StoppedError: Stopped midway, also by a video found damaged after the first epoch; finished epochs
            are kept. Or it diverged: the run is complete and useless.
    """
    with join_world(config.device) as world:
        world.on_main(lambda: _check_out(out_dir, config, resume=resume, overwrite=overwrite))
        stored = open_frames(frames, world)
        videos = _training_set(stored, config)
        checkpoint = world.on_main(
            lambda: load_matching(out_dir, config, stored) if resume else None
        )
        recognizer, sweep = _build(config, videos, reporter, world)
        if checkpoint:  # before the cache is opened, which knows the stem by its weights
            recognizer.load_state_dict(checkpoint.model)
        cache = open_cache(
            out_dir,
            config,
            recognizer.backbone,
            sweep,
            max_gb=config.max_cache_gb,
            world=world,
            reporter=reporter,
        )
        trainer = Trainer(
            recognizer,
            videos,
            config,
            representer=Representer(recognizer.backbone, sweep, cache),
            world=world,
            out_dir=out_dir,
            reporter=reporter,
        )
        if sweep.engine == "plain":
            with autocast(config.precision, world.device):
                check_memory(
                    recognizer,
                    sweep,
                    size=config.size,
                    num_frames=trainer.batches.largest_part,
                    device=world.device,
                )
        if world.is_main:
            if overwrite:
                remove_outputs(out_dir, ["checkpoints", METRICS, CURVES, TENSORBOARD])
            if resume:  # more epochs after a complete training
                (out_dir / MANIFEST_NAME).unlink(missing_ok=True)
            remove_leftovers(out_dir, [LAST, BEST, METRICS, MANIFEST_NAME])
        if checkpoint:
            trainer.restore(checkpoint)
            reporter.info(f"resuming after epoch {checkpoint.epoch}/{config.epochs}")
        trainer.fit()
        manifest = world.on_main(lambda: _finish(trainer))
        if trainer.diverged:
            error = StoppedError(
                out_dir,
                "no epoch came below twice the loss of guessing: the training diverged",
                fix="train again with a lower --lr and --overwrite",
            )
            error.is_duplicate = not world.is_main
            raise error
        return manifest


def resume_training(
    run: Path, changes: Mapping[str, Any], reporter: Reporter, *, frames: Path | None = None
) -> CheckpointManifest:
    """Go on with an unfinished training, with its own settings, to the same numbers.

    Args:
        run: Its folder.
        changes: Settings that may differ: those that change no number (readers, the cache), and with schedule
            `step` more epochs, also after the last one.
        reporter: Receives messages and progress.
        frames: Where its frames are now; None: where they were.

    Raises:
        InputError: No epoch was finished, the frames are gone, or a setting differs; nothing was written.
        StoppedError: As for `train`.
    """
    checkpoint = load_last(run)
    config = parse(
        TrainConfig, checkpoint.config.model_dump() | dict(changes), source="command line"
    )
    if config.epochs > checkpoint.config.epochs and config.schedule != "step":
        raise ConfigError(
            f"--epochs {config.epochs}",
            f"the rate of {run} has fallen to its end after {checkpoint.config.epochs} (schedule "
            f"{config.schedule})",
            fix=f"train again with --weights {shlex.quote(str(run / LAST))}",
        )
    if frames is None:
        if checkpoint.frames is None:
            raise ManifestError(
                run / LAST,
                "was written by an earlier version, which did not note where the frames are",
                fix="name their folder too: fvar train FRAMES --resume RUN",
            )
        frames = run / checkpoint.frames
        if not frames.is_file():
            raise ManifestError(
                frames,
                f"is not there, {run} is trained on it",
                fix="put the folder back, or name it: fvar train FRAMES --resume RUN",
            )
    return train(frames, run, config, reporter, resume=True)


def _check_out(out_dir: Path, config: TrainConfig, *, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise ConfigError(
            "--resume --overwrite", "one goes on, the other starts again", fix="pass one of them"
        )
    if resume and is_complete(out_dir):
        epochs = read_manifest(out_dir / MANIFEST_NAME, CheckpointManifest).config.epochs
        if config.epochs <= epochs:
            raise ManifestError(
                out_dir,
                "holds a complete training, nothing is left",
                fix="choose another --out, or pass more --epochs",
            )
        return
    check_out(out_dir, CheckpointManifest, overwrite=overwrite)
    if (out_dir / LAST).exists() and not (resume or overwrite):
        raise ManifestError(
            out_dir,
            "holds an unfinished training",
            fix=f"go on with `fvar train --resume {shlex.quote(str(out_dir))}`, or pass --overwrite to start "
            "again",
        )


def _training_set(stored: StoredFrames, config: TrainConfig) -> TrainingSet:
    left_out = set(_skipped(stored, config))
    labels = {
        video.label
        for video in stored.manifest.videos
        if video.split == "train" and video.id not in left_out
    }
    classes = [name for name in stored.manifest.classes if name in labels]
    has_val = any(video.split == "val" for video in stored.manifest.videos)
    taken = {"allow_partial": config.allow_partial, "skip_incomplete": config.skip_incomplete}
    videos = TrainingSet(
        frames=stored,
        classes=classes,
        train=stored.videos("train", classes, **taken),
        val=stored.videos("val", classes, **taken) if has_val else [],
    )
    if len(classes) < 2:
        raise ManifestError(
            stored.path,
            f"its train videos have {len(classes)} class ({', '.join(classes)})",
            fix="label at least two",
        )
    return videos


def _skipped(stored: StoredFrames, config: TrainConfig) -> list[str]:
    """Return the ids of the videos that are left out, of train and val."""
    if not config.skip_incomplete:
        return []
    partial = config.allow_partial
    splits: tuple[Split, ...] = ("train", "val")
    return [v.id for s in splits for v in stored.incomplete(s, allow_partial=partial)]


def _build(
    config: TrainConfig, videos: TrainingSet, reporter: Reporter, world: World
) -> tuple[Recognizer, Sweep]:
    """Build the network from its seed and starting weights, and tell the user what will happen."""
    torch.manual_seed(config.seed)
    recognizer = build_recognizer(config, num_classes=len(videos.classes))
    sweep = build_sweep(config, recognizer.backbone, device=world.device)
    left_out = load_weights(recognizer.backbone, config)
    if left_out:
        reporter.info(f"weights {config.weights}: left out {len(left_out)} keys of its classifier")
    if sweep.engine == "plain" and evaluation_view(config).num_samples is None:
        _check_longest(videos, config)
    videos.frames.report_thinning(reporter)
    if config.skip_incomplete:
        videos.frames.report_skipped(reporter, ("train", "val"), allow_partial=config.allow_partial)
    frames = _frames_seen(videos, config)
    reporter.info(
        f"{len(videos.train)} videos, {frames} frames, {len(videos.classes)} classes; {config.backbone}, "
        f"clustering {config.clustering} to {config.clusters} after residual stage {config.stage}, stem "
        f"{'kept' if freezes_stem(config) else 'trained'}, engine "
        f"{sweep.engine}, {world.device}, {world.world_size} process(es)"
    )
    return recognizer.to(world.device), sweep


def _frames_seen(videos: TrainingSet, config: TrainConfig) -> int:
    """Return how many frames an epoch sees of the train videos, each once, as the last epoch does."""
    view = training_view(config, epoch=config.epochs - 1)
    return sum(view.count_frames(video.num_frames) for video in videos.train)


def _check_longest(videos: TrainingSet, config: TrainConfig) -> None:
    longest = max(videos.train, key=lambda video: video.num_frames)
    if longest.num_frames > config.frames_per_batch:
        raise ConfigError(
            f"video {longest.id}",
            f"has {longest.num_frames} frames, more than --frames-per-batch {config.frames_per_batch} "
            "(engine plain)",
            fix="set norm = 'frozen' in --config to use the chunked engine, or raise --frames-per-batch",
        )


def _finish(trainer: Trainer) -> CheckpointManifest:
    """Write the manifest that completes the folder."""
    out_dir, config, videos = trainer.out_dir, trainer.config, trainer.videos
    best, last = trainer.best_epoch, trainer.history[-1]
    write_curves(out_dir / CURVES, trainer.history)
    outputs = [LAST, METRICS, CURVES, *([] if best is None else [BEST])]
    events = sorted(
        path.relative_to(out_dir).as_posix() for path in out_dir.glob(f"{TENSORBOARD}/*")
    )
    inputs = [videos.frames.path, *starting_files(config)]
    manifest = CheckpointManifest(
        versions=tool_versions(_PACKAGES),
        classes=list(videos.classes),
        inputs=[input_file(out_dir, path) for path in inputs],
        outputs=[output_file(out_dir, name) for name in [*outputs, *events]],
        config=config,
        frames=videos.frames.manifest.config.frame_settings,
        summary=TrainSummary(
            epochs=len(trainer.history),
            num_videos=len(videos.train),
            frames=round(last["frames"]),
            train_loss=last["train_loss"],
            train_top1=last["train_top1"],
            best_epoch=None if best is None else best + 1,
            best_val_top1=None if best is None else trainer.history[best]["val_top1"],
            skipped=_skipped(videos.frames, config),
            seconds=sum(row["seconds"] for row in trainer.history),
        ),
    )
    write_manifest(out_dir, manifest)
    return manifest
