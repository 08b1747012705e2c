"""How the videos of a split are looked at: which frames, which part of the picture, what is random."""

from dataclasses import dataclass, replace

from fvar.config import TrainConfig
from fvar.loading.sampling import draw_key, uniform_frames
from fvar.loading.transforms import Framing, center_framing, multi_scale_framing
from fvar.model.build import freezes_stem
from fvar.model.clusterings import load_clustering
from fvar.names import clustering_names

_VIEWS = 4  # the smallest number that was as accurate as a new crop in every epoch (docs/cost.md)


@dataclass(frozen=True)
class View:
    """How the videos of a split are looked at.

    Attributes:
        size: Side of the square that the network sees, px.
        crop: ``center`` or ``multi-scale``, which draws one.
        crop_fraction: Side of the central crop as a fraction of the short side.
        flip: Mirror every other video, at random.
        num_samples: Number of frames sampled per video (`uniform`); None uses every frame.
        random: Draw the sampled frames (training) rather than take the middle ones (testing).
        num_views: V, how many distinct crops and flips a video has, the same for every seed; 0 draws them in
            each epoch.
        seed: Of everything drawn.
    """

    size: int
    crop: str
    crop_fraction: float
    flip: bool
    num_samples: int | None
    random: bool
    num_views: int
    seed: int

    def count_frames(self, num_frames: int) -> int:
        """Return how many frames of a video with `num_frames` the network gets."""
        return self.num_samples or num_frames

    def sampled_frames(self, num_frames: int, *, epoch: int, video_id: str) -> list[int] | None:
        """Return the frames of a video that are sampled in an epoch; None where every frame is used."""
        if self.num_samples is None:
            return None
        key = draw_key(self.seed, epoch, video_id, "frames") if self.random else None
        return uniform_frames(num_frames, self.num_samples, key=key)

    def framing(self, height: int, width: int, *, epoch: int, video_id: str) -> Framing:
        """Return the one crop and flip of a video in an epoch."""
        drawn: tuple[object, ...] = (self.seed, epoch)
        flip = draw_key(*drawn, video_id, "flip")
        if self.num_views:
            view = draw_key(*drawn, video_id, "view") % self.num_views
            # The same for every seed; every other view is mirrored.
            drawn, flip = ("view", view), view + draw_key(video_id, "flip")
        if self.crop == "multi-scale":
            key = draw_key(*drawn, video_id, "crop")
            framing = multi_scale_framing(height, width, key=key)
        else:
            framing = center_framing(height, width, fraction=self.crop_fraction)
        return replace(framing, mirrored=self.flip and flip % 2 == 1)

    @property
    def repeats(self) -> bool:
        """Whether a video is seen in few framings, each of them again and again, with every frame."""
        return self.num_samples is None and (self.crop == "center" or self.num_views > 0)


def evaluation_view(config: TrainConfig) -> View:
    """Return the view of validation and evaluation: central crops of all frames (`uniform`: of K frames)."""
    return View(
        size=config.size,
        crop="center",
        crop_fraction=config.crop_share,
        flip=False,
        num_samples=config.clusters if config.clustering == "uniform" else None,
        random=False,
        num_views=0,
        seed=config.seed,
    )


def training_view(config: TrainConfig, *, epoch: int) -> View:
    """Return the view of a training epoch: random crops and flips, in `sampled_epochs` of K random frames."""
    view = replace(
        evaluation_view(config),
        crop=config.crop,
        flip=config.flip,
        random=True,
        num_views=_num_views(config),
    )
    return replace(view, num_samples=config.clusters) if epoch < config.sampled_epochs else view


def _num_views(config: TrainConfig) -> int:
    """Return V: as `config` sets it, else a small number where representations can then be kept."""
    if config.crop == "center":
        return 0  # the mirror images are the only views
    if config.views is not None:
        return config.views
    clusters = config.clustering in clustering_names()
    keeps = freezes_stem(config) and clusters and not load_clustering(config.clustering).IS_RANDOM
    return _VIEWS if keeps else 0
