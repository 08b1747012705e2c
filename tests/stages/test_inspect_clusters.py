"""fvar inspect-clusters: what it writes, what it refuses, and what it leaves alone."""

import csv
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clusters_samples import partition
from PIL import Image
from typer.testing import CliRunner

import fvar.stages.inspect_clusters as stage
from cli.main import app
from fvar.config import InspectConfig, TrainConfig
from fvar.errors import ConfigError, ManifestError, VideoError
from fvar.model.recognizer import Inference
from fvar.reporting import SilentReporter
from fvar.store.clusters_file import read_clusters
from fvar.store.encoded_video import EncodedVideo
from fvar.store.manifest import ClustersManifest, VideoEntry, read_manifest
from fvar.store.provenance import check_files

CLASSES = ["left", "right"]
LENGTHS = [5, 12, 1, 30]


def encoded_video(num_frames: int) -> EncodedVideo:
    """Return frames of rising grey."""
    frames = []
    for t in range(num_frames):
        encoded = BytesIO()
        Image.new("RGB", (64, 48), (4 * t, 4 * t, 4 * t)).save(encoded, "JPEG")
        frames.append(np.frombuffer(encoded.getvalue(), dtype=np.uint8))
    offsets = np.concatenate(([0], np.cumsum([len(frame) for frame in frames])))
    times = np.arange(num_frames) / 10
    return EncodedVideo(np.concatenate(frames), offsets, times, 64, 48, fps=10.0)


def inference(num_frames: int, k: int) -> Inference:
    """Return even clusters and a prediction of `right`."""
    starts, stops = partition(num_frames, k)
    steps = np.arange(1, num_frames, dtype=np.int64)
    return Inference(torch.tensor([0.1, 0.9]), starts, stops, steps, 1000)


class FakeTraining(SimpleNamespace):
    """A training of four videos whose network clusters evenly and always says `right`."""

    def infer(
        self, videos: list[VideoEntry], *, team: object, workers: int
    ) -> Iterator[tuple[VideoEntry, EncodedVideo, Inference]]:
        for video in videos:
            if video.id == self.broken:
                raise VideoError(video.id, "is damaged", fix="mend it")
            yield video, encoded_video(video.num_frames), inference(video.num_frames, 4)


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    """Stand in for the model side, so that what is tested is the inspection."""
    read = tmp_path / "train" / "manifest.json"
    read.parent.mkdir()
    read.write_text("{}")
    fake = FakeTraining(
        config=TrainConfig(clustering="cumulative", clusters=4, backbone="tiny"),
        classes=CLASSES,
        checkpoint_name="last",
        thinning=None,
        videos=[
            VideoEntry(
                id=f"../clip {i} <b>",
                video=f"{i}.mp4",
                label=CLASSES[i % 2],
                split="test",
                status="ok",
                num_frames=length,
            )
            for i, length in enumerate(LENGTHS)
        ],
        inputs=[read],
        broken=None,
    )
    monkeypatch.setattr(stage, "open_training", lambda *_, **__: fake)
    return fake


def inspect(tmp_path: Path, *, overwrite: bool = False, **settings: object) -> ClustersManifest:
    return stage.inspect_clusters(
        tmp_path / "train",
        tmp_path / "clusters",
        InspectConfig(device="cpu", **settings),  # type: ignore[arg-type]  # a test sets any of them
        SilentReporter(),
        overwrite=overwrite,
    )


