"""The settings of every stage: types, limits, defaults and the description that ``--help`` shows."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fvar.fields import (
    TEXT,
    AllowPartial,
    CacheSettings,
    CheckpointSetting,
    DeviceSetting,
    Flag,
    OneOf,
    PrecisionName,
    Readers,
    Seed,
    SkipIncomplete,
    SplitSetting,
    StageSettings,
)
from fvar.names import backbone_names, clustering_names
from fvar.system import usable_processors


class FrameSettings(StageSettings):
    """How a video becomes frames: what a network was trained on, it must be given later."""

    short_side: int = Field(256, ge=16, le=4320)
    """Shorter side of the stored pictures, px."""
    quality: int = Field(2, ge=1, le=31)
    """JPEG quality of ffmpeg: 1 is the best, 31 the smallest."""
    fps: Annotated[float | None, Flag(default="every frame")] = Field(None, gt=0)
    """Keep only the frames shown at this many ticks per second."""
    stride: Annotated[int | None, Flag(default="every frame")] = Field(None, ge=1)
    """Keep only every STRIDE-th frame."""
    stretch: bool = False
    """Brighten gray pictures of 16 bits that use only the lower ones, all of a folder by one factor."""


class ExtractConfig(FrameSettings):
    """Settings of ``fvar extract``."""

    videos: Annotated[str, TEXT, Flag(is_path=True)]
    """Folder that the paths in the column `video` start from."""
    videos_per_shard: int = Field(32, ge=1)
    """Rows of the CSV in one shard file."""
    workers: Annotated[int, Flag(default="one per processor; with --dask, 1 per task")] = Field(
        default_factory=usable_processors, ge=1
    )
    """Videos decoded at the same time."""
    max_gb: Annotated[float | None, Flag(default="no limit")] = Field(None, gt=0)
    """Stop before the stored frames take more than this many GB."""
    reserve_gb: float = Field(1.0, ge=0)
    """Stop before the disk has less than this many GB free."""
    time_limit_seconds: Annotated[float, Flag(name="--time-limit")] = Field(300.0, gt=0)
    """Give up a video after this many seconds without a new picture."""
    keep_going: bool = False
    """Decode past damage. The video stays partial; its note says where frames are patched up or missing."""
    video_stream: Annotated[int | None, Flag(default="the one that a player shows")] = Field(
        None, ge=0
    )
    """Which video stream of files that hold several, from 0, without covers."""
    follow_links: bool = False
    """Allow links that lead out of the folder of the videos. A list from others could then name any file."""
    strict: bool = False
    """Make warnings errors: labels that look the same, one video in two splits or with two labels."""
    dask: Annotated[str | None, Flag(default="processes on this machine")] = None
    """Make the shards on the workers of the Dask scheduler tcp://HOST:PORT."""
    ffmpeg: Annotated[str | None, TEXT, Flag(default="the bundled one", is_path=True)] = None
    """The ffmpeg to use, 5.1 or later."""

    @model_validator(mode="before")
    @classmethod
    def _one_worker_per_dask_task(cls, data: Any) -> Any:
        on_dask = isinstance(data, dict) and data.get("dask") is not None
        return {"workers": 1, **data} if on_dask else data

    @model_validator(mode="after")
    def _fps_or_stride(self) -> Self:
        if self.fps is not None and self.stride is not None:
            raise ValueError("`fps` and `stride` exclude each other: set one of them")
        return self

    @property
    def frame_settings(self) -> FrameSettings:
        """The part that decides what the frames are."""
        return FrameSettings(**{name: getattr(self, name) for name in FrameSettings.model_fields})

    @property
    def thinning(self) -> str | None:
        """Which frames were kept, in words for the later stages; None when all were."""
        if self.stride is not None and self.stride > 1:
            return f"one frame in {self.stride}"
        return None if self.fps is None else f"those shown at {self.fps:g} ticks per second"


