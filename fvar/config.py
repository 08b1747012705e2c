"""The settings of every stage: what a flag, a recipe or a file may say, and what holds otherwise."""

import ast
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fvar.errors import ConfigError, FvarError


def _files_in(folder: str, suffix: str) -> dict[str, str]:
    """Return the files of a folder of this package: their text by their name without `suffix`, sorted."""
    found = {entry.name: entry for entry in (files("fvar") / folder).iterdir()}
    return {
        name.removesuffix(suffix): found[name].read_text(encoding="utf-8")
        for name in sorted(found)
        if name.endswith(suffix) and not name.startswith("_")
    }


def clustering_names() -> list[str]:
    """Return the names of the clusterings, which are the files in ``model/clusterings``."""
    return list(_files_in("model/clusterings", ".py"))


def backbone_names() -> list[str]:
    """Return what the files in ``model/networks`` list in ``NAMES``, read without running them: no torch."""
    return [
        name
        for text in _files_in("model/networks", ".py").values()
        for line in ast.parse(text).body
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "NAMES"
        for name in ast.literal_eval(line.value)
    ]


if TYPE_CHECKING:
    BackboneName = str
    ClusteringName = str
else:
    BackboneName = Literal[tuple(backbone_names())]
    # Two names make no clusters: `uniform` samples frames, `none` takes them all.
    ClusteringName = Literal[(*clustering_names(), "uniform", "none")]
EngineName = Literal["auto", "plain", "chunked"]
DeviceName = Literal["auto", "cpu", "cuda"]
NormName = Literal["auto", "frozen", "partial", "stem-frozen", "train"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
Split = Literal["train", "val", "test"]

_MAX_CONFIG_BYTES = 1 << 20  # all the settings there are take 2 KB

_Model = TypeVar("_Model", bound=BaseModel)


class Settings(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )


class ExtractConfig(Settings):
    """Settings of ``fvar extract``."""

    videos: str = Field(description="folder that the `video` column is relative to")
    short_side: int = Field(
        256, ge=16, le=4320, description="shorter side of the stored pictures, px"
    )
    quality: int = Field(2, ge=1, le=31, description="ffmpeg's JPEG scale: 1 best, 31 smallest")
    fps: float | None = Field(
        None, gt=0, description="keep the frames shown at this many ticks a second; None: all"
    )
    stride: int | None = Field(None, ge=1, description="keep every stride-th frame; None: all")
    videos_per_shard: int = Field(32, ge=1)
    workers: int = Field(
        2, ge=1, description="videos decoded at the same time; with `dask`, by each task"
    )
    max_gb: float | None = Field(None, gt=0, description="stop before the store outgrows this")
    reserve_gb: float = Field(1.0, ge=0, description="left free on the disk written to")
    time_limit_seconds: float = Field(
        300.0, gt=0, description="without a new picture, after which a video is given up"
    )
    dask: str | None = Field(None, description="address of a Dask scheduler; None: on this machine")
    ffmpeg: str | None = Field(None, description="another ffmpeg than the bundled one")

    @model_validator(mode="after")
    def _fps_or_stride(self) -> Self:
        if self.fps is not None and self.stride is not None:
            raise ValueError("`fps` and `stride` exclude each other: set one of them")
        return self

    @property
    def thinning(self) -> str | None:
        """Which frames were kept, as every later stage says it; None: all."""
        if self.stride is not None and self.stride > 1:
            return f"every {_ordinal(self.stride)} frame"
        return None if self.fps is None else f"those shown at {self.fps:g} ticks a second"


def _ordinal(number: int) -> str:
    last = number % 10 if number // 10 % 10 != 1 else 0
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(last, 'th') }"


