"""How a training's settings look at videos, in training and in testing; and which videos they are."""

from collections.abc import Sequence

from fvar.config import TrainConfig
from fvar.errors import ManifestError
from fvar.loading.dataset import StoredVideo, View
from fvar.reporting import Reporter
from fvar.store.manifest import FramesManifest, VideoEntry


def training_view(config: TrainConfig, *, sampled: bool) -> View:
    """Return random crops, flips and, where `sampled`, one random frame from each of K segments."""
    return _view(config, random=True, samples=config.clusters if sampled else None)


def testing_view(config: TrainConfig) -> View:
    """Return the central crop of all frames, or for `uniform` the middle frame of each segment."""
    return _view(
        config, random=False, samples=config.clusters if config.clustering == "uniform" else None
    )


def _view(config: TrainConfig, *, random: bool, samples: int | None) -> View:
    return View(
        size=config.size,
        crop=config.crop,
        crop_share=config.crop_share,
        flip=config.flip,
        samples=samples,
        random=random,
        seed=config.seed,
    )


def report_thinning(thinning: str | None, reporter: Reporter) -> None:
    """Say that the frames are fewer than the videos have, where they are."""
    if thinning is not None:
        reporter.info(f"frames thinned at extraction, kept: {thinning}")


def select_videos(
    manifest: FramesManifest, split: str, *, allow_partial: bool, source: object
) -> list[VideoEntry]:
    """Return the videos of a split, in the source's order, every one of them with its frames.

    Raises:
        ManifestError: The split has no videos, or one that is failed, or partial without `allow_partial`.
    """
    chosen = [video for video in manifest.videos if video.split == split]
    if not chosen:
        found = sorted({video.split for video in manifest.videos})
        raise ManifestError(
            source,
            f"split {split!r} has no videos",
            fix=f"use one of {', '.join(found)}, or add rows to the CSV",
        )
    accepted = {"ok", "partial"} if allow_partial else {"ok"}
    refused = [video for video in chosen if video.status not in accepted or video.shard is None]
    if refused:
        first = refused[0]
        raise ManifestError(
            source,
            f"{len(refused)} of {len(chosen)} {split} videos are not complete, first {first.id!r} "
            f"({first.status}: {first.reason})",
            fix="mend or remove their rows and rerun fvar extract, or pass --allow-partial for partial ones",
        )
    return chosen


def stored_videos(
    videos: Sequence[VideoEntry], classes: Sequence[str], *, source: object
) -> list[StoredVideo]:
    """Return where the videos' frames are, with labels as positions in `classes`.

    Raises:
        ManifestError: A label is not among `classes`.
    """
    position = {name: index for index, name in enumerate(classes)}
    for video in videos:
        if video.label not in position:
            raise ManifestError(
                source,
                f"video {video.id!r} has label {video.label!r}, which the training did not have",
                fix=f"use labels among {', '.join(classes[:20])}",
            )
    return [
        StoredVideo(video.id, str(video.shard), position[video.label], video.num_frames)
        for video in videos
    ]
