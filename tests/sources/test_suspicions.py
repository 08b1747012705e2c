"""Rows that are allowed and hardly meant are told, and with ``--strict`` refused."""

import unicodedata
from pathlib import Path

import pytest
from video_samples import Recorder, extract_config

from fvar.errors import SourceError
from fvar.sources.source_csv import SourceRow
from fvar.sources.suspicions import (
    check_label_forms,
    odd_labels,
    paths_of,
    repeated_videos,
    similar_path,
)
from fvar.stages.extract import extract


def _rows(*cells: tuple[str, str, str]) -> list[SourceRow]:
    return [
        SourceRow(f"v{n}", video, label, split)  # type: ignore[arg-type]
        for n, (video, label, split) in enumerate(cells)
    ]


def test_two_forms_of_a_word_are_refused() -> None:
    """NFC and NFD of one label are an error that shows both; one form alone is none."""
    composed = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    apart = unicodedata.normalize("NFD", composed)
    check_label_forms(_rows(("a", composed, "train"), ("b", composed, "test")))
    with pytest.raises(SourceError, match=r"'caf\\xe9' and 'cafe\\u0301': are one word in two"):
        check_label_forms(_rows(("a", composed, "train"), ("b", apart, "test")))


def test_labels_that_look_alike_are_told() -> None:
    """Case and blanks: one line with the first pair and the count of the others."""
    labels = ("pour", "Pour", "stir  tea", "stir tea", "cut")
    found = list(odd_labels(_rows(*((label, label, "train") for label in labels))))
    assert found == [
        "labels 'pour' and 'Pour' differ in case or blanks alone and are two classes, and 1 more such pairs"
    ]
    assert not list(odd_labels(_rows(("a", "pour", "train"), ("b", "pours", "train"))))


def test_a_video_in_two_splits_is_told() -> None:
    """By its path, however written; segments of one file may be in several splits."""
    rows = _rows(("a.mp4", "x", "train"), ("./a.mp4", "y", "test"), ("b.mp4", "x", "train"))
    assert list(repeated_videos(rows, paths_of(rows))) == [
        "'v0' and 'v1' are the same video with split 'train' and 'test', so results leak",
        "'v0' and 'v1' are the same video with label 'x' and 'y', only one can be right",
    ]
    unknown = _rows(("a.mp4", "", "test"), ("a.mp4", "x", "test"))
    assert not list(repeated_videos(unknown, paths_of(unknown)))
    segments = [
        SourceRow("s0", "a.mp4", "x", "train", end_seconds=1.0),
        SourceRow("s1", "a.mp4", "y", "test", start_seconds=1.0),
    ]
    assert not list(repeated_videos(segments, paths_of(segments)))


def test_extraction_tells_of_copies(samples: Path, tmp_path: Path) -> None:
    """A copy under another name is found by its content; `strict` refuses it, and the frames are kept."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (videos / name).write_bytes((samples / "plain.mp4").read_bytes())
    source = tmp_path / "s.csv"
    source.write_text("id,video,label,split\nv0,a.mp4,x,train\nv1,b.mp4,x,test\n")
    recorder = Recorder()
    extract(source, tmp_path / "out", extract_config(videos), recorder)
    line = "'v0' and 'v1' are the same video with split 'train' and 'test', so results leak"
    assert line in recorder.lines
    strict = extract_config(videos, strict=True)
    with pytest.raises(
        SourceError, match="so results leak; correct the rows, or leave out --strict"
    ):
        extract(source, tmp_path / "strict", strict, Recorder())
    source.write_text("id,video,label,split\nv0,a.mp4,x,train\nv1,a.mp4,X,train\n")
    with pytest.raises(SourceError, match="labels 'x' and 'X'"):
        extract(source, tmp_path / "new", strict, Recorder())
    assert not (tmp_path / "new").exists()


def test_a_name_in_another_form_is_found(tmp_path: Path) -> None:
    """Another case and another Unicode form on the way are found; what is not there is not."""
    composed = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    folder = tmp_path / unicodedata.normalize("NFD", composed)
    folder.mkdir()
    (folder / "Clip.MP4").touch()
    assert similar_path(tmp_path / composed / "clip.mp4") == folder / "Clip.MP4"
    assert similar_path(tmp_path / composed / "other.mp4") is None
    assert similar_path(folder / "Clip.MP4") is None
    assert similar_path(tmp_path / "no" / "clip.mp4") is None
