"""The training loop: ragged batches in, checkpoints and a row of metrics an epoch out."""

import csv
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter

from fvar.config import TrainConfig
from fvar.errors import StoppedError
from fvar.loading.dataset import FrameBatch, StoredVideo, VideoDataset, View, load_batches
from fvar.loading.sampling import draw_key, epoch_batches, share_of_rank
from fvar.model.interface import Sweep
from fvar.model.recognizer import Recognizer
from fvar.reporting import Progress, Reporter
from fvar.store.files import atomic_open
from fvar.training.checkpoint import BEST, LAST, Checkpoint, save_checkpoint
from fvar.training.distributed import Team, autocast, autocast_dtype
from fvar.training.inputs import training_view
from fvar.training.memory_check import refuse_what_cannot_fit
from fvar.training.metrics import score
from fvar.training.optim import build_optimizer, build_scheduler
from fvar.training.predict import predict

METRICS, TENSORBOARD = "metrics.csv", "tensorboard"
COLUMNS = (
    "epoch",
    "lr",
    "train_loss",
    "train_top1",
    "val_top1",
    "val_mean_class_accuracy",
    "frames",
    "frames_per_second",
    "seconds",
)


@dataclass(frozen=True)
class TrainingSet:
    """The videos of a training: where their frames are, those to learn from and those to choose by."""

    folder: Path
    frames_sha256: str
    train: Sequence[StoredVideo]
    val: Sequence[StoredVideo]
    classes: Sequence[str]
    thinning: str | None = None  # which frames extraction kept; None: all


