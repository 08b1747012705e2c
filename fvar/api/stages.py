"""The stages with plain keyword arguments. They print nothing unless they are given a reporter."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from fvar.config import EvalConfig, ExtractConfig, FeaturesConfig, InspectConfig
from fvar.fields import DeviceName
from fvar.inference.model import Model, load_model
from fvar.recipes.resolve import train_config
from fvar.reporting import Reporter, SilentReporter
from fvar.settings import Settings, parse
from fvar.stages import evaluate as evaluate_stage
from fvar.stages import extract as extract_stage
from fvar.stages import features as features_stage
from fvar.stages import inspect_clusters as inspect_stage
from fvar.stages import train as train_stage
from fvar.store.files import beside, frames_folder, inside
from fvar.store.manifest import ClustersSummary, EvalSummary, FramesSummary, TrainSummary

_PathLike = str | Path
_Summary = TypeVar("_Summary", bound=Settings)
_SOURCE = "keyword arguments"


@dataclass(frozen=True)
class Result(Generic[_Summary]):
    """What a stage wrote.

    Attributes:
        folder: Of the outputs and the manifest.
        summary: Its figures, as in the manifest.
    """

    folder: Path
    summary: _Summary


def load(run: _PathLike, *, checkpoint: str | None = None, device: DeviceName = "auto") -> Model:
    """Return a trained model that predicts video files and arrays.

    Args:
        run: Folder that `fvar train` wrote.
        checkpoint: best, last or a file; None takes best where there is one, else last.
        device: Where the network runs.

    Raises:
        ManifestError: A file is missing or changed.
    """
    return load_model(Path(run), checkpoint=checkpoint, device=device)


def extract(
    source: _PathLike,
    *,
    videos: _PathLike,
    out: _PathLike | None = None,
    overwrite: bool = False,
    update: bool = False,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Result[FramesSummary]:
    """Store every frame of the videos of a source CSV, as ``fvar extract`` does.

    Args:
        source: The CSV.
        videos: Folder that its paths start from.
        out: Output folder; None takes the command's default.
        overwrite: Replace a complete extraction.
        update: Add and redo what changed.
        reporter: Receives messages and progress; None drops them.
        settings: Any of `fvar.config.ExtractConfig`.

    Raises:
        FvarError: As the command prints it.
    """
    config = parse(ExtractConfig, {"videos": videos, **settings}, source=_SOURCE)
    folder = frames_folder(Path(source)) if out is None else Path(out)
    manifest = extract_stage.extract(
        Path(source), folder, config, _quiet(reporter), overwrite=overwrite, update=update
    )
    return Result(folder, manifest.summary)


def train(
    frames: _PathLike,
    *,
    out: _PathLike | None = None,
    recipe: str | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Result[TrainSummary]:
    """Train on every frame of an extraction, as ``fvar train`` does.

    Args:
        frames: Folder that `fvar extract` wrote.
        out: Output folder; None takes the command's default.
        recipe: Name of bundled settings.
        overwrite: Replace a complete training.
        reporter: Receives messages and progress; None drops them.
        settings: Any of `fvar.config.TrainConfig`; they override the recipe.

    Raises:
        FvarError: As the command prints it.
    """
    config = train_config(settings, recipe=recipe)
    folder = beside(Path(frames), "train") if out is None else Path(out)
    manifest = train_stage.train(
        Path(frames), folder, config, _quiet(reporter), overwrite=overwrite
    )
    return Result(folder, manifest.summary)


def resume(
    run: _PathLike, *, frames: _PathLike | None = None, reporter: Reporter | None = None
) -> Result[TrainSummary]:
    """Go on with an unfinished training, as ``fvar train --resume`` does.

    Args:
        run: Its folder.
        frames: Where its frames are now; None: where they were.
        reporter: Receives messages and progress; None drops them.

    Raises:
        FvarError: As the command prints it.
    """
    moved = None if frames is None else Path(frames)
    manifest = train_stage.resume_training(Path(run), {}, _quiet(reporter), frames=moved)
    return Result(Path(run), manifest.summary)


def evaluate(
    run: _PathLike,
    *,
    out: _PathLike | None = None,
    frames: _PathLike | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Result[EvalSummary]:
    """Evaluate a training on a split, as ``fvar eval`` does.

    Args:
        run: Folder that `fvar train` wrote.
        out: Output folder; None takes the command's default.
        frames: Another extraction; None takes the one trained on.
        overwrite: Replace a complete evaluation.
        reporter: Receives messages and progress; None drops them.
        settings: Any of `fvar.config.EvalConfig`.

    Raises:
        FvarError: As the command prints it.
    """
    config = parse(EvalConfig, settings, source=_SOURCE)
    folder = inside(Path(run), f"eval-{config.split}") if out is None else Path(out)
    manifest = evaluate_stage.evaluate(
        *(Path(run), folder, config, _quiet(reporter)),
        frames=None if frames is None else Path(frames),
        overwrite=overwrite,
    )
    return Result(folder, manifest.summary)


def inspect_clusters(
    run: _PathLike,
    *others: _PathLike,
    out: _PathLike | None = None,
    frames: _PathLike | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Result[ClustersSummary]:
    """Write tables, pictures and a page of a training's clusters, as ``fvar inspect-clusters`` does.

    The arguments are those of `evaluate`; `others` are trainings to show beside, `settings` are any of
    `fvar.config.InspectConfig`.

    Raises:
        FvarError: As the command prints it.
    """
    config = parse(InspectConfig, settings, source=_SOURCE)
    folder = inside(Path(run), f"clusters-{config.split}") if out is None else Path(out)
    manifest = inspect_stage.inspect_clusters(
        *([Path(run), *map(Path, others)], folder, config, _quiet(reporter)),
        frames=None if frames is None else Path(frames),
        overwrite=overwrite,
    )
    return Result(folder, manifest.summary)


def _quiet(reporter: Reporter | None) -> Reporter:
    return SilentReporter() if reporter is None else reporter


def features(
    run: _PathLike,
    videos: _PathLike | Iterable[_PathLike],
    *,
    out: _PathLike,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Path:
    """Write the features of videos to an HDF5 file and return its path, as ``fvar features`` does.

    Args:
        run: Folder that `fvar train` wrote.
        videos: A file, a folder or a CSV, or several of them.
        out: The file.
        overwrite: Replace it.
        reporter: Receives messages and progress; None drops them.
        settings: Any of `fvar.config.FeaturesConfig`.

    Raises:
        FvarError: As the command prints it.
    """
    config = parse(FeaturesConfig, settings, source=_SOURCE)
    given = [videos] if isinstance(videos, str | Path) else videos
    paths = [Path(path) for path in given]
    features_stage.features(
        *(Path(run), paths, Path(out), config, _quiet(reporter)), overwrite=overwrite
    )
    return Path(out)
