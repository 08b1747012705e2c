"""Videos that vanish, change or are put away: no wrong frames, and no frames lost."""

from pathlib import Path
from typing import Any

import pytest
from kill_sweep import finished_shards
from video_samples import NAMES, Recorder, Run, before_decode, extract_config, write_source

from fvar.errors import ConfigError, StoppedError
from fvar.extraction.decode import Decoded, Decoder
from fvar.stages.extract import extract, preview


@pytest.mark.slow
@pytest.mark.parametrize("how", ["vanished", "changed"])
def test_a_source_that_vanishes_or_changes(
    run: Run, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Frames of a file that changes after hashing get no wrong hash: it is failed, until `update`."""

    def change(path: Path) -> None:
        if path.name == NAMES[1]:
            path.rename(tmp_path / "away")
            if how == "changed":
                (videos / "turned.mp4").rename(path)

    with monkeypatch.context() as patch:
        before_decode(patch, change)
        manifest = run()
    assert [video.status for video in manifest.videos] == ["ok", "failed", "ok"]
    assert f"{how} while it was read" in (manifest.videos[1].reason or "")
    before = finished_shards(tmp_path / "out")
    if how == "vanished":
        (tmp_path / "away").rename(videos / NAMES[1])
    assert run(update=True).summary.ok == 3
    after = finished_shards(tmp_path / "out")
    assert [name[-4] for name in before if after[name] == before[name]] == ["0", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("update", [False, True])
def test_sources_put_away(run: Run, videos: Path, tmp_path: Path, update: bool) -> None:
    """Frames whose videos are gone (deleted, or a disk not mounted) stay when rows are added."""
    run()
    before = finished_shards(tmp_path / "out")
    if not update:
        (tmp_path / "out" / "manifest.json").unlink()
    for name in NAMES:
        (videos / name).unlink()
    source = write_source(tmp_path, [*NAMES, "turned.mp4"])
    reporter = Recorder()
    arguments = source, tmp_path / "out", extract_config(videos), reporter
    found = preview(*arguments, update=update)
    assert (found.absent, found.num_kept) == ([], 3)
    manifest = extract(*arguments, update=update)
    assert manifest.summary.ok == 4
    assert finished_shards(tmp_path / "out").items() >= before.items()
    expected = "3 videos are no longer there, first plain.mp4: their frames are kept"
    assert [line for line in reporter.lines if "no longer there" in line] == [expected, expected]


@pytest.mark.slow
def test_frames_that_could_not_be_made_again(run: Run, videos: Path, tmp_path: Path) -> None:
    """If a shard would be made again without a video that is gone, nothing is touched."""
    settings = {"videos_per_shard": 3}
    run(**settings)
    before = finished_shards(tmp_path / "out")
    (videos / NAMES[0]).unlink()
    names = [*NAMES[:2], "turned.mp4"]
    gone = f"{NAMES[0]}: cannot be read, and shards/shard-00000.h5, which holds .* --overwrite"
    for _ in range(2):
        with pytest.raises(ConfigError, match=gone):
            run(names, **settings, update=True)
    assert finished_shards(tmp_path / "out") == before
    assert (tmp_path / "out" / "manifest.json").exists()
    manifest = run(names, **settings, overwrite=True)
    assert [video.status for video in manifest.videos] == ["failed", "ok", "ok"]


def test_a_disk_of_videos_that_is_taken_away(
    run: Run, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the whole folder is gone, its videos have not failed: we stop, and what is done is kept."""
    decode = Decoder.decode

    def take_away(decoder: Decoder, path: Path, *rest: Any, **hashed: Any) -> list[Decoded]:
        decoded = decode(decoder, path, *rest, **hashed)
        videos.rename(tmp_path / "away")
        return decoded

    monkeypatch.setattr(Decoder, "decode", take_away)
    with pytest.raises(StoppedError, match=r"videos: is gone or empty; bring the videos back"):
        run()
    assert list(finished_shards(tmp_path / "out")) == ["shard-00000.h5"]
