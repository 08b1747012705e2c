"""``fvar extract --update`` decodes only what is new or changed, and ``--dry-run`` writes nothing."""

from pathlib import Path

import pytest
from kill_sweep import finished_shards
from typer.testing import CliRunner
from video_samples import NAMES, Run, decoded_names, extract_config, write_source

from cli.main import app
from fvar.errors import ManifestError
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract, preview
from fvar.store.frame_store import FrameStore


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 1, 3])
def test_rows_added_afterwards(
    run: Run, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """Wherever a row is put in, `update` decodes it alone, and every video is what it would have been."""
    run()
    before = finished_shards(tmp_path / "out")
    names = [*NAMES[:place], "turned.mp4", *NAMES[place:]]
    source = tmp_path / "source.csv"
    lines = source.read_text().splitlines()
    lines.insert(place + 1, "new,turned.mp4,c0,test")
    source.write_text("\n".join(lines))
    decoded = decoded_names(monkeypatch)
    manifest = extract(
        source, tmp_path / "out", extract_config(videos), SilentReporter(), update=True
    )
    assert decoded == ["turned.mp4"]
    assert [video.video for video in manifest.videos] == names
    assert finished_shards(tmp_path / "out").items() >= before.items()
    with FrameStore(tmp_path / "out") as store:
        for video in manifest.videos:
            assert store.read(str(video.shard), video.id).num_frames == video.num_frames > 0
    # and once more, after an interruption that lost the manifest
    (tmp_path / "out" / "manifest.json").unlink()
    again = extract(source, tmp_path / "out", extract_config(videos), SilentReporter())
    assert (again.videos, decoded) == (manifest.videos, ["turned.mp4"])


def test_another_time_limit_redoes_nothing(run: Run, tmp_path: Path) -> None:
    """A higher limit for one video keeps the results of the others."""
    run()
    before = finished_shards(tmp_path / "out")
    run(time_limit_seconds=1000, update=True)
    assert finished_shards(tmp_path / "out") == before


def test_update_and_overwrite_exclude_each_other(videos: Path, tmp_path: Path) -> None:
    """Keeping and replacing cannot both be meant."""
    source = write_source(tmp_path, NAMES)
    arguments = ["extract", str(source), "--videos", str(videos), "--update", "--overwrite"]
    ended = CliRunner().invoke(app, arguments)
    assert (ended.exit_code, ended.stderr) == (
        2,
        "fvar: --update: excludes --overwrite; pass one of the two\n",
    )


@pytest.mark.slow
def test_a_preview_writes_nothing(run: Run, videos: Path, tmp_path: Path) -> None:
    """It shows what is absent, done, to be done and to be redone, and touches no file."""
    names = [*NAMES, "gone.mp4"]
    source = write_source(tmp_path, names)
    seen = preview(source, tmp_path / "out", extract_config(videos), SilentReporter())
    assert not (tmp_path / "out").exists()
    assert (seen.num_videos, seen.num_kept, seen.num_shards) == (4, 0, 4)
    assert [row.video for row in seen.absent] == ["gone.mp4"]
    assert seen.estimate is not None
    assert seen.estimate.seconds > 0
    manifest = run(names)
    assert seen.estimate.frames == pytest.approx(manifest.summary.frames, rel=0.1)
    assert seen.estimate.num_bytes == pytest.approx(manifest.summary.num_bytes, rel=0.2)
    with (videos / NAMES[0]).open("ab") as file:
        file.write(b"\0\0\0\x0cfreeabcd")
    before = finished_shards(tmp_path / "out")
    seen = preview(source, tmp_path / "out", extract_config(videos), SilentReporter(), update=True)
    assert (seen.num_kept, seen.redone) == (3, ["shards/shard-00000.h5"])
    assert finished_shards(tmp_path / "out") == before
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_the_command_tries_dry(videos: Path, tmp_path: Path) -> None:
    """`--dry-run` prints the estimate and what is missing, ends with code 1 for it, and writes nothing."""
    source = write_source(tmp_path, [*NAMES, "gone.mp4"])
    arguments = ["extract", str(source), "--videos", str(videos), "--out", str(tmp_path / "o")]
    ended = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert ended.exit_code == 1
    assert "4 videos, about" in ended.stdout
    assert "warning: v3 is not there: gone.mp4" in ended.stdout
    assert "4 of 4 videos to extract, into 1 shards" in ended.stdout
    assert "nothing was written" in ended.stdout
    assert not (tmp_path / "o").exists()


def test_a_file_where_shards_belong(videos: Path, tmp_path: Path) -> None:
    """It is refused before anything is estimated, by `--dry-run` too."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "shards").touch()
    source = write_source(tmp_path, NAMES)
    for command in (extract, preview):
        with pytest.raises(ManifestError, match=r"shards: is a file, an output must be a folder"):
            command(source, tmp_path / "out", extract_config(videos), SilentReporter())
