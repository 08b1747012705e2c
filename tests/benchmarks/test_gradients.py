"""The benchmark of gradients: its cosines are right, and it measures the recognizer's own gradient."""

import csv
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from engine_steps import make_sweep
from gradient_cosines import (
    ALL_FRAMES,
    METHODS,
    STAGES,
    Gradient,
    LabelledClip,
    Method,
    cosines,
    gradient,
    stage_of,
    without_shift,
)
from gradient_plot import draw_cosines
from gradient_statistics import BATCH, OTHER_CLASS, SAME_CLASS, Cosine, measure
from gradients import COLUMNS, cosine_table, spread_over_classes, write_cosines
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tensor_clips import random_clips, settled_backbone
from torch.nn import functional

from fvar.loading.dataset import StoredVideo
from fvar.model.recognizer import Recognizer
from fvar.names import clustering_names

NAMES = st.sampled_from(sorted(METHODS))


def _recognizer(name: str = "tiny", *, shift: bool = True) -> Recognizer:
    backbone = settled_backbone(name)
    built = Recognizer(
        backbone if shift else without_shift(backbone),
        num_classes=3,
        dropout=0.5,
        norm="train",
    ).double()
    generator = torch.Generator().manual_seed(2)
    weight = built.classifier.weight
    weight.data.copy_(torch.randn(weight.shape, generator=generator))
    return built.eval()


def _clip(num_frames: int, *, seed: int = 0, label: int = 1) -> LabelledClip:
    (clip,) = random_clips([num_frames], seed=seed)
    return LabelledClip(f"clip-{seed}", clip.frames, label, cut_key=seed)


def _still(num_frames: int) -> LabelledClip:
    clip = _clip(1)
    return replace(clip, frames=clip.frames.expand(num_frames, -1, -1, -1))


def _flat(found: Gradient) -> torch.Tensor:
    return torch.cat([found[stage] for stage in STAGES[:-1]])


@pytest.mark.slow
@settings(max_examples=12)
@given(NAMES, st.integers(1, 6), st.booleans())
def test_with_a_row_for_every_frame_every_method_is_the_reference(
    name: str, num_frames: int, shift: bool
) -> None:
    """With k = T each frame is a row, whatever the method: the gradient is that over all frames."""
    recognizer, clip = _recognizer(shift=shift), _clip(num_frames)
    through = gradient(recognizer, clip, METHODS[name], num_frames)
    reference = gradient(recognizer, clip, ALL_FRAMES, 1)
    torch.testing.assert_close(_flat(through), _flat(reference), rtol=1e-9, atol=1e-12)
    assert cosines(through, reference) == pytest.approx(dict.fromkeys(STAGES, 1.0))