class Trainer:
    """Trains a recogniser, an epoch at a time; what it was after each epoch is on disk."""

    def __init__(
        self,
        recognizer: Recognizer,
        videos: TrainingSet,
        config: TrainConfig,
        *,
        sweep: Sweep,
        team: Team,
        out_dir: Path,
        reporter: Reporter,
    ) -> None:
        self.recognizer, self.videos, self.config = recognizer, videos, config
        self.sweep = sweep
        self.team, self.out_dir, self.reporter = team, out_dir, reporter
        self.history: list[dict[str, float]] = []
        self.num_frames = [self._frames_seen(video.num_frames) for video in videos.train]
        steps = [len(self._batches(epoch)) for epoch in range(config.epochs)]
        self.optimizer = build_optimizer(
            recognizer, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.scheduler = build_scheduler(
            self.optimizer, schedule=config.schedule, milestones=config.milestones, steps=steps
        )
        self.scaler = torch.amp.GradScaler(
            team.device.type,
            enabled=autocast_dtype(config.precision, team.device) == torch.float16,
        )
        self.parallel = team.wrap(recognizer)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same training."""
        self.recognizer.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        self.scheduler.load_state_dict(dict(checkpoint.scheduler))
        self.scaler.load_state_dict(dict(checkpoint.scaler))
        self.history = list(checkpoint.history)

    def refuse_what_cannot_fit(self) -> None:
        """Refuse batches whose activations the plain engine could not keep.

        Raises:
            ConfigError: The largest needs more memory than the device has.
        """
        shares = (
            share_of_rank(batch, self.num_frames, rank=rank, world_size=self.team.world_size)
            for epoch in range(self.config.epochs)
            for batch in self._batches(epoch)
            for rank in range(self.team.world_size)
        )
        with autocast(self.config.precision, self.team.device):
            refuse_what_cannot_fit(
                self.recognizer,
                self.sweep,
                size=self.config.size,
                num_frames=max(sum(self.num_frames[video] for video in share) for share in shares),
                device=self.team.device,
            )

    def fit(self) -> None:
        """Train the epochs that are left.

        Raises:
            StoppedError: The loss is not finite; the last whole epoch is kept.
        """
        with ExitStack() as stack:
            board: SummaryWriter | None = None
            if self.team.is_main:
                board = SummaryWriter(self.out_dir / TENSORBOARD, purge_step=len(self.history))
                stack.callback(board.close)
            for epoch in range(len(self.history), self.config.epochs):
                self.history.append(self._epoch(epoch))
                self.team.on_main(self._save)
                if board:
                    _add_scalars(board, self.history[-1])

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the highest accuracy on `val`; None without a `val` split."""
        if not self.videos.val or not self.history:
            return None
        return max(
            range(len(self.history)), key=lambda epoch: (self.history[epoch]["val_top1"], -epoch)
        )

    def _epoch(self, epoch: int) -> dict[str, float]:
        started = time.perf_counter()
        # One seed an epoch and process: an epoch draws the same dropout whether or not the run was resumed.
        torch.manual_seed(draw_key(self.config.seed, epoch, self.team.rank, "dropout"))
        self.recognizer.train()
        totals = torch.zeros(4, dtype=torch.float64)  # loss, correct, videos, frames
        lr = self.optimizer.param_groups[0]["lr"]
        with self.reporter.progress(
            f"epoch {epoch + 1}/{self.config.epochs}", total=len(self.videos.train), unit="videos"
        ) as progress:
            for batch, size in self._load(epoch):
                totals += self._step(batch, size, epoch=epoch, progress=progress)
        loss, correct, num_videos, frames = self.team.sum(totals.to(self.team.device)).tolist()
        row = {
            "epoch": float(epoch),
            "lr": lr,
            "train_loss": loss / num_videos,
            "train_top1": correct / num_videos,
        }
        seconds = time.perf_counter() - started
        row |= self._validate()
        row |= {"frames": frames, "frames_per_second": frames / seconds, "seconds": seconds}
        self._say(row)
        return row

    def _sweep_of(self, epoch: int) -> Sweep:
        """Return the sweep over sampled frames in the first `sampled_epochs`, over clusters afterwards."""
        if epoch < self.config.sampled_epochs:
            return replace(self.sweep, engine="plain", clustering=None)
        return self.sweep

    def _load(self, epoch: int) -> Iterator[tuple[FrameBatch | None, int]]:
        """Yield this process's part of each batch (None: nothing) and the videos in the whole batch."""
        batches = self._batches(epoch)
        mine = [
            share_of_rank(
                batch, self.num_frames, rank=self.team.rank, world_size=self.team.world_size
            )
            for batch in batches
        ]
        dataset = VideoDataset(self.videos.folder, self.videos.train, self._view(epoch))
        keys = [[(epoch, video) for video in share] for share in mine if share]
        loaded = load_batches(dataset, keys, workers=self.config.workers)
        for batch, share in zip(batches, mine, strict=True):
            yield (next(loaded) if share else None), len(batch)

    def _step(
        self, batch: FrameBatch | None, size: int, *, epoch: int, progress: Progress
    ) -> Tensor:
        """Take one optimisation step; return this process's loss, correct, videos and frames."""
        clips = batch.clips(self._view(epoch), device=self.team.device) if batch else []
        labels = (batch.labels if batch else torch.zeros(0, dtype=torch.int64)).to(self.team.device)
        with autocast(self.config.precision, self.team.device):
            logits = self.parallel(clips, self._sweep_of(epoch))
        loss = functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.config.label_smoothing, reduction="sum"
        )
        # DistributedDataParallel averages over processes; the loss is the mean over the batch of all of them.
        torch.autograd.backward(self.scaler.scale(loss * self.team.world_size / size))
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(
            self.recognizer.parameters(), self.config.clip_grad_norm
        )
        self._refuse_nan(loss, norm, batch, epoch=epoch)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self.optimizer.zero_grad()
        progress.advance(size, note=f"loss {loss.item() / max(len(clips), 1):.3f}")
        correct = (logits.argmax(1) == labels).sum().item()
        frames = sum(batch.lengths) if batch else 0
        return torch.tensor([loss.item(), correct, len(clips), frames], dtype=torch.float64)

    def _refuse_nan(
        self, loss: Tensor, norm: Tensor, batch: FrameBatch | None, *, epoch: int
    ) -> None:
        bad_norm = not self.scaler.is_enabled() and not torch.isfinite(
            norm
        )  # a scaler skips the step
        lost = batch is not None and not torch.isfinite(loss)
        if self.team.sum(torch.tensor(float(bad_norm or lost), device=self.team.device)).item():
            problem = f"the norm of the gradient is {norm.item()}"
            if batch and lost:
                problem = f"the loss is {loss.item()} on videos {', '.join(batch.ids)}"
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
                self.sweep,
                self.videos.folder,
                self.videos.val,
                config=self.config,
                team=self.team,
                workers=self.config.workers,
                progress=progress,
            )
        scores = score(predictions, num_classes=len(self.videos.classes))
        return {"val_top1": scores.top1, "val_mean_class_accuracy": scores.mean_class_accuracy}

    def _save(self) -> None:
        epoch = len(self.history) - 1
        checkpoint = Checkpoint(
            config=self.config,
            classes=list(self.videos.classes),
            frames_sha256=self.videos.frames_sha256,
            epoch=epoch + 1,
            model=self.recognizer.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scheduler=self.scheduler.state_dict(),
            scaler=self.scaler.state_dict(),
            history=self.history,
        )
        if self.best_epoch == epoch:
            save_checkpoint(self.out_dir / BEST, checkpoint)
        write_metrics(self.out_dir / METRICS, self.history)
        save_checkpoint(self.out_dir / LAST, checkpoint)  # last: a resumed run starts from here

    def _say(self, row: dict[str, float]) -> None:
        val = f", val top-1 {row['val_top1']:.1%}" if "val_top1" in row else ""
        self.reporter.info(
            f"epoch {row['epoch'] + 1:.0f}/{self.config.epochs}: loss {row['train_loss']:.4f}, "
            f"train top-1 {row['train_top1']:.1%}{val}, {row['frames_per_second']:.0f} frames/s"
        )

    def _view(self, epoch: int) -> View:
        sampled = self.config.clustering == "uniform" or epoch < self.config.sampled_epochs
        return training_view(self.config, sampled=sampled)

    def _frames_seen(self, num_frames: int) -> int:
        return self.config.clusters if self.config.clustering == "uniform" else num_frames

    def _batches(self, epoch: int) -> list[list[int]]:
        return epoch_batches(
            self.num_frames,
            batch_size=self.config.batch_size,
            frames_per_batch=self.config.frames_per_batch,
            seed=self.config.seed,
            epoch=epoch,
        )


def _add_scalars(board: SummaryWriter, row: dict[str, float]) -> None:
    for name in COLUMNS[1:]:
        if name in row:
            board.add_scalar(name, row[name], int(row["epoch"]))
    board.flush()


def write_metrics(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write a row an epoch; what was not measured is empty."""
    with atomic_open(path, newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in history:
            writer.writerow(
                {name: f"{value:.9g}" for name, value in row.items() if math.isfinite(value)}
            )
