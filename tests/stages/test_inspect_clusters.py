"""fvar inspect-clusters: its outputs, what it refuses, and what it leaves as it is."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from chain_samples import edit_manifest
from page_samples import details_of
from training_samples import (
    CLASSES,
    Row,
    sample_pictures,
    sample_video,
    sample_videos,
    tiny_config,
    write_frames,
)
from typer.testing import CliRunner

import fvar.stages.inspect_clusters as stage
from cli.main import app
from fvar.config import InspectConfig
from fvar.errors import ConfigError, FrameStoreError, ManifestError, StoppedError
from fvar.report.clusters_page.video_pages import VideoPages
from fvar.reporting import SilentReporter
from fvar.stages.train import train
from fvar.store.clusters.clusters_file import read_clusters
from fvar.store.manifest import ClustersManifest
from fvar.store.manifest_file import read_manifest
from fvar.store.provenance import check_files

LENGTHS = (5, 12, 1, 30)
ROWS = [
    *(Row(name, name, "train", 3) for name in CLASSES),
    *(Row(f"../clip {n} <b>", CLASSES[n % 3], "test", length) for n, length in enumerate(LENGTHS)),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `frames`, `train` and `clusters` (of all videos); no test writes into those."""
    folder = tmp_path_factory.mktemp("run")
    write_frames(folder / "frames", ROWS)
    train(folder / "frames", folder / "train", tiny_config(epochs=1), SilentReporter())
    _inspect(folder, folder / "clusters", limit=None)
    return folder


def _inspect(
    run: Path,
    out: Path,
    *,
    frames: Path | None = None,
    overwrite: bool = False,
    limit: int | None = 1,
) -> ClustersManifest:
    config, reporter = InspectConfig(device="cpu", workers=0, limit=limit), SilentReporter()
    return stage.inspect_clusters(
        [run / "train"], out, config, reporter, frames=frames, overwrite=overwrite
    )


def _copy(run: Path, folder: Path) -> Path:
    """Return a copy of the training and its frames, to be changed."""
    return Path(shutil.copytree(run, folder, ignore=shutil.ignore_patterns("clusters")))


def test_a_video_without_a_label_is_neither_right_nor_wrong(run: Path, tmp_path: Path) -> None:
    """The page says so, and the figures count the others."""
    more = write_frames(tmp_path / "frames", [*ROWS, Row("unknown", "", "test", 5)])
    found = _inspect(run, tmp_path / "out", frames=more, limit=None).summary
    before = read_manifest(run / "clusters" / "manifest.json", ClustersManifest).summary
    assert (found.num_videos, found.unlabelled, found.right) == (5, 1, before.right)
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count('data-verdict="no label"') == 1
    assert f"{before.right} of 4 videos with a label" in page