class TrainConfig(CacheSettings):
    """Settings of ``fvar train``; the defaults are a recipe for fine-tuning on a few hundred clips."""

    backbone: Annotated[str, OneOf(backbone_names())] = "resnet50"
    """Network."""
    weights: Annotated[str, TEXT] = "imagenet"
    """Starting weights: imagenet, none, or the file of a state dict."""
    clustering: Annotated[str, OneOf([*clustering_names(), "uniform", "none"])] = "windowed"
    """How frames are grouped. `uniform` samples frames instead; `none` keeps every frame."""
    clusters: int = Field(8, ge=1)
    """Number of clusters that a video is averaged to."""
    stage: int = Field(1, ge=1, le=4)
    """Residual stage after which frames are clustered."""
    size: int = Field(224, ge=16, le=2048)
    """Side of the square that the network sees, px."""

    epochs: int = Field(25, ge=1)
    """Passes over the training videos."""
    sampled_epochs: int = Field(0, ge=0)
    """First epochs that train on `uniform` frames, before any clustering."""
    batch_size: int = Field(8, ge=1)
    """Videos in one optimization step, over all processes."""
    frames_per_batch: int = Field(16384, ge=1)
    """Most frames in one optimization step; a longer video is a step of its own."""
    lr: float = Field(0.002, gt=0)
    """Learning rate at this batch size; it is never rescaled."""
    schedule: Literal["one-cycle", "step"] = "one-cycle"
    """How the learning rate changes over the epochs."""
    milestones: tuple[int, ...] = ()
    """Epochs after which schedule `step` divides the learning rate by 10."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: float = Field(5e-4, ge=0)
    """Weight decay of SGD."""
    # TSM's 20 suits batches of 64. With 83 clips in batches of 8 (MobileNetV2, 112 px), two of eight
    # trainings diverged at 20, and so did one at twice the rate. At 5 none of eight diverged, one of them
    # at twice the rate.
    clip_grad_norm: float = Field(5.0, gt=0)
    """Largest norm of the gradient."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Dropout before the classifier."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs the loss of a video by how rare its class is; the mean weight is 1."""
    sampling: Literal["each", "balanced"] = "each"
    """`each` video once in an epoch; `balanced` draws as many, all classes equally often."""
    best_by: Literal["top-1", "mean-class"] = "top-1"
    """Accuracy on the val split that chooses the best epoch."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Label smoothing of the loss."""
    flip: bool = True
    """Mirror half of the training videos."""
    crop: Literal["center", "multi-scale"] = "center"
    """Training crops."""
    views: Annotated[
        int | None, Flag(default="4 where representations can be kept, otherwise 0")
    ] = Field(None, ge=0)
    """Number of distinct crops of each video with crop `multi-scale`; 0 draws a new one in every epoch."""
    crop_share: float = Field(0.875, gt=0, le=1)
    """Side of the central crop, as a fraction of the short side."""
    norm: Literal["auto", "frozen", "partial", "stem-frozen", "train"] = "auto"
    """Batch norms that keep their statistics: frozen all, partial all but one, stem-frozen the stem's."""
    freeze_stem: Annotated[
        bool | None, Flag(name="--freeze-stem/--train-stem", default="freeze where pretrained")
    ] = None
    """Whether the stem, the layers before the clustering, keeps its weights."""

    engine: Literal["auto", "plain", "chunked"] = "auto"
    """`chunked` needs memory that does not grow with the video; a frozen stem always goes in chunks."""
    chunk_frames: Annotated[int | None, Flag(default="8 on a CPU, 64 on a GPU")] = Field(None, ge=1)
    """Frames that go through the stem at once."""
    keep_mb: int = Field(1024, ge=0)
    """Memory per step for activations kept between sweeps, MB."""
    backward_share: float = Field(1.0, gt=0, le=1)
    """Fraction of each cluster's frames in the backward sweep."""
    device: DeviceSetting = "auto"
    precision: PrecisionName = "auto"
    """Number format of the computation."""
    workers: Readers = 2
    seed: Seed = 0
    allow_partial: AllowPartial = False
    skip_incomplete: SkipIncomplete = False

    @model_validator(mode="after")
    def _milestones_match_schedule(self) -> Self:
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError("`milestones` belongs to schedule `step`, which needs at least one")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("`milestones` must rise")
        return self


