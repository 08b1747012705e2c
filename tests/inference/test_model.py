"""A loaded model: the answers of extraction and evaluation for any video, and errors for bad ones."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from fvar.config import EvalConfig
from fvar.errors import ConfigError, ManifestError, VideoError
from fvar.inference.model import Model, load_model
from fvar.reporting import SilentReporter
from fvar.stages.evaluate import evaluate

TrainToy = Callable[[Path, str], Path]


def _pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def _scores(table: Path) -> dict[str, list[float]]:
    with table.open() as file:
        return {
            row["id"]: [float(value) for name, value in row.items() if name.startswith("score:")]
            for row in csv.DictReader(file)
        }


@pytest.mark.slow
@pytest.mark.parametrize("clustering", ["cumulative", "windowed", "even", "uniform", "none"])
def test_predictions_are_those_of_extraction_and_evaluation(
    chain: Path, tmp_path: Path, train_toy: TrainToy, clustering: str
) -> None:
    """The scores of a video file equal those of `extract` and `eval`, whatever the clustering."""
    run = train_toy(tmp_path / "train", clustering)
    evaluate(run, tmp_path / "eval", EvalConfig(workers=0), SilentReporter())
    wanted = _scores(tmp_path / "eval" / "predictions.csv")
    with load_model(run, device="cpu") as model:
        for video_id, scores in wanted.items():
            found = model.predict(chain / "toy" / "videos" / f"{video_id}.mp4")
            np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
            assert found.label == model.classes[int(np.argmax(scores))]


def test_segments_are_the_clusters_with_scores_of_their_own(model: Model, clip: Path) -> None:
    """The clusters cover the video; the mean of their logits gives the video's scores."""
    found = model.predict(clip)
    assert [s.start_frame for s in found.segments[1:]] == [
        s.stop_frame for s in found.segments[:-1]
    ]
    assert (found.segments[0].start_frame, found.segments[-1].stop_frame) == (0, 12)
    assert found.segments[-1].stop_seconds == pytest.approx(12 / 25)
    assert found.duration_seconds == pytest.approx(12 / 25)
    logits = torch.tensor(np.stack([segment.scores for segment in found.segments])).log()
    np.testing.assert_allclose(logits.mean(0).softmax(0), found.scores, rtol=1e-4)
    assert found.features.shape == (4, 128)
    np.testing.assert_allclose(found.pooled_features, found.features.mean(axis=0))
    assert "Prediction(" in repr(found)
    assert "tiny, cumulative to 4" in repr(model)


def test_a_filmstrip_is_a_picture(model: Model, clip: Path) -> None:
    """A prediction draws its clusters, for a notebook."""
    assert model.predict(clip).filmstrip().size[0] == 1600


def test_a_video_shorter_than_k_has_a_segment_for_each_frame(model: Model, clip: Path) -> None:
    """Three frames give three segments, although four representations show them."""
    found = model.predict(_pictures(clip)[:3], fps=10)
    assert [(s.start_frame, s.stop_frame) for s in found.segments] == [(0, 1), (1, 2), (2, 3)]
    assert found.segments[2].stop_seconds == pytest.approx(0.3)


def test_pictures_go_through_the_same_jpeg_as_a_file(model: Model, clip: Path) -> None:
    """An array and an iterable of pictures give one answer, close to that of the file they come from."""
    pictures = _pictures(clip)
    found, one_by_one = model.predict(pictures), model.predict(iter(pictures))
    np.testing.assert_array_equal(found.scores, one_by_one.scores)
    np.testing.assert_allclose(found.scores, model.predict(clip).scores, atol=0.05)
    assert found.num_frames == 12


def _two_sizes() -> Iterator[np.ndarray]:
    yield np.zeros((32, 32, 3), np.uint8)
    yield np.zeros((32, 30, 3), np.uint8)


@pytest.mark.parametrize(
    ("pictures", "problem"),
    [
        (
            np.zeros((2, 32, 32, 3)),
            r"pictures\[0\]: is ndarray float64\[32, 32, 3\], must be uint8",
        ),
        (np.zeros((2, 32, 32), np.uint8), r"pictures\[0\]: is ndarray uint8\[32, 32\], must be"),
        ([], "there is none"),
        (
            _two_sizes(),
            r"pictures\[1\]: is ndarray uint8\[32, 30, 3\], must be uint8 \[32, 32, 3\]",
        ),
    ],
)
def test_wrong_pictures_are_refused(model: Model, pictures: object, problem: str) -> None:
    """What is no picture is an error that says which one and what it is."""
    with pytest.raises(VideoError, match=problem):
        model.predict(pictures)  # type: ignore[arg-type]
    with pytest.raises(VideoError, match="fps is 0"):
        model.predict(np.zeros((1, 32, 32, 3), np.uint8), fps=0)


def test_bad_videos_are_errors_with_their_reason(model: Model, samples: Path) -> None:
    """A file that is absent, no video or cut short is refused; the last one's frames only if allowed."""
    with pytest.raises(VideoError, match="failed: does not exist"):
        model.predict(samples / "absent.mp4")
    with pytest.raises(VideoError, match=r"failed: .*give another video"):
        model.predict(Path(__file__))
    cut = samples / "cut plain.mp4"
    with pytest.raises(VideoError, match=r"partial: .*pass allow_partial"):
        model.predict(cut)
    found = model.predict(cut, allow_partial=True)
    assert found.status == "partial"
    assert found.reason


def test_a_training_without_a_clustering_has_no_filmstrip(
    tmp_path: Path, train_toy: TrainToy, clip: Path
) -> None:
    """A training that samples frames answers with a segment for each; it has no clusters to draw."""
    run = train_toy(tmp_path / "train", "uniform")
    with load_model(run, device="cpu") as model:
        found = model.predict(clip)
    assert [(s.start_frame, s.stop_frame) for s in found.segments] == [
        *((1, 2), (4, 5), (7, 8), (10, 11))
    ]
    with pytest.raises(ConfigError, match="trained without a clustering"):
        found.filmstrip()


def test_an_old_training_takes_the_settings_of_its_extraction(chain: Path, tmp_path: Path) -> None:
    """A manifest without them is completed from the extraction; without that either, it is an error."""
    shutil.copytree(chain / "train", tmp_path / "train")
    path = tmp_path / "train" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest.pop("frames")["short_side"] == 32
    path.write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match="was trained on it"):
        load_model(tmp_path / "train", device="cpu")
    shutil.copytree(chain / "frames", tmp_path / "frames")
    with load_model(tmp_path / "train", device="cpu") as model:
        assert model.frame_settings.short_side == 32