@settings(max_examples=8)
@given(NAMES, st.integers(1, 4), st.integers(2, 8))
def test_without_shift_a_still_video_loses_nothing(name: str, k: int, num_frames: int) -> None:
    """Equal frames have equal patterns: the paper's argument then holds to rounding."""
    recognizer, clip = _recognizer(shift=False), _still(num_frames)
    through = gradient(recognizer, clip, METHODS[name], k)
    reference = gradient(recognizer, clip, ALL_FRAMES, 1)
    torch.testing.assert_close(_flat(through), _flat(reference), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shift", [True, False])
def test_averaging_moves_the_gradient_of_a_changing_video(shift: bool) -> None:
    """Where frames differ a mean of them gives another gradient: the measure is not always 1."""
    recognizer, clip = _recognizer(shift=shift), _clip(8)
    reference = gradient(recognizer, clip, ALL_FRAMES, 1)
    for method in METHODS.values():
        assert cosines(gradient(recognizer, clip, method, 2), reference)["all"] < 0.999


@pytest.mark.parametrize("clustering", [*clustering_names(), None])
def test_the_gradient_is_the_recognizers_own(clustering: str | None) -> None:
    """With equal weights each parameter's gradient is that of back-propagation through `Recognizer`."""
    recognizer, clip = _recognizer(), _clip(7, seed=3)
    sweep = make_sweep(clustering, 3, engine="plain")
    loss = functional.cross_entropy(recognizer([clip], sweep), torch.tensor([clip.label]))
    expected = torch.autograd.grad(loss, list(recognizer.parameters()))
    found = _flat(gradient(recognizer, clip, Method(clustering), 3))
    torch.testing.assert_close(found, torch.cat([part.flatten() for part in expected]))


def test_by_size_weighs_every_frame_equally() -> None:
    """Weighed by size, unequal clusters of equal frames give all frames' gradient; weighed equally not."""
    recognizer = _recognizer(shift=False)
    scenes = _clip(3, seed=5)
    clip = replace(scenes, frames=scenes.frames.repeat_interleave(torch.tensor([1, 2, 5]), dim=0))
    reference = _flat(gradient(recognizer, clip, ALL_FRAMES, 1))
    by_size = gradient(recognizer, clip, Method("slope", by_size=True), 3)
    torch.testing.assert_close(_flat(by_size), reference, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(_flat(gradient(recognizer, clip, METHODS["slope"], 3)), reference)


def test_uniform_is_all_frames_of_the_picked_ones() -> None:
    """`uniform` sees the middle frame of each segment and nothing else of the video."""
    recognizer, clip = _recognizer(), _clip(9)
    picked = replace(clip, frames=clip.frames[[1, 4, 7]])
    found = gradient(recognizer, clip, METHODS["uniform"], 3)
    assert torch.equal(_flat(found), _flat(gradient(recognizer, picked, ALL_FRAMES, 1)))


@given(st.integers(0, 100), st.floats(0.01, 100))
def test_a_cosine_is_symmetric_and_blind_to_length(seed: int, factor: float) -> None:
    """cos(a, b) = cos(b, a) = cos(factor * a, b), a gradient with itself gives 1, with its opposite -1."""
    generator = torch.Generator().manual_seed(seed)
    a, b = ({s: torch.randn(5, generator=generator) for s in STAGES[:-1]} for _ in range(2))
    found = cosines(a, b)
    assert found == pytest.approx(cosines(b, a))
    assert found == pytest.approx(cosines({s: v * factor for s, v in a.items()}, b), abs=1e-5)
    assert cosines(a, {s: -v for s, v in a.items()}) == pytest.approx(dict.fromkeys(STAGES, -1.0))
    whole = functional.cosine_similarity(_flat(a), _flat(b), dim=0)
    assert found["all"] == pytest.approx(float(whole), abs=1e-5)


@pytest.mark.parametrize("name", ["tiny", "resnet18", "mobilenet_v2"])
def test_stage_1_is_what_the_stem_of_a_network_cut_there_trains(name: str) -> None:
    """Every parameter has one stage; they follow each other, and the first is the default stem."""
    recognizer = _recognizer(name)
    stages = [stage_of(parameter) for parameter, _ in recognizer.named_parameters()]
    assert list(dict.fromkeys(stages)) == list(STAGES[:-1])
    assert all(first <= second for first, second in pairwise(stages[:-2]))
    assert stages.count("stage 1") == len(recognizer.backbone.stem_parameters())


@pytest.mark.slow
def test_measure_counts_videos_batches_and_controls() -> None:
    """Means are over all videos, sums over whole batches; controls compare videos of one and two classes."""
    recognizer = _recognizer().float()
    clips = [
        replace(clip, frames=clip.frames.float())
        for clip in (_clip(3, seed=seed, label=seed % 2) for seed in range(BATCH + 1))
    ]
    seen: list[None] = []
    found = measure(recognizer, clips, clusters=[2], advance=lambda: seen.append(None))
    assert len(seen) == len(clips)
    by_key = {(one.method, one.clusters, one.scope, one.stage): one for one in found}
    methods = {(one.method, one.clusters) for one in found}
    wanted = {(name, 2) for name in METHODS}
    assert methods == wanted | {("none", None), (SAME_CLASS, None), (OTHER_CLASS, None)}
    assert by_key["none", None, "batch", "all"].mean == pytest.approx(1)
    assert by_key["even", 2, "video", "all"].num == len(clips)
    assert by_key["even", 2, "batch", "all"].num == 1
    assert by_key["even", 2, "batch", "all"].error is None
    slope, even = (by_key[name, 2, "video", "all"] for name in ("slope", "even"))
    assert slope.over_even == pytest.approx(slope.mean - even.mean)
    assert (even.over_even, even.over_even_error) == (0, 0)
    assert by_key[SAME_CLASS, None, "video", "all"].over_even is None
    assert by_key[SAME_CLASS, None, "video", "all"].num == len(clips) - 2  # each pair once
    assert by_key[OTHER_CLASS, None, "video", "all"].num == len(clips) - 1
    alone = [
        cosines(gradient(recognizer, c, METHODS["even"], 2), gradient(recognizer, c, ALL_FRAMES, 1))
        for c in clips
    ]
    mean = sum(one["stage 2"] for one in alone) / len(alone)
    assert by_key["even", 2, "video", "stage 2"].mean == pytest.approx(mean, abs=1e-4)


def test_videos_are_taken_in_turn_from_each_class() -> None:
    """A batch has as many classes as it can, and a longer list begins with the shorter one."""
    videos = [
        StoredVideo(f"{label}{n}", "s.h5", label, num_frames=1)
        for label, count in enumerate((5, 1, 3))
        for n in range(count)
    ]
    everything = spread_over_classes(videos, 100)
    assert sorted(v.id for v in everything) == sorted(v.id for v in videos)
    assert [v.label for v in everything[:5]] == [0, 1, 2, 0, 2]
    assert spread_over_classes(videos, 4) == everything[:4]


@pytest.mark.slow
def test_results_become_a_table_a_row_a_figure_and_a_picture(tmp_path: Path) -> None:
    """The CSV holds every figure under its column, the table a line a method and k; the plot is a picture."""
    found = [
        Cosine(method, k, "video", stage, mean=0.5, error=0.125, num=3, seconds=2.0, over_even=0.25)
        for method, k in (("even", 4), ("even", 8), (SAME_CLASS, None))
        for stage in STAGES
    ]
    write_cosines(tmp_path / "g.csv", [("toy", "tiny", "on", one) for one in found])
    with (tmp_path / "g.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(COLUMNS)
    assert ",".join(rows[1]) == "toy,tiny,on,even,4,video,stage 1,0.5,0.125,3,2,0.25,"
    assert len(rows) == 1 + len(found)
    assert cosine_table("toy", found).row_count == 3
    draw_cosines(tmp_path / "g.png", {"toy": found})
    with Image.open(tmp_path / "g.png") as picture:
        assert picture.width > 1000