class EvalConfig(CacheSettings):
    """Settings of ``fvar eval``."""

    split: SplitSetting = "test"
    checkpoint: CheckpointSetting = None
    device: DeviceSetting = "auto"
    workers: Readers = 2
    allow_partial: AllowPartial = False
    skip_incomplete: SkipIncomplete = False


class InspectConfig(CacheSettings):
    """Settings of ``fvar inspect-clusters``; a limit of None shows all videos."""

    split: SplitSetting = "test"
    checkpoint: CheckpointSetting = None
    limit: Annotated[int | None, Field(ge=0), AfterValidator(lambda limit: limit or None)] = 50
    """Number of videos to show, spread evenly over the split; 0 shows all."""
    frames_csv: bool = False
    """Write frames.csv too, a row for each frame."""
    segments: Annotated[str | None, TEXT, Flag(default="none", is_path=True)] = None
    """CSV of known segments (id, start_seconds, stop_seconds, name), to compare boundaries with."""
    tolerance: float = Field(0.5, ge=0)
    """How far a boundary may be from a known one to agree, s."""
    nearest: bool = False
    """Show the nearest training videos beside each mistake. This takes a pass over all training videos."""
    device: DeviceSetting = "auto"
    workers: Readers = 2
    allow_partial: AllowPartial = False
    skip_incomplete: SkipIncomplete = False


class FeaturesConfig(StageSettings):
    """Settings of ``fvar features``."""

    checkpoint: CheckpointSetting = None
    device: DeviceSetting = "auto"
    workers: Annotated[int, Flag(default="one per processor")] = Field(
        default_factory=usable_processors, ge=1
    )
    """Videos decoded at the same time."""
    allow_partial: AllowPartial = False


class PredictConfig(FeaturesConfig):
    """Settings of ``fvar predict``."""

    windows: Annotated[float | None, Flag(default="the whole video at once")] = Field(None, gt=0)
    """Slide a window of this many seconds over each video."""
    hop: Annotated[float | None, Flag(default="a quarter of --windows")] = Field(None, gt=0)
    """Seconds from one window to the next."""
    threshold: float = Field(0.5, ge=0, le=1)
    """Smallest probability of a segment that windows give."""

    @model_validator(mode="after")
    def _hop_belongs_to_windows(self) -> Self:
        if self.hop is not None and (self.windows is None or self.hop > self.windows):
            raise ValueError(
                "`hop` needs `windows` and must not exceed it: frames would be skipped"
            )
        return self


class ExportConfig(StageSettings):
    """Settings of ``fvar export``."""

    checkpoint: CheckpointSetting = None


class VerifyConfig(StageSettings):
    """Settings of ``fvar verify``."""

    workers: Annotated[int, Flag(default="one per processor")] = Field(
        default_factory=usable_processors, ge=1
    )
    """Processes that read and decode."""


class ToyConfig(StageSettings):
    """Settings of ``fvar toy``."""

    layout: Literal["scattered", "burst"] = "scattered"
    """scattered puts frames with a digit anywhere between others, burst puts them one after another."""
    clips_per_class: int = Field(450, ge=1, le=100_000)
    """Training clips of each of the 4 classes; there are a third as many test clips."""
    frames: int = Field(32, ge=2, le=10_000)
    """Frames of a clip."""
    size: int = Field(64, ge=32, le=512, multiple_of=2)
    """Side of the square picture, px."""
    informative: int = Field(10, ge=2)
    """Frames of a clip that show a digit."""
    step_px: float = Field(2.0, gt=0)
    """How far the digit moves from one such frame to the next, px."""
    noise: Annotated[float | None, Flag(default="2 with burst, none with scattered")] = Field(
        None, ge=0, le=64
    )
    """Standard deviation of the noise on every pixel, in gray levels of 255."""
    seed: Seed = 0
    digits: Annotated[str | None, TEXT, Flag(default="the bundled digits", is_path=True)] = None
    """Folder of MNIST idx files, plain or .gz."""

    @model_validator(mode="after")
    def _informative_fits(self) -> Self:
        if self.informative > self.frames:
            raise ValueError(f"`informative` must not exceed `frames` ({self.frames})")
        return self
