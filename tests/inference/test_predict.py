"""``fvar predict``: files, folders and lists in; tables, pictures and JSON out."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from fvar.config import PredictConfig, VerifyConfig
from fvar.errors import ConfigError, ManifestError, SourceError
from fvar.inference.videos import find_videos
from fvar.reporting import SilentReporter
from fvar.settings import parse
from fvar.stages.predict import predict
from fvar.stages.verify import verify

CPU = PredictConfig(device="cpu", workers=1)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(clip: Path, samples: Path, tmp_path: Path) -> Path:
    """Return a folder with a good video, one that was cut short and one that is none."""
    videos = tmp_path / "videos"
    (videos / "deeper").mkdir(parents=True)
    shutil.copy(clip, videos / "b.mp4")
    shutil.copy(samples / "cut plain.mp4", videos / "deeper" / "a.MP4")
    shutil.copy(samples / "text.mp4", videos / "c.mp4")
    (videos / "notes.txt").write_text("no video")
    (videos / ".hidden.mp4").write_text("no video")
    return videos


def test_bad_videos_are_rows_with_their_reason(chain: Path, folder: Path, tmp_path: Path) -> None:
    """A folder gives a row per video: predicted, partial or failed; the run is complete and verifies."""
    answers = predict(chain / "train", [folder], tmp_path / "out", CPU, SilentReporter())
    assert [answer.status for answer in answers.videos] == ["ok", "failed", "partial"]
    rows = _rows(tmp_path / "out" / "predictions.csv")
    assert [Path(row["path"]).name for row in rows] == ["b.mp4", "c.mp4", "a.MP4"]
    good, text, cut = rows
    scores = [float(value) for name, value in good.items() if name.startswith("score:")]
    assert sum(scores) == pytest.approx(1)
    assert float(good["probability"]) == pytest.approx(max(scores))
    assert (good["frames"], good["seconds"], good["status"]) == ("12", "0.48", "ok")
    for bad, reason in ((text, "cannot be opened"), (cut, "its header claims 50 frames")):
        assert reason in bad["note"]
        assert (bad["label"], bad["frames"], bad["score:up"]) == ("", "0", "")
    clusters = _rows(tmp_path / "out" / "timeline.csv")
    assert [row["cluster"] for row in clusters] == ["0", "1", "2", "3"]
    assert clusters[0]["start_seconds"] == "0"
    assert clusters[-1]["stop_seconds"] == "0.48"
    assert verify(tmp_path / "out", VerifyConfig(workers=1), SilentReporter()).faults == ()


def test_partial_videos_are_predicted_when_allowed(chain: Path, samples: Path) -> None:
    """With `allow_partial` the frames that are there are seen; the row still says what is missing."""
    config = CPU.model_copy(update={"allow_partial": True})
    videos = [samples / "cut plain.mp4"]
    (answer,) = predict(chain / "train", videos, None, config, SilentReporter()).videos
    assert answer.status == "partial"
    assert answer.label is not None
    assert 0 < answer.num_frames < 50


@pytest.mark.slow
def test_windows_write_segments_and_a_picture(chain: Path, clip: Path, tmp_path: Path) -> None:
    """With windows there are scores of each, what they were merged to, and a picture per video."""
    config = CPU.model_copy(update={"windows": 0.2, "threshold": 0.0})
    predict(chain / "train", [clip], tmp_path / "out", config, SilentReporter())
    files = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")
    }
    picture = f"timelines/00000-{clip.stem}.png"
    names = {"predictions.csv", "windows.csv", "segments.csv", picture, "manifest.json"}
    assert files == names
    windows, segments = (_rows(tmp_path / "out" / f"{n}.csv") for n in ("windows", "segments"))
    assert len(windows) == 6  # of 5 frames, the last of them with the end of the video
    assert segments[0]["start_seconds"] == "0"
    assert segments[-1]["stop_seconds"] == "0.48"
    # without windows again: what belongs to them is gone
    predict(chain / "train", [clip], tmp_path / "out", CPU, SilentReporter(), overwrite=True)
    assert not (tmp_path / "out" / "windows.csv").exists()
    assert not (tmp_path / "out" / picture).exists()


def test_a_complete_run_is_not_replaced(chain: Path, clip: Path, tmp_path: Path) -> None:
    """A folder with predictions is refused without --overwrite, one of another stage also with it."""
    predict(chain / "train", [clip], tmp_path / "out", CPU, SilentReporter())
    with pytest.raises(ManifestError, match="complete run"):
        predict(chain / "train", [clip], tmp_path / "out", CPU, SilentReporter())
    with pytest.raises(ManifestError, match="`fvar train`"):
        predict(chain / "train", [clip], chain / "train", CPU, SilentReporter(), overwrite=True)


def test_lists_and_folders_of_pictures(tmp_path: Path, clip: Path) -> None:
    """A list is relative to itself; a folder of pictures is one video; each video is taken once."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "mine.csv").write_text("id,video\n1,../a.mp4\n2,b.mp4\n")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0001.png").write_text("")
    given = [tmp_path / "lists" / "mine.csv", tmp_path / "pictures", clip, clip]
    found = find_videos(given)
    lists = tmp_path / "lists"
    assert found == [lists / "../a.mp4", lists / "b.mp4", tmp_path / "pictures", clip]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id,name\n1,a.mp4\n", "has no column `video` or `path`"),
        ("video\n", "has no column `video` or `path`, or no row"),
        ("id,video\n1,\n", "row 2: video is empty"),
        ("video,start_seconds\na.mp4,\nb.mp4,3\n", "row 3: names a segment"),
        (b"video\n\xff.mp4\n", "cannot be read"),
    ],
)
def test_wrong_lists_are_refused(tmp_path: Path, text: str | bytes, problem: str) -> None:
    """A list that names no videos, or segments, is an error with its row."""
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SourceError, match=problem):
        find_videos([path])


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """A folder without a video is an error that lists the suffixes."""
    with pytest.raises(SourceError, match=r"holds no video \(\.3gp, "):
        find_videos([tmp_path])


def test_hops_that_skip_frames_are_refused() -> None:
    """A hop needs windows, and must not be longer than they are."""
    for flags in ({"hop": 1}, {"hop": 3, "windows": 2}):
        with pytest.raises(ConfigError, match="frames would be skipped"):
            parse(PredictConfig, flags, source="command line")


def test_the_command_prints_json_or_a_table(chain: Path, folder: Path) -> None:
    """`--json` prints an array and nothing else; the exit code 1 says that not all videos are ok."""
    command = ["predict", str(chain / "train"), str(folder), "--device", "cpu", "--workers", "1"]
    printed = CliRunner().invoke(app, [*command, "--json"])
    assert printed.exit_code == 1
    rows = json.loads(printed.stdout)
    assert [row["status"] for row in rows] == ["ok", "failed", "partial"]
    assert rows[0]["label"] in rows[0]["scores"]
    assert len(rows[0]["parts"]) == 4
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 1
    assert "probability" in shown.stdout
    assert "frames seen  12" in shown.stdout
    good = CliRunner().invoke(app, [*command[:2], str(folder / "b.mp4"), *command[3:]])
    assert good.exit_code == 0
