"""The whole chain, from videos to clusters, as a user types it; and how a changed file in it is refused."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from processes import FVAR, fvar, fvar_processes
from training_samples import flip_byte

TOY = ("--clips-per-class", 3, "--frames", 12, "--size", 32, "--informative", 6, "--seed", 1)
TRAIN = ("--backbone", "tiny", "--weights", "none", "--size", 32, "--clusters", 4, "--epochs", 2)
FAST = ("--device", "cpu", "--workers", 0)
EVAL, CLUSTERS = "train/eval-test", "train/clusters-test"
FOLDERS = ("frames", "train", EVAL, CLUSTERS)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FVAR.is_file(), reason=f"wants the installed console script {FVAR}"),
]


def _commands(folder: Path, source: Path, videos: Path) -> list[tuple[object, ...]]:
    """Return the four commands; the outputs of the last three go where they go by default."""
    return [
        ("extract", source, "--videos", videos, "--out", folder / "frames", "--short-side", 32),
        ("train", folder / "frames", *TRAIN, *FAST, "--config", folder / "settings.toml"),
        ("eval", folder / "train", *FAST),
        ("inspect-clusters", folder / "train", *FAST),
    ]


def _prepare(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.toml").write_text('norm = "stem-frozen"\n')  # so that stem chunks are cut
    return folder


def _quick(*arguments: object) -> tuple[int | None, str, str]:
    """Run ``fvar`` in a process that is forked from one with torch."""
    (ended,) = fvar_processes(1, arguments)
    return ended


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a toy set and the four stages' outputs; no test writes into those."""
    folder = _prepare(tmp_path_factory.mktemp("my runs"))
    made = fvar("toy", "--out", folder / "toy", *TOY)  # by the console script itself
    assert made.returncode == 0, made.stderr
    for command in _commands(folder, folder / "toy" / "toy.csv", folder / "toy" / "videos"):
        code, stdout, stderr = _quick(*command)
        assert (code, stderr) == (0, "")
        assert "\nwrote " in stdout
        assert "\nnext: " in stdout
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """Return a copy of the chain, to be damaged."""
    return Path(shutil.copytree(run, tmp_path / "my runs"))


def _summaries(run: Path) -> dict[str, dict[str, object]]:
    found = {}
    for name in FOLDERS:
        manifest = json.loads((run / name / "manifest.json").read_text())
        assert manifest["schema"].startswith("fvar.")
        found[name] = manifest["summary"]
    return found


