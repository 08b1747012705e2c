"""``fvar extract`` into a folder that exists: finished shards are kept, what changed is redone."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from video_samples import (
    WHOLE,
    Recorder,
    before_decode,
    decoded_names,
    extract_config,
    write_source,
)

from fvar.config import ExtractConfig
from fvar.errors import ManifestError, StoppedError
from fvar.extraction import run as extraction
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract
from fvar.store.manifest import FramesManifest
from fvar.store.provenance import check_files


def _config(samples: Path, **settings: Any) -> ExtractConfig:
    return extract_config(samples, **({"videos_per_shard": 2, "workers": 2} | settings))


def _run(folder: Path, source: Path, config: ExtractConfig, **options: Any) -> FramesManifest:
    return extract(source, folder / "out", config, SilentReporter(), **options)


def _shard_files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out" / "shards").iterdir())


@pytest.mark.slow
def test_a_complete_run_is_not_replaced(samples: Path, tmp_path: Path) -> None:
    """A complete run is refused without --overwrite; with it, no shard of the old one stays."""
    _run(tmp_path, write_source(tmp_path, WHOLE), _config(samples))
    source = write_source(tmp_path, WHOLE[:1])
    with pytest.raises(ManifestError, match="holds a complete run"):
        _run(tmp_path, source, _config(samples))
    assert len(_shard_files(tmp_path)) == 6
    manifest = _run(tmp_path, source, _config(samples), overwrite=True)
    assert _shard_files(tmp_path) == ["shard-00000.h5", "shard-00000.json"]
    assert len(manifest.outputs) == 1


def _stop_at_the_last(path: Path) -> None:
    if path.name == WHOLE[4]:
        raise KeyboardInterrupt


@pytest.fixture
def interrupted(samples: Path, tmp_path: Path) -> Path:
    """Return a source CSV whose extraction was interrupted at its fifth video, in the third shard."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in WHOLE:
        shutil.copy(samples / name, videos)
    source = write_source(tmp_path, WHOLE)
    with pytest.MonkeyPatch.context() as patch:
        before_decode(patch, _stop_at_the_last)
        with pytest.raises(KeyboardInterrupt):
            _run(tmp_path, source, _config(videos))
    return source


def test_a_rerun_redoes_only_what_is_missing(
    tmp_path: Path, interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption leaves whole shards with their records; the rerun decodes the last video only.

    The result is that of an uninterrupted run.
    """
    files = [f"shard-0000{n}.{end}" for n in range(2) for end in ("h5", "json")]
    assert _shard_files(tmp_path) == files
    assert not (tmp_path / "out" / "manifest.json").exists()
    decoded = decoded_names(monkeypatch)
    manifest = _run(tmp_path, interrupted, _config(tmp_path / "videos", workers=1))
    assert decoded == WHOLE[4:]
    (tmp_path / "again").mkdir()
    again = _run(tmp_path / "again", interrupted, _config(tmp_path / "videos"))
    assert (manifest.videos, manifest.outputs) == (again.videos, again.outputs)
    check_files(tmp_path / "out" / "manifest.json", manifest)


def _change_video(tmp_path: Path) -> None:
    """Append a comment box: the frames are the same, the file is not."""
    with (tmp_path / "videos" / WHOLE[0]).open("ab") as file:
        file.write(b"\0\0\0\x0cfreeabcd")


def _change_row(tmp_path: Path) -> None:
    path = tmp_path / "source.csv"
    path.write_text(path.read_text().replace("c1", "other"))


def _damage(name: str) -> Any:
    def change(tmp_path: Path) -> None:
        path = tmp_path / "out" / "shards" / name
        path.write_bytes(path.read_bytes()[:-10])

    return change


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "settings", "redone"),
    [
        (lambda _: None, {"quality": 3}, WHOLE),
        (lambda _: None, {"short_side": 18}, WHOLE),
        (lambda _: None, {"videos_per_shard": 3}, WHOLE[4:]),
        (lambda _: None, {"videos_per_shard": 1}, WHOLE),
        (lambda _: None, {"stride": 2}, WHOLE),
        (lambda _: None, {"fps": 5.0}, WHOLE),
        (lambda _: None, {"workers": 1, "max_gb": 1.0}, WHOLE[4:]),
        (_change_video, {}, [WHOLE[0], WHOLE[1], WHOLE[4]]),
        (_change_row, {}, WHOLE),
        (_damage("shard-00001.h5"), {}, WHOLE[2:]),
        (_damage("shard-00001.json"), {}, WHOLE[2:]),
        (lambda p: (p / "out/shards/shard-00000.h5").unlink(), {}, [*WHOLE[:2], WHOLE[4]]),
    ],
)
def test_what_changed_is_redone(
    tmp_path: Path,
    interrupted: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Any,
    settings: dict[str, Any],
    redone: list[str],
) -> None:
    """A shard is kept only if rows, settings, video files and its own bytes are what they were."""
    change(tmp_path)
    decoded = decoded_names(monkeypatch)
    manifest = _run(tmp_path, interrupted, _config(tmp_path / "videos", **settings))
    assert sorted(decoded) == sorted(redone)
    assert manifest.summary.ok == 5
    check_files(tmp_path / "out" / "manifest.json", manifest)


def test_unplanned_shards_are_deleted(samples: Path, tmp_path: Path) -> None:
    """Files of a killed run, or of a run with more rows, are deleted; files of others are not."""
    folder = tmp_path / "out" / "shards"
    folder.mkdir(parents=True)
    ours = ["shard-00007.h5", "shard-00007.json", ".shard-00000.h5.123.partial"]
    for name in [*ours, "notes.txt"]:
        (folder / name).write_text("x")
    _run(tmp_path, write_source(tmp_path, WHOLE[:1]), _config(samples))
    assert _shard_files(tmp_path) == ["notes.txt", "shard-00000.h5", "shard-00000.json"]


@pytest.mark.slow
def test_max_gb_stops(samples: Path, tmp_path: Path) -> None:
    """The store never outgrows --max-gb, which is announced; with more room a rerun continues."""
    source = write_source(tmp_path, WHOLE)
    for max_gb, kept in ((1e-6, []), (6e-5, ["shard-00000.h5", "shard-00000.json"])):
        reporter = Recorder()  # a video takes about 25 kB
        config = _config(samples, max_gb=max_gb, workers=1)
        with pytest.raises(StoppedError, match=f"more than --max-gb {max_gb:g}"):
            extract(source, tmp_path / "out", config, reporter)
        assert f"more than --max-gb {max_gb:g}" in reporter.lines[1]
        assert _shard_files(tmp_path) == kept
    reporter = Recorder()
    extract(source, tmp_path / "out", _config(samples), reporter)
    assert reporter.notes[0] == "shards/shard-00000.h5 is there already"


def test_a_folder_that_cannot_be_cleared(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When old shards cannot be deleted, that is a StoppedError with the folder."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(extraction, "remove_unplanned", refuse)
    with pytest.raises(StoppedError, match=r"out: cannot be cleared .*Permission denied"):
        _run(tmp_path, write_source(tmp_path, WHOLE[:1]), _config(samples))
