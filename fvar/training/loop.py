"""The training loop: batches in, after each epoch a checkpoint and a row of metrics out."""

import math
import os
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.tensorboard import SummaryWriter

from fvar.config import TrainConfig
from fvar.errors import InputError, StoppedError, stopped_by
from fvar.loading.clip import EncodedClip
from fvar.loading.sampling import draw_key
from fvar.model.build import freezes_stem
from fvar.model.interface import Representations, Sweep
from fvar.model.recognizer import Recognizer
from fvar.reporting import Progress, Reporter, in_words
from fvar.training.batches import TrainingBatches, TrainingSet, balanced_weights
from fvar.training.checkpoint import BEST, LAST, Checkpoint, save_checkpoint
from fvar.training.distributed import World, autocast, autocast_dtype
from fvar.training.metrics import COLUMNS, score, write_history
from fvar.training.optim import build_optimizer, build_scheduler
from fvar.training.predict import predict
from fvar.training.representer import Representer
from fvar.training.step import run_parts, split_step

_HOPELESS = 2.0  # times the loss of guessing
METRICS, TENSORBOARD = "metrics.csv", "tensorboard"


class Trainer:
    """Trains a recognizer epoch by epoch: trains, validates, and saves the result of each epoch."""

    def __init__(
        self,
        recognizer: Recognizer,
        videos: TrainingSet,
        config: TrainConfig,
        *,
        representer: Representer,
        world: World,
        out_dir: Path,
        reporter: Reporter,
    ) -> None:
        self.recognizer, self.representer = recognizer, representer
        self.videos, self.config = videos, config
        self.world, self.out_dir, self.reporter = world, out_dir, reporter
        self.history: list[dict[str, float]] = []
        self._epoch_seconds: float | None = (
            None  # the last epoch's in this process, validation included
        )
        self.batches = TrainingBatches(videos, config, world, cache=representer.cache)
        self.optimizer = build_optimizer(
            recognizer, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.scheduler = build_scheduler(
            self.optimizer,
            schedule=config.schedule,
            milestones=config.milestones,
            steps=self.batches.steps,
        )
        self.scaler = torch.amp.GradScaler(
            world.device.type,
            enabled=autocast_dtype(config.precision, world.device) == torch.float16,
        )
        self.parallel = world.wrap(recognizer)
        self._class_weights: Tensor | None = None
        if config.class_weights == "balanced":
            self._class_weights = balanced_weights(videos).to(world.device)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same training. The recognizer has its weights already."""
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        state = dict(checkpoint.scheduler)
        if isinstance(
            self.scheduler, MultiStepLR
        ):  # there may be more epochs now, with milestones of theirs
            state["milestones"] = self.scheduler.milestones
        self.scheduler.load_state_dict(state)
        self.scaler.load_state_dict(dict(checkpoint.scaler))
        self.history = list(checkpoint.history)

    def fit(self) -> None:
        """Train the epochs that are left.

        Raises:
            InputError: A video is damaged; no epoch was finished, and nothing was written.
            StoppedError: The loss is not finite, a video is damaged, or the user stopped it; finished
                epochs are kept.
        """
        with ExitStack() as stack:
            board: SummaryWriter | None = None
            for epoch in range(len(self.history), self.config.epochs):
                try:
                    self.history.append(self._run_epoch(epoch))
                except KeyboardInterrupt as interrupt:
                    raise self._stopped(epoch) from interrupt
                self.world.on_main(self._save)
                if self.world.is_main:
                    if board is None:
                        folder = self.out_dir / TENSORBOARD
                        board = stack.enter_context(SummaryWriter(folder, purge_step=epoch))
                    _add_scalars(board, self.history[-1])
            if self.representer.cache is not None:
                self.reporter.info(str(self.representer.cache))

    @property
    def diverged(self) -> bool:
        """Whether no epoch had a loss below twice that of guessing."""
        return all(row["train_loss"] > self._hopeless_loss for row in self.history)

    @property
    def _hopeless_loss(self) -> float:
        return _HOPELESS * math.log(len(self.videos.classes))

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the highest accuracy on `val`, of the kind set; None without a `val` split."""
        if not self.videos.val:
            return None
        column = {"top-1": "val_top1", "mean-class": "val_mean_class_accuracy"}[self.config.best_by]
        accuracies = [row[column] for row in self.history]
        return accuracies.index(max(accuracies))

    @property
    def _go_on(self) -> str:
        return f"go on with `fvar train --resume {shlex.quote(str(self.out_dir))}`"

    def _stopped(self, epoch: int) -> StoppedError:
        """Return what the user is told who stopped the training in an epoch (counted from 0)."""
        kept, fix = f"epochs up to {epoch} are kept", self._go_on
        if epoch == 0:
            kept, fix = "nothing was kept", "run the same command again"
        error = StoppedError(
            self.out_dir, f"was stopped in epoch {epoch + 1}/{self.config.epochs}, {kept}", fix=fix
        )
        error.is_duplicate = not self.world.is_main
        return error

    def _run_epoch(self, epoch: int) -> dict[str, float]:
        """Train and validate; return the row of metrics."""
        started = time.perf_counter()
        try:
            row = self._train(epoch)
            seconds = time.perf_counter() - started
            row |= {"frames_per_second": row["frames"] / seconds, "seconds": seconds}
            row |= self._validate()
            if epoch or self.representer.cache is None:  # the first one makes what the cache keeps
                self._epoch_seconds = time.perf_counter() - started
        except InputError as error:
            if not epoch:
                raise
            raise stopped_by(error, then=self._go_on) from error
        row = {name: row[name] for name in COLUMNS if name in row}
        self._report(row)
        if row["train_loss"] > self._hopeless_loss:
            self.reporter.warning(
                f"the loss is over {_HOPELESS:g} times that of guessing, "
                f"{math.log(len(self.videos.classes)):.2f}: the training diverges; try a lower --lr"
            )
        return row

    def _train(self, epoch: int) -> dict[str, float]:
        # One seed per epoch and process: an epoch draws the same dropout whether or not the run was resumed.
        torch.manual_seed(draw_key(self.config.seed, epoch, self.world.rank, "dropout"))
        self.recognizer.train()
        totals = torch.zeros(4, dtype=torch.float64)  # loss, correct, videos, frames
        lr = self.optimizer.param_groups[0]["lr"]
        with self.reporter.progress(
            f"epoch {epoch + 1}/{self.config.epochs}{self._time_left(epoch)}",
            total=len(self.videos.train),
            unit="videos",
        ) as progress:
            for clips, size in self.batches.of_epoch(epoch):
                totals += self._step(clips, size, epoch=epoch, progress=progress)
        loss, correct, num_videos, frames = self.world.sum(totals.to(self.world.device)).tolist()
        return {
            "epoch": float(epoch + 1),
            "lr": lr,
            "train_loss": loss / num_videos,
            "train_top1": correct / num_videos,
            "frames": frames,
        }

    def _sweep_of(self, epoch: int) -> Sweep:
        """Return the sweep over sampled frames in the first `sampled_epochs`, over clusters afterwards."""
        sweep = self.representer.sweep
        if epoch < self.config.sampled_epochs:
            return replace(sweep, engine="plain", clustering=None)
        return sweep

    def _step(
        self, clips: Sequence[EncodedClip], size: int, *, epoch: int, progress: Progress
    ) -> Tensor:
        """Take one optimization step; return this process's loss, correct, videos and frames.

        Args:
            clips: This process's part of the batch.
            size: Number of videos in the parts of all processes.
            epoch: Its number, from 0.
            progress: Counts the videos.
        """
        sweep = self._sweep_of(epoch)
        with autocast(self.config.precision, self.world.device):
            parts = split_step(self.recognizer.backbone, clips, sweep)
        found = run_parts(self.parallel, parts, lambda part: self._add_gradients(part, size, sweep))
        loss, correct = torch.stack(found).sum(dim=0)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(
            self.recognizer.parameters(), self.config.clip_grad_norm
        )
        self._refuse_nan(loss, norm, clips, epoch=epoch)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.optimizer.zero_grad()
        progress.advance(size, note=f"loss {loss.item() / max(len(clips), 1):.3f}")
        num_frames = sum(clip.num_frames for clip in clips)
        totals = [loss.item(), correct.item(), len(clips), num_frames]
        return torch.tensor(totals, dtype=torch.float64)

    def _inputs(
        self, clips: Sequence[EncodedClip], sweep: Sweep
    ) -> Sequence[EncodedClip] | Representations:
        """Return what the recognizer gets: where the stem is frozen, what the stem makes of the clips."""
        if not clips or not freezes_stem(self.config):
            return clips
        return replace(self.representer, sweep=sweep)(clips)

    def _add_gradients(self, clips: Sequence[EncodedClip], size: int, sweep: Sweep) -> Tensor:
        """Go forward and backward with a part of the batch; return its summed loss and its number correct."""
        labels = torch.tensor([clip.label for clip in clips], dtype=torch.int64)
        labels = labels.to(self.world.device)
        with autocast(self.config.precision, self.world.device):
            logits = self.parallel(self._inputs(clips, sweep), sweep)
        loss = functional.cross_entropy(
            logits.float(),
            labels,
            weight=self._class_weights,
            label_smoothing=self.config.label_smoothing,
            reduction="sum",
        )
        # DistributedDataParallel averages over processes; the loss is the mean over all videos of the batch.
        torch.autograd.backward(self.scaler.scale(loss * self.world.world_size / size))
        return torch.stack([loss.detach(), (logits.argmax(1) == labels).sum()])

    def _refuse_nan(
        self, loss: Tensor, norm: Tensor, clips: Sequence[EncodedClip], *, epoch: int
    ) -> None:
        bad_loss = not torch.isfinite(loss)
        bad_norm = not torch.isfinite(norm) and not self.scaler.is_enabled()  # it skips the step
        bad = torch.tensor(float(bad_loss or bad_norm), device=self.world.device)
        if self.world.sum(bad).item():
            problem = f"the norm of the gradient is {norm.item()}"
            if bad_loss:
                ids = ", ".join(clip.id for clip in clips)
                problem = f"the loss is {loss.item()} on videos {ids}"
            raise StoppedError(
                f"epoch {epoch + 1}",
                problem,
                fix="train again with a lower --lr; epochs before this one are in --out",
            )

    def _validate(self) -> dict[str, float]:
        if not self.videos.val:
            return {}
        with self.reporter.progress("val", total=len(self.videos.val), unit="videos") as progress:
            predictions = predict(
                self.recognizer,
                self.representer,
                self.batches.val(),
                world=self.world,
                precision=self.config.precision,
                workers=self.config.workers,
                progress=progress,
            )
        scores = score(predictions, self.videos.classes)
        return {"val_top1": scores.top1, "val_mean_class_accuracy": scores.mean_class_accuracy}

    def _save(self) -> None:
        epoch = len(self.history) - 1
        checkpoint = Checkpoint(
            config=self.config,
            classes=list(self.videos.classes),
            frames=os.path.relpath(self.videos.frames.path.resolve(), self.out_dir.resolve()),
            frames_sha256=self.videos.frames.sha256,
            epoch=epoch + 1,
            model=self.recognizer.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scheduler=self.scheduler.state_dict(),
            scaler=self.scaler.state_dict(),
            history=self.history,
        )
        if self.best_epoch == epoch:
            save_checkpoint(self.out_dir / BEST, checkpoint)
        write_history(self.out_dir / METRICS, self.history)
        save_checkpoint(self.out_dir / LAST, checkpoint)  # last: a resumed run starts from here

    def _time_left(self, epoch: int) -> str:
        """Return how long the training will still take, as long as the epoch before; empty in the first."""
        if self._epoch_seconds is None:
            return ""
        return f" ({in_words(self._epoch_seconds * (self.config.epochs - epoch))} left in all)"

    def _report(self, row: dict[str, float]) -> None:
        val = f", val top-1 {row['val_top1']:.1%}" if "val_top1" in row else ""
        self.reporter.info(
            f"epoch {row['epoch']:.0f}/{self.config.epochs}: loss {row['train_loss']:.4f}, "
            f"train top-1 {row['train_top1']:.1%}{val}, {row['frames_per_second']:.0f} frames/s"
        )


def _add_scalars(board: SummaryWriter, row: dict[str, float]) -> None:
    for name in COLUMNS[1:]:
        if name in row:
            board.add_scalar(name, row[name], int(row["epoch"]))
    board.flush()