def test_four_commands_make_four_complete_folders(run: Path) -> None:
    """12 training and 4 test clips of 12 frames: no frame is lost from the videos to the clusters."""
    summary = _summaries(run)
    frames = summary["frames"]
    assert (frames["num_videos"], frames["ok"], frames["frames"]) == (16, 16, 16 * 12)
    assert summary["train"]["num_videos"] == 12
    assert summary["train"]["frames"] == 12 * 12
    assert (summary[EVAL]["evaluated"], summary[EVAL]["expected"]) == (4, 4)
    assert summary[EVAL]["frames"] == 4 * 12
    with (run / EVAL / "predictions.csv").open(newline="") as file:
        right = sum(row["label"] == row["predicted"] for row in csv.DictReader(file))
    assert summary[EVAL]["top1"] == pytest.approx(right / 4)
    with (run / CLUSTERS / "clusters.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 4
    assert sum(int(row["num_frames"]) for row in rows) == 4 * 12
    assert (run / CLUSTERS / "index.html").is_file()


def test_verify_finds_the_chain_whole(run: Path) -> None:
    """What the four commands wrote is verified without a fault or a note, by two processes."""
    for name in ("train", EVAL, CLUSTERS):
        code, stdout, stderr = _quick("verify", run / name, "--workers", 2)
        assert (code, stderr) == (0, "")
        assert "videos 16 checked, 192 frames not ok 0 notes 0 faults 0" in " ".join(stdout.split())


def test_same_seed_same_bytes(run: Path, tmp_path: Path) -> None:
    """The chain run again elsewhere, from the toy set on, gives the same predictions to the byte."""
    again = _prepare(tmp_path / "again")
    toy = again / "toy"
    commands = [("toy", "--out", toy, *TOY), *_commands(again, toy / "toy.csv", toy / "videos")]
    for command in commands:
        code, _, stderr = _quick(*command)
        assert code == 0, stderr
    for name in (f"{EVAL}/predictions.csv", f"{EVAL}/confusion.csv", f"{CLUSTERS}/clusters.csv"):
        assert (again / name).read_bytes() == (run / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "at", "command", "writer"),
    [
        ("frames/shards/shard-00000.h5", -9, "train", "extract"),
        ("toy/toy.csv", -4, "train", "extract"),
        ("train/checkpoints/last.pt", -9, "inspect-clusters", "train"),
        ("frames/manifest.json", -4, "eval", "train"),
    ],
)
def test_broken_link_stops_the_next_stage(
    copy: Path, name: str, at: int, command: str, writer: str
) -> None:
    """One byte changed: exit code 2, one line with the file and the command to rerun, nothing written."""
    flip_byte(copy / name, at=at)
    before = _files(copy)
    subject = copy / ("frames" if command == "train" else "train")
    code, stdout, stderr = _quick(command, subject, *FAST, "--out", copy / "new")
    assert (code, stdout) == (2, "")
    (line,) = stderr.splitlines()
    assert line.startswith(f"fvar: {copy / name}: ")
    assert f"rerun `fvar {writer}`" in line
    assert _files(copy) == before


def test_damaged_video_is_reported_and_refused(copy: Path) -> None:
    """A video cut short ends extract with 1 and its name; train refuses it until it is allowed."""
    with (copy / "toy" / "toy.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["split"] == "train")
    video = copy / "toy" / "videos" / row["video"]
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    extract = _commands(copy, copy / "toy" / "toy.csv", copy / "toy" / "videos")[0]
    code, stdout, stderr = _quick(*extract, "--overwrite")
    assert code == 1, stderr
    bad = [
        entry
        for entry in json.loads((copy / "frames" / "manifest.json").read_text())["videos"]
        if entry["status"] != "ok"
    ]
    assert [entry["id"] for entry in bad] == [row["id"]]
    assert f"{row['id']} is {bad[0]['status']}: " in stdout
    code, _, stderr = _quick("train", copy / "frames", *TRAIN, *FAST, "--out", copy / "new")
    assert code == 2
    assert f"videos are not complete, first {row['id']!r}" in stderr


def test_real_videos(shared: Path, tmp_path: Path) -> None:
    """Clips of UT-Interaction go through the four commands; every frame that they hold is in the store."""
    root = shared / "data" / "ut_interaction"
    if not root.is_dir():
        pytest.skip(f"wants the clips of UT-Interaction in {root}")
    with (root / "all.csv").open(newline="") as file:
        clips = list(csv.DictReader(file))
    chosen = [
        row for name in ("hug", "kick") for row in [r for r in clips if r["class"] == name][:3]
    ]
    source = _prepare(tmp_path) / "clips.csv"
    with source.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "video", "label", "split"])
        for number, row in enumerate(chosen):
            writer.writerow(
                [number, row["path"], row["class"], "test" if number % 3 == 2 else "train"]
            )
    for command in _commands(tmp_path, source, root / "videos"):
        code, _, stderr = _quick(*command)
        assert code == 0, stderr
    videos = json.loads((tmp_path / "frames" / "manifest.json").read_text())["videos"]
    assert [v["num_frames"] for v in videos] == [int(row["frames"]) for row in chosen]
    assert _summaries(tmp_path)[EVAL]["frames"] == sum(
        v["num_frames"] for v in videos if v["split"] == "test"
    )