def test_many_videos_lie_beside_the_page(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the number that a page holds, each has a script and a sprite, listed in the manifest."""
    monkeypatch.setattr(stage, "MAX_EMBEDDED", 3)
    out = tmp_path / "clusters"
    manifest = _inspect(run, out, limit=None)
    beside = sorted(path.relative_to(out).as_posix() for path in (out / "videos").iterdir())
    assert beside == [
        f"videos/0000{n}-clip-{n}-b.{kind}" for n in range(4) for kind in ("js", "webp")
    ]
    assert set(beside) <= {entry.path for entry in manifest.outputs}
    _inspect(run, out, overwrite=True, limit=2)
    assert list((out / "videos").iterdir()) == []


def test_mistakes_have_their_nearest_training_videos(run: Path, tmp_path: Path) -> None:
    """Of the predicted and of the true class, each with a picture; right ones have none."""
    out = tmp_path / "clusters"
    config = InspectConfig(device="cpu", workers=0, limit=None, nearest=True)
    stage.inspect_clusters([run / "train"], out, config, SilentReporter())
    details = details_of((out / "index.html").read_text())
    videos = list(read_clusters(out / "clusters.h5"))
    assert {video.verdict for video in videos} == {"right", "wrong"}
    for number, video in enumerate(videos):
        near = details[number]["near"]
        wanted = [video.predicted, video.label] if video.verdict == "wrong" else []
        assert [found["label"] for found in near] == wanted
        assert [found["id"] for found in near] == wanted  # the training has one of each class
        assert all(-1 <= found["similarity"] <= 1 for found in near)
        assert all(found["picture"].startswith("data:image/webp") for found in near)


def test_the_original_videos_are_linked_where_they_are(run: Path, tmp_path: Path) -> None:
    """By a path from the page that a browser reads; a file that is gone is not linked."""
    copy = _copy(run, tmp_path / "run")
    videos = tmp_path / "my videos #1"
    videos.mkdir()
    (videos / "../clip 1 <b>.mp4").resolve().touch()
    edit_manifest(copy / "frames", "config.videos", str(videos))
    out = tmp_path / "clusters"
    config = InspectConfig(device="cpu", workers=0, limit=None)
    stage.inspect_clusters([copy / "train"], out, config, SilentReporter(), frames=copy / "frames")
    details = details_of((out / "index.html").read_text())
    assert [details[n]["original"] for n in range(4)] == [
        None,
        "../clip%201%20%3Cb%3E.mp4",
        None,
        None,
    ]


def test_outputs_agree(run: Path) -> None:
    """Tables, pictures, page and manifest hold the same videos; the manifest lists every file."""
    out = run / "clusters"
    manifest = read_manifest(out / "manifest.json", ClustersManifest)
    check_files(out / "manifest.json", manifest)
    summary = manifest.summary
    assert (summary.num_videos, summary.available, summary.frames) == (4, 4, sum(LENGTHS))
    assert summary.num_clusters == 4 + 4 + 1 + 4
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {entry.path for entry in manifest.outputs} | {"manifest.json"}
    videos = list(read_clusters(out / "clusters.h5"))
    assert [(v.id, v.label, v.num_frames) for v in videos] == [
        (row.id, row.label, row.num_frames) for row in ROWS[3:]
    ]
    assert summary.right == sum(video.label == video.predicted for video in videos)
    with (out / "clusters.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == summary.num_clusters
    assert sum(int(row["num_frames"]) for row in rows) == summary.frames
    assert "windowed, k = 4" in (out / "index.html").read_text()


def test_pictures_have_safe_names(run: Path) -> None:
    """Ids with dots, slashes and brackets become plain names inside the folder."""
    names = sorted(path.name for path in (run / "clusters" / "filmstrips").iterdir())
    assert names == [f"0000{n}-clip-{n}-b.png" for n in range(4)]


@pytest.mark.slow
def test_limit_spreads_evenly_and_overwrite_leaves_nothing_stale(run: Path, tmp_path: Path) -> None:
    """Two of four videos are the first and the third; pictures of the old run go, other files stay."""
    out = tmp_path / "clusters"
    shutil.copytree(run / "clusters", out)
    foreign = out / "filmstrips" / "mine.png"
    foreign.write_bytes(b"x")
    manifest = _inspect(run, out, overwrite=True, limit=2)
    assert (manifest.summary.num_videos, manifest.summary.available) == (2, 4)
    assert sorted(path.name for path in foreign.parent.iterdir()) == [
        "00000-clip-0-b.png",
        "00001-clip-2-b.png",
        "mine.png",
    ]


def test_complete_runs_are_kept(run: Path) -> None:
    """A complete inspection is replaced with ``--overwrite`` alone, the run of another stage never."""
    before = (run / "clusters" / "manifest.json").read_bytes()
    with pytest.raises(ManifestError, match="holds a complete run"):
        _inspect(run, run / "clusters")
    assert (run / "clusters" / "manifest.json").read_bytes() == before
    with pytest.raises(ManifestError, match="was written by `fvar train`"):
        _inspect(run, run / "train", overwrite=True)


@pytest.mark.parametrize("clustering", ["uniform", "none"])
def test_a_training_without_clusters_is_refused(run: Path, tmp_path: Path, clustering: str) -> None:
    """`uniform` and `none` make no clusters: the error says so and nothing is written."""
    copy = _copy(run, tmp_path / "run")
    edit_manifest(copy / "train", "config.clustering", clustering)
    with pytest.raises(ConfigError, match=f"--clustering {clustering}, which makes no clusters"):
        _inspect(copy, tmp_path / "clusters")
    assert not (tmp_path / "clusters").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("at", "error"), [(0, FrameStoreError), (1, StoppedError)])
def test_a_broken_video_leaves_no_complete_run(
    run: Path, tmp_path: Path, at: int, error: type[Exception]
) -> None:
    """It is named; the first one is wrong input, a later one stops the command. Another one starts again."""
    broken, out = ROWS[3 + at], tmp_path / "clusters"
    pictures = [*sample_pictures(broken.id, broken.num_frames - 1), b"not a picture"]
    videos = sample_videos(ROWS) | {broken.id: sample_video(pictures)}
    frames = write_frames(tmp_path / "broken" / "frames", ROWS, videos=videos)
    with pytest.raises(error, match=f"clip {at}"):
        _inspect(run, out, frames=frames, limit=None)
    assert sorted(path.name for path in out.glob("*")) == ["filmstrips", "unfinished"][: 2 * at]
    assert _inspect(run, out).summary.num_videos == 1
    assert len(list((out / "filmstrips").iterdir())) == 1


@pytest.mark.slow
def test_an_interrupted_inspection_goes_on(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The videos that were done are not read again, and the outputs are those of one that was not."""
    out, write, written = tmp_path / "clusters", VideoPages.write, list[int]()

    def stop_at(last: int) -> None:
        def stopping(self: VideoPages, number: int, *rest: Any, **more: Any) -> None:
            if number == last:
                raise KeyboardInterrupt
            written.append(number)
            write(self, number, *rest, **more)

        monkeypatch.setattr(VideoPages, "write", stopping)

    stop_at(2)
    with pytest.raises(KeyboardInterrupt):
        _inspect(run, out, limit=None)
    stop_at(99)
    (out / "filmstrips" / "00001-clip-1-b.png").unlink()
    _inspect(run, out, limit=None)
    assert written == [0, 1, 1, 2, 3]
    whole, files = run / "clusters", sorted(path.name for path in out.iterdir())
    assert files == sorted(path.name for path in whole.iterdir())
    for name in ("clusters.h5", "clusters.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    details = [details_of((path / "index.html").read_text()) for path in (out, whole)]
    for found in (detail for page in details for detail in page.values()):
        found["runs"] = found["original"] = None  # paths
    assert details[0] == details[1]

    stop_at(2)
    with pytest.raises(KeyboardInterrupt):
        _inspect(run, out, limit=None, overwrite=True)
    stop_at(99)
    written.clear()
    _inspect(run, out, limit=2)  # another setting: nothing that was kept is used
    assert written == [0, 1]


@pytest.fixture(scope="module")
def even(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return another training on the same frames."""
    out = tmp_path_factory.mktemp("even") / "train"
    config = tiny_config(epochs=1, clustering="even", clusters=2)
    train(run / "frames", out, config, SilentReporter())
    return out


def test_runs_are_shown_side_by_side(run: Path, even: Path, tmp_path: Path) -> None:
    """The page holds the clusters of each in time; each has tables; known segments are compared."""
    out, segments = tmp_path / "clusters", tmp_path / "segments.csv"
    last = ROWS[-1].id
    segments.write_text(f"id,start_seconds,stop_seconds,name\n{last},0,0.6,<b>wave\n")
    config = InspectConfig(device="cpu", workers=0, limit=None, segments=str(segments), tolerance=0)
    trains = [run / "train", even]
    manifest = stage.inspect_clusters(trains, out, config, SilentReporter())
    check_files(out / "manifest.json", manifest)
    tables = {entry.path for entry in manifest.outputs}
    assert {"clusters-2.h5", "clusters-2.csv", "boundaries.csv"} <= tables
    assert len(manifest.inputs) == 3 + 3 + 1
    alone = run / "clusters" / "clusters.csv"
    assert (out / "clusters.csv").read_bytes() == alone.read_bytes()
    others = list(read_clusters(out / "clusters-2.h5"))
    assert [video.num_clusters for video in others] == [2, 2, 1, 2]
    details = details_of((out / "index.html").read_text())
    assert [band["name"] for band in details[3]["runs"]] == [str(path) for path in trains]
    assert details[3]["runs"][1]["starts"] == pytest.approx(others[3].start_seconds.tolist())
    assert [details[n]["known"] for n in (2, 3)] == [[], [[0, 0.6, "<b>wave"]]]
    with (out / "boundaries.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == [*map(str, trains), "equal parts"]
    assert [(row["videos"], row["found"], row["known"]) for row in rows] == [
        ("1", "3", "1"),
        ("1", "1", "1"),
        ("1", "3", "1"),
    ]
    matches = 0.6 in others[3].start_seconds.round(9).tolist()
    assert rows[1]["matched"] == str(int(matches))
    assert "Boundaries and known segments" in (out / "index.html").read_text()
    _inspect(run, out, overwrite=True)
    assert not (out / "clusters-2.h5").exists()
    assert not (out / "boundaries.csv").exists()


def test_runs_of_other_videos_are_refused(run: Path, even: Path, tmp_path: Path) -> None:
    """Before anything is written: a video that the second run lacks, a run twice, segments of no video."""
    out = tmp_path / "clusters"
    write_frames(tmp_path / "frames", ROWS[:-1])
    train(tmp_path / "frames", tmp_path / "train", tiny_config(epochs=1), SilentReporter())
    config = InspectConfig(device="cpu", workers=0, limit=None)
    with pytest.raises(ManifestError, match=r"has no video '../clip 3 <b>' in this split, which "):
        stage.inspect_clusters([run / "train", tmp_path / "train"], out, config, SilentReporter())
    one = InspectConfig(device="cpu", workers=0, checkpoint=str(even / "checkpoints" / "last.pt"))
    with pytest.raises(ConfigError, match="belongs to one training, not to 2"):
        stage.inspect_clusters([run / "train", even], out, one, SilentReporter())
    write_frames(tmp_path / "parts" / "frames", ROWS)
    edit_manifest(tmp_path / "parts" / "frames", "videos.5.start_seconds", 0.5)
    parts = tmp_path / "parts" / "train"
    train(tmp_path / "parts" / "frames", parts, tiny_config(epochs=1), SilentReporter())
    with pytest.raises(ManifestError, match=r"has another video '../clip 2 <b>' than "):
        stage.inspect_clusters([run / "train", parts], out, config, SilentReporter())
    twice = [even, even / "manifest.json"]
    with pytest.raises(ConfigError, match="is named twice"):
        stage.inspect_clusters(twice, out, config, SilentReporter())
    segments = tmp_path / "segments.csv"
    segments.write_text("id,start_seconds,stop_seconds,name\nother,0,1,x\n")
    config = InspectConfig(device="cpu", workers=0, segments=str(segments))
    with pytest.raises(ConfigError, match="names none of the 4 videos that are shown"):
        stage.inspect_clusters([run / "train"], out, config, SilentReporter())
    assert not out.exists()


def test_wrong_input_loses_no_inspection(run: Path, even: Path, tmp_path: Path) -> None:
    """A second run without the videos does not replace a complete inspection."""
    out = Path(shutil.copytree(run / "clusters", tmp_path / "clusters"))
    before = sorted(path.name for path in out.rglob("*"))
    write_frames(tmp_path / "frames", ROWS[:-1])
    train(tmp_path / "frames", tmp_path / "train", tiny_config(epochs=1), SilentReporter())
    config = InspectConfig(device="cpu", workers=0, limit=None)
    trains = [run / "train", even, tmp_path / "train"]
    with pytest.raises(ManifestError, match="has no video"):
        stage.inspect_clusters(trains, out, config, SilentReporter(), overwrite=True)

    # No training videos to explain mistakes with, and a first video that is damaged.
    no_train = write_frames(tmp_path / "test-only" / "frames", ROWS[3:])
    nearest = InspectConfig(device="cpu", workers=0, limit=None, nearest=True)
    reporter = SilentReporter()
    with pytest.raises(ManifestError, match="split 'train' has no videos"):
        stage.inspect_clusters(
            [run / "train"], out, nearest, reporter, frames=no_train, overwrite=True
        )
    broken = [*sample_pictures(ROWS[3].id, ROWS[3].num_frames - 1), b"not a picture"]
    videos = sample_videos(ROWS) | {ROWS[3].id: sample_video(broken)}
    damaged = write_frames(tmp_path / "broken" / "frames", ROWS, videos=videos)
    with pytest.raises(FrameStoreError):
        _inspect(run, out, frames=damaged, overwrite=True, limit=None)
    assert sorted(path.name for path in out.rglob("*")) == before


def test_an_inspection_deletes_only_its_own_files(run: Path, tmp_path: Path) -> None:
    """Files of others in its folder stay, also those whose names look like its own."""
    mine = ("videos/2024-05-01.mp4", "filmstrips/1-a.txt", "clusters-k0.5/x.txt", "clusters-a.csv")
    mine = (*mine, "unfinished/notes.txt")
    for name in mine:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    _inspect(run, tmp_path, limit=2)
    _inspect(run, tmp_path, limit=1, overwrite=True)
    assert len(list((tmp_path / "filmstrips").glob("*.png"))) == 1
    assert all((tmp_path / name).read_text() == "mine" for name in mine)


@pytest.mark.slow
def test_the_command_prints_what_it_did(run: Path, tmp_path: Path) -> None:
    """The command writes beside its input by default, prints the figures and names the page to open."""
    copy = _copy(run, tmp_path / "run")
    result = CliRunner().invoke(app, ["inspect-clusters", str(copy / "train"), "--limit", "0"])
    assert result.exit_code == 0, result.output
    lines = result.output.replace("\n", " ")
    assert "4 of 4 in split test" in lines
    assert "█▓" in lines
    assert not (copy / "train" / "clusters-test" / "frames.csv").exists()
    assert f"open {copy / 'train' / 'clusters-test' / 'index.html'} in a browser" in lines
    again = CliRunner().invoke(app, ["inspect-clusters", str(copy / "train")])
    assert again.exit_code == 2
    assert "holds a complete run" in again.output
    arguments = ["inspect-clusters", str(copy / "train"), "--limit", "0", "--overwrite", "--json"]
    printed = json.loads(CliRunner().invoke(app, [*arguments, "--frames-csv"]).stdout)
    assert [(row["id"], row["frames"]) for row in printed] == [
        (r.id, r.num_frames) for r in ROWS[3:]
    ]
    assert printed[0]["clusters"][0]["start_frame"] == 0
    assert 0 < printed[0]["confidence"] <= 1
    manifest = read_manifest(copy / "train" / "clusters-test" / "manifest.json", ClustersManifest)
    assert "frames.csv" in {entry.path for entry in manifest.outputs}


def test_wrong_input_is_one_line(tmp_path: Path) -> None:
    """A folder that is not there is exit code 2 and a line that names it; nothing is written."""
    result = CliRunner().invoke(app, ["inspect-clusters", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert f"{tmp_path / 'none'}: does not exist" in result.output.replace("\n", "")
    assert list(tmp_path.iterdir()) == []