@pytest.mark.usefixtures("training")
def test_outputs_agree(tmp_path: Path) -> None:
    """Tables, pictures, page and manifest hold the same videos; the manifest vouches for every file."""
    manifest = inspect(tmp_path)
    out = tmp_path / "clusters"
    summary = manifest.summary
    assert (summary.num_videos, summary.available, summary.right) == (4, 4, 2)
    assert (summary.frames, summary.num_clusters) == (sum(LENGTHS), 4 + 4 + 1 + 4)
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {entry.path for entry in manifest.outputs} | {"manifest.json"}
    assert read_manifest(out / "manifest.json", ClustersManifest) == manifest
    check_files(out / "manifest.json", manifest)
    videos = list(read_clusters(out / "clusters.h5"))
    assert [video.num_frames for video in videos] == LENGTHS
    assert [video.predicted for video in videos] == ["right"] * 4
    with (out / "clusters.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == summary.num_clusters
    assert sum(int(row["num_frames"]) for row in rows) == summary.frames
    assert "cumulative, k = 4" in (out / "index.html").read_text()


@pytest.mark.usefixtures("training")
def test_pictures_have_safe_names(tmp_path: Path) -> None:
    """Ids with dots, slashes and brackets become plain names inside the folder."""
    inspect(tmp_path, limit=1)
    (picture,) = (tmp_path / "clusters" / "filmstrips").iterdir()
    assert picture.name == "00000-clip-0-b.png"
    assert stage.filmstrip_name(7, "日本/..") == "filmstrips/00007-video.png"
    assert len(stage.filmstrip_name(0, "x" * 500)) < 90


@pytest.mark.usefixtures("training")
def test_limit_spreads_evenly_and_overwrite_leaves_nothing_stale(tmp_path: Path) -> None:
    """Two of four videos are the first and the third; the pictures of a run before go, foreign ones stay."""
    inspect(tmp_path, limit=3)
    foreign = tmp_path / "clusters" / "filmstrips" / "mine.png"
    foreign.write_bytes(b"x")
    manifest = inspect(tmp_path, overwrite=True, limit=2)
    assert (manifest.summary.num_videos, manifest.summary.available) == (2, 4)
    assert sorted(path.name for path in foreign.parent.iterdir()) == [
        "00000-clip-0-b.png",
        "00001-clip-2-b.png",
        "mine.png",
    ]


@pytest.mark.usefixtures("training")
def test_a_complete_run_is_kept(tmp_path: Path) -> None:
    """Without overwrite a complete run is refused and stays as it is, to the byte."""
    inspect(tmp_path, limit=1)
    before = (tmp_path / "clusters" / "manifest.json").read_bytes()
    with pytest.raises(ManifestError, match="holds a complete run"):
        inspect(tmp_path, limit=2)
    assert (tmp_path / "clusters" / "manifest.json").read_bytes() == before


@pytest.mark.usefixtures("training")
def test_the_run_of_another_stage_is_never_overwritten(tmp_path: Path) -> None:
    """Even --overwrite refuses another stage's folder: it would take that stage's manifest away."""
    manifest = tmp_path / "clusters" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_text(json.dumps({"schema": "fvar.checkpoint/1"}))
    with pytest.raises(ManifestError, match="was written by `fvar train`"):
        inspect(tmp_path, overwrite=True)
    assert manifest.is_file()


@pytest.mark.parametrize("clustering", ["uniform", "none"])
def test_a_training_without_clusters_is_refused(
    tmp_path: Path, training: FakeTraining, clustering: str
) -> None:
    """A run trained with `uniform` or `none` has no clusters: the error says so and nothing is written."""
    training.config = TrainConfig.model_validate({"clustering": clustering})
    with pytest.raises(ConfigError, match=f"--clustering {clustering}, which makes no clusters"):
        inspect(tmp_path)
    assert not (tmp_path / "clusters").exists()


def test_a_broken_video_leaves_no_complete_run(tmp_path: Path, training: FakeTraining) -> None:
    """An error midway names its video and leaves no manifest and no table; a rerun replaces what is there."""
    training.broken = training.videos[2].id
    with pytest.raises(VideoError, match="clip 2"):
        inspect(tmp_path)
    out = tmp_path / "clusters"
    assert {path.name for path in out.iterdir()} == {"filmstrips"}
    training.broken = None
    assert inspect(tmp_path, limit=1).summary.num_videos == 1
    assert len(list((out / "filmstrips").iterdir())) == 1


@pytest.mark.usefixtures("training")
def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    """The command writes beside its input by default, prints the figures and names the page to open."""
    result = CliRunner().invoke(app, ["inspect-clusters", str(tmp_path / "train"), "--limit", "0"])
    assert result.exit_code == 0, result.output
    lines = result.output.replace("\n", " ")
    assert "4 of 4 in split test" in lines
    assert "2 / 4" in lines
    assert f"next: open {tmp_path / 'clusters' / 'index.html'} in a browser" in lines
    again = CliRunner().invoke(app, ["inspect-clusters", str(tmp_path / "train")])
    assert again.exit_code == 2
    assert "holds a complete run" in again.output


def test_wrong_input_is_one_line(tmp_path: Path) -> None:
    """A folder that is not there is exit code 2 and a line that names it; nothing is written."""
    result = CliRunner().invoke(app, ["inspect-clusters", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert f"{tmp_path / 'none'}: does not exist" in result.output.replace("\n", "")
    assert list(tmp_path.iterdir()) == []