class TrainConfig(Settings):
    """Settings of ``fvar train``; the defaults are a recipe for fine-tuning on a few hundred clips."""

    backbone: BackboneName = "resnet50"
    weights: str = Field("imagenet", description="imagenet, none, or the path of a state dict")
    clustering: ClusteringName = "cumulative"
    clusters: int = Field(8, ge=1, description="representations a video is averaged down to")
    stage: int = Field(1, ge=1, le=4, description="residual stage after which frames are clustered")
    size: int = Field(224, ge=16, le=2048, description="side of the square the network sees, px")

    epochs: int = Field(25, ge=1)
    sampled_epochs: int = Field(
        0, ge=0, description="first epochs on `uniform` frames, before clustering"
    )
    batch_size: int = Field(
        8, ge=1, description="videos in one optimisation step, over all processes"
    )
    frames_per_batch: int = Field(
        16384, ge=1, description="frames in one optimisation step; a longer video steps alone"
    )
    lr: float = Field(0.002, gt=0, description="at this batch size; never rescaled")
    schedule: Literal["one-cycle", "step"] = "one-cycle"
    milestones: tuple[int, ...] = Field((), description="`step`: epochs after which lr falls by 10")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    # TSM's 20 suits batches of 64: with 83 clips in batches of 8, two of eight trainings came apart at it and
    # the one at twice the rate, none of eight at 5, one of them at twice the rate (MobileNetV2, 112 px)
    clip_grad_norm: float = Field(5.0, gt=0)
    dropout: float = Field(0.5, ge=0, lt=1)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    flip: bool = Field(True, description="mirror half of the training videos")
    crop: Literal["center", "multi-scale"] = Field("center", description="training crops")
    crop_share: float = Field(
        0.875, gt=0, le=1, description="side of the central crop, as a share of the short side"
    )
    norm: NormName = Field(
        "auto",
        description="batch norms that keep their statistics: all, all but the first, the stem's, none",
    )
    freeze_stem: bool | None = Field(
        None, description="keep the layers before the clustering; None: where they are pretrained"
    )

    engine: EngineName = "auto"
    chunk_frames: int | None = Field(
        None, ge=1, description="frames the stem sees at once; None: 8 on a CPU, 64 on a GPU"
    )
    keep_mb: int = Field(
        1024, ge=0, description="stem outputs and tapes kept between sweeps, per step"
    )
    backward_share: float = Field(
        1.0, gt=0, le=1, description="frames of each cluster that the backward pass visits"
    )
    device: DeviceName = "auto"
    precision: PrecisionName = "auto"
    workers: int = Field(2, ge=0, description="threads that read ahead; 0 reads when asked")
    seed: int = Field(0, ge=0, lt=2**63)
    allow_partial: bool = Field(False, description="train on videos known to be incomplete")

    @model_validator(mode="after")
    def _milestones_match_schedule(self) -> Self:
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError("`milestones` belongs to schedule `step`, which needs at least one")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("`milestones` must rise")
        return self


class EvalConfig(Settings):
    """Settings of ``fvar eval``."""

    split: Split = "test"
    checkpoint: str | None = Field(
        None, description="best, last or a file; None: best where there is one"
    )
    device: DeviceName = "auto"
    workers: int = Field(2, ge=0)
    allow_partial: bool = False


class InspectConfig(Settings):
    """Settings of ``fvar inspect-clusters``."""

    split: Split = "test"
    checkpoint: str | None = None
    limit: int | None = Field(50, ge=1, description="videos, evenly over the split; None: all")
    device: DeviceName = "auto"
    workers: int = Field(2, ge=0)
    allow_partial: bool = False


class VerifyConfig(Settings):
    """Settings of ``fvar verify``."""

    workers: int = Field(2, ge=1, description="processes that read and decode; 1: this one alone")


class ToyConfig(Settings):
    """Settings of ``fvar toy``."""

    layout: Literal["scattered", "burst"] = "scattered"
    clips_per_class: int = Field(
        450, ge=1, le=100_000, description="training clips of each class; a third as many to test"
    )
    frames: int = Field(32, ge=2, le=10_000, description="frames of a clip")
    size: int = Field(
        64, ge=32, le=512, multiple_of=2, description="side of the square picture, px"
    )
    informative: int = Field(10, ge=2, description="frames that show a digit")
    step_px: float = Field(
        2.0, gt=0, description="how far the digit moves between two informative frames"
    )
    seed: int = Field(0, ge=0, lt=2**63)
    digits: str | None = Field(
        None, description="folder of MNIST idx files; None: the bundled digits"
    )

    @model_validator(mode="after")
    def _informative_fits(self) -> Self:
        if self.informative > self.frames:
            raise ValueError(f"`informative` must not exceed `frames` ({self.frames})")
        return self


