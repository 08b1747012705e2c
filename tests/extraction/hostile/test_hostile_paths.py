"""Hostile source CSVs: no path leaves the folder of the videos, no name does more than name."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from opened import opened_in
from typer.testing import CliRunner, Result

from cli.main import app
from fvar.errors import SourceError
from fvar.sources.source_csv import SourceRow, read_source, video_path
from fvar.store.manifest import FramesManifest
from fvar.store.manifest_file import read_manifest
from fvar.store.provenance import check_files

_MARKUP = "[red]<script>alert(1)</script>[/red]"


@pytest.fixture
def videos(samples: Path, tmp_path: Path) -> Path:
    """Return a folder of one video; `far` beside it holds another, to which two links lead."""
    home, far = tmp_path / "home", tmp_path / "far"
    for folder in (home, far):
        folder.mkdir()
        shutil.copy(samples / "plain.mp4", folder / "a.mp4")
    (home / "link.mp4").symlink_to("../far/a.mp4")
    (home / "folder").symlink_to(far)
    (home / "loop.mp4").symlink_to("loop.mp4")
    (home / "device.mp4").symlink_to("/dev/zero")
    return home


def _csv(folder: Path, *rows: tuple[str, str, str]) -> Path:
    path = folder / "source.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("id", "video", "label", "split"), *((*row, "train") for row in rows)]
        )
    return path


def _extract(source: Path, videos: Path, out: Path) -> Result:
    flags = ["--videos", str(videos), "--out", str(out), "--short-side", "16", "--workers", "1"]
    return CliRunner().invoke(app, ["extract", str(source), *flags])


@pytest.mark.parametrize(
    ("video", "problem"),
    [
        ("../far/a.mp4", "leaves the folder by '..'"),
        ("x/../../far/a.mp4", "leaves the folder by '..'"),
        ("/etc/passwd", "is absolute"),
        ("C:/a.mp4", "is absolute"),
        ("..\\far\\a.mp4", "holds a backslash"),
        ("link.mp4", "is a link to"),
        ("folder/a.mp4", "is a link to"),
        ("device.mp4", "is a link to /dev/zero, outside"),
        ("a.mp4\0.txt", "holds a control or invisible character"),
        ("a\n.mp4", "holds a control or invisible character"),
    ],
)
def test_no_path_leaves_the_folder(videos: Path, video: str, problem: str) -> None:
    """A path that leads out, in whatever way, is one line with code 2; nothing is read or written."""
    source = _csv(videos.parent, ("good", "a.mp4", "x"), ("bad", video, "x"))
    with opened_in(videos.parent / "far") as outside:
        ended = _extract(source, videos, videos.parent / "out")
    assert ended.exit_code == 2
    assert problem in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not outside
    assert not (videos.parent / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "video",
    [
        "http://127.0.0.1:9/a.mp4", "concat:a.mp4|a.mp4", "file:a.mp4", "pipe:0", "crypto:a.mp4",
        "subfile,,start,0,end,0,,:a.mp4", "data:video/mp4;base64,AAAA", "~/a.mp4", "$HOME", "%61.mp4",
        "*.mp4", "a.mp4 -y x", "y" * 300, "y/" * 2000,
    ],
)  # fmt: skip
def test_a_path_is_not_interpreted(videos: Path, video: str) -> None:
    """What would be an address, a protocol, a glob or too long a name is a file that is not there."""
    source = _csv(videos.parent, ("good", "a.mp4", "x"), ("bad", video, "x"))
    ended = _extract(source, videos, videos.parent / "out")
    assert ended.exit_code == 1, ended.output
    entry = read_manifest(videos.parent / "out" / "manifest.json", FramesManifest).videos[1]
    assert entry.status == "failed"
    assert entry.reason is not None
    assert entry.reason.startswith(str(videos))


def test_none_of_the_videos_and_a_long_name(videos: Path) -> None:
    """When no video is there, a name that is too long for the system counts as a missing one."""
    ended = _extract(_csv(videos.parent, ("a", "y" * 300, "x")), videos, videos.parent / "out")
    assert ended.exit_code == 2
    assert "holds none of the 1 videos" in ended.stderr


def test_a_link_in_a_circle(videos: Path) -> None:
    """A link that leads back to itself is no video, in one line; never a crash."""
    source = _csv(videos.parent, ("good", "a.mp4", "x"), ("bad", "loop.mp4", "x"))
    ended = _extract(source, videos, videos.parent / "out")
    assert ended.exit_code in {1, 2}
    assert "loop.mp4" in ended.output


@pytest.mark.parametrize(
    "name",
    ["\x1b[31ma", "a\nb", "a\rb", "a\0", "\u202ea", "a\u200f", "a\u200b", "\ufeffa", "a\u2028", "\x9b2J",
     "a\u2060b", "\U000e0041"],
)  # fmt: skip
@pytest.mark.parametrize("column", ["id", "label", "video"])
def test_names_hold_nothing_that_deceives(tmp_path: Path, column: str, name: str) -> None:
    """Escapes, line breaks, marks that turn the direction and what cannot be seen are refused, by column."""
    row = {"id": "a", "video": "a.mp4", "label": "x"} | {column: name}
    with pytest.raises(SourceError) as caught:
        read_source(_csv(tmp_path, (row["id"], row["video"], row["label"])))
    assert f"line 2, column {column}: " in str(caught.value)
    assert str(caught.value).isprintable()


def test_scripts_and_emoji_are_names(tmp_path: Path) -> None:
    """Letters of any script, the joiners that words and emoji need and accents stay allowed."""
    names = ["क्\u200dष", "👩\u200d🍳", "école", "日本語", "אבג"]
    rows = read_source(_csv(tmp_path, *((name, "a.mp4", "x") for name in names)))
    assert [row.id for row in rows] == names


def test_markup_is_shown_as_it_is(videos: Path) -> None:
    """Rich markup and HTML in id, path and label arrive in terminal and manifest as they were written."""
    source = _csv(videos.parent, (_MARKUP, _MARKUP, _MARKUP), ("good", "a.mp4", _MARKUP))
    ended = _extract(source, videos, videos.parent / "out")
    assert ended.exit_code == 1
    assert f"{_MARKUP} is failed: {videos}/{_MARKUP} does not exist" in ended.stdout
    data = json.loads((videos.parent / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert data["classes"] == [_MARKUP]
    assert [data["videos"][0][key] for key in ("id", "video", "label")] == [_MARKUP] * 3


def test_folders_that_are_not_utf8(videos: Path) -> None:
    """Folders and files with undecodable names are read and written, and the manifest finds them again."""
    root = videos.parent / os.fsdecode(b"root\xff")
    root.mkdir()
    source = _csv(root, ("a", "a.mp4", "x"))
    ended = _extract(source, shutil.copytree(videos, root / "v", symlinks=True), root / "out")
    assert ended.exit_code == 0, ended.output
    manifest = read_manifest(root / "out" / "manifest.json", FramesManifest)
    assert Path(manifest.config.videos) == root / "v"
    check_files(root / "out" / "manifest.json", manifest)


def test_the_source_is_a_file(videos: Path) -> None:
    """A pipe or a folder in the place of the CSV is one line with code 2, not an endless wait."""
    os.mkfifo(videos.parent / "pipe.csv")
    for path in (videos.parent / "pipe.csv", videos, Path("/dev/zero")):
        ended = _extract(path, videos, videos.parent / "out")
        assert ended.exit_code == 2
        assert f"{path}: is not a file; give a source CSV" in ended.stderr


def test_links_are_followed_if_asked(videos: Path) -> None:
    """A tree of links is a usual way to choose clips; whoever trusts the list may say so."""
    for name in ("link.mp4", "folder/a.mp4"):
        row = SourceRow("v", name, "x", "train")
        assert video_path(videos, row, follow_links=True) == videos.parent / "far" / "a.mp4"
    with pytest.raises(SourceError, match="leads back to itself"):
        video_path(videos, SourceRow("v", "loop.mp4", "x", "train"), follow_links=True)