def parse(
    model: type[_Model], data: object, *, source: object, error: type[FvarError] = ConfigError
) -> _Model:
    """Validate `data` as `model`.

    Args:
        model: The record wanted.
        data: What was read or typed, usually a dict.
        source: Where it came from, for the message.
        error: The class to raise.

    Raises:
        FvarError: As `error`, on the first thing that is wrong: an unknown key lists the known ones.
    """
    try:
        return model.model_validate(data)
    except ValidationError as failure:
        raise _explain(model, failure, source=source, error=error) from None


def _explain(
    model: type[BaseModel], failure: ValidationError, *, source: object, error: type[FvarError]
) -> FvarError:
    first = failure.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    thing = f"{source}: {where}" if where else str(source)
    if first["type"] == "extra_forbidden":
        known = ", ".join(
            field.alias or name for name, field in _innermost(model, first["loc"]).items()
        )
        return error(thing, "is not a known key", fix=f"remove it or use one of: {known}")
    shown = "" if first["type"] == "missing" or not where else f"{_brief(first['input'])}: "
    return error(thing, f"{shown}{first['msg'].removeprefix('Value error, ')}", fix="correct it")


def _brief(value: object) -> str:
    try:
        return repr(value)[:80]
    except (ValueError, RecursionError):  # a number of 5,000 digits, a list in a list in a list ...
        return f"a {type(value).__name__} too large to show"


def _innermost(model: type[BaseModel], location: tuple[int | str, ...]) -> dict[str, Any]:
    """Return the fields of the record that the last part of `location` is a key of."""
    current = model
    for part in location[:-1]:
        field = next((f for n, f in current.model_fields.items() if part in (n, f.alias)), None)
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        current = next(
            (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), current
        )
    return dict(current.model_fields)


def recipe_names() -> list[str]:
    """Return the names that ``--recipe`` takes, which are the files in ``recipes``."""
    return list(_files_in("recipes", ".toml"))


def load_recipe(name: str) -> dict[str, Any]:
    """Return the settings of a bundled recipe.

    Raises:
        ConfigError: There is no recipe of that name.
    """
    recipes = _files_in("recipes", ".toml")
    if name not in recipes:
        raise ConfigError(
            f"--recipe {name}", "is not a recipe", fix=f"choose one of: {', '.join(recipes)}"
        )
    return tomllib.loads(recipes[name])


def load_config_file(path: Path) -> dict[str, Any]:
    """Return the settings of a TOML file.

    Raises:
        ConfigError: The file cannot be read, is too large or is not TOML.
    """
    try:
        return tomllib.loads(_read_small(path).decode("utf-8"))
    # ValueError: not only what tomllib raises, a number of 5,000 digits too
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            path, f"is not a readable TOML file ({error})", fix="correct the file"
        ) from error


def _read_small(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # reading a pipe or a device may never end
        raise ValueError("not a file")
    with path.open("rb") as file:
        data = file.read(_MAX_CONFIG_BYTES + 1)
    if len(data) > _MAX_CONFIG_BYTES:
        raise ValueError(f"more than {_MAX_CONFIG_BYTES} bytes")
    return data


def train_config(
    flags: dict[str, Any], *, recipe: str | None = None, config_file: Path | None = None
) -> TrainConfig:
    """Resolve the settings of a training: defaults, then the recipe, then the file, then the flags.

    Raises:
        ConfigError: A key is unknown or a value breaks its rule; the message names where it was said.
    """
    settings: dict[str, Any] = {}
    layers = [
        (f"recipe {recipe}", load_recipe(recipe) if recipe is not None else {}),
        (str(config_file), load_config_file(config_file) if config_file else {}),
        ("command line", flags),
    ]
    for source, layer in layers:
        settings |= layer
        if layer.get("schedule") == "one-cycle" and "milestones" not in layer:
            settings.pop("milestones", None)
        config = parse(TrainConfig, settings, source=source)
    return config
