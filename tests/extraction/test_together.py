"""Small videos that share an ffmpeg: frames and verdicts are those of each alone, whatever its neighbours."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fvar.config import ExtractConfig
from fvar.errors import StoppedError
from fvar.extraction import make_shards as making
from fvar.extraction.decode import Decoded, Decoder, Source
from fvar.extraction.ffmpeg import DecodeSettings
from fvar.extraction.probe.pool import Probes
from fvar.extraction.program import Ffmpeg, Running, find_ffmpeg
from fvar.extraction.shards import Job
from fvar.extraction.spool import Spool
from fvar.reporting import SilentReporter
from fvar.stages.extract import extract
from fvar.store.encoded_video import ARRAYS
from fvar.store.frame_store import FrameStore

GOOD = ["plain.mp4", "plain.mkv", "b frames.avi", "vfr.mp4", "turned.mp4", "wide pixels.mp4"]
BAD = ["cut plain.mp4", "cut plain.mkv", "text.mp4", "empty.mp4", "trimmed.mp4", "gone.mp4"]
SETTINGS = DecodeSettings(32, 2, time_limit_seconds=60)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that takes the number of inputs of every ffmpeg that is started."""
    inputs: list[int] = []
    start = Running.start

    def count(running: Running, arguments: list[str], **options: Any) -> Any:
        if "-xerror" in arguments:
            inputs.append(arguments.count("-i"))
        return start(running, arguments, **options)

    monkeypatch.setattr(Running, "start", count)
    return inputs


@pytest.fixture
def program_of(tmp_path: Path) -> Callable[[str], Ffmpeg]:
    """Return what makes a program that does as a script says with the real ffmpeg in `$FFMPEG`."""

    def make(script: str) -> Ffmpeg:
        path = tmp_path / "ffmpeg"
        path.write_text(f"#!/bin/bash\nFFMPEG={find_ffmpeg().path}\n{script}\n")
        path.chmod(0o755)
        return Ffmpeg(str(path), find_ffmpeg().version)

    return make


def _sources(samples: Path, names: Sequence[str], **options: Any) -> list[Source]:
    return [Source(samples / name, sha256=name, **options) for name in names]


def _plain(decoded: list[Decoded]) -> list[Any]:
    """Return all there is of each part, in a form that can be compared."""
    return [
        (
            replace(part, video=None),
            part.video
            and [getattr(part.video, name).tolist() for name in ARRAYS]
            + [
                getattr(part.video, name)
                for name in (
                    "width",
                    "height",
                    "fps",
                    "rotation",
                    "source_sha256",
                    "ffmpeg_version",
                )
            ],
        )
        for part in decoded
    ]


@pytest.mark.parametrize(
    ("settings", "intervals"),
    [
        (SETTINGS, [(None, None)]),
        (replace(SETTINGS, stride=3, quality=1), [(None, None)]),
        (replace(SETTINGS, fps=7.0), [(0.2, 0.7), (None, 0.5), (90.0, None)]),
    ],
)
def test_together_is_as_alone(
    samples: Path,
    probes: Probes,
    started: list[int],
    settings: DecodeSettings,
    intervals: list[tuple[float | None, float | None]],
) -> None:
    """Bytes, times, sizes, rates and reasons are the same, and one ffmpeg did it."""
    decoder = Decoder(find_ffmpeg(), settings, probes)
    sources = _sources(samples, GOOD, intervals=intervals)
    together = decoder.decode_together(sources)
    assert started == [len(GOOD)]
    for source, found in zip(sources, together, strict=True):
        assert found is not None
        assert _plain(found) == _plain(decoder.decode(source))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_neighbour(samples: Path, probes: Probes, name: str) -> None:
    """What can be told of each is what is told of it alone; the rest is left to be decoded alone."""
    decoder = Decoder(find_ffmpeg(), SETTINGS, probes)
    sources = _sources(samples, [GOOD[0], name, GOOD[3]])
    together = decoder.decode_together(sources)
    for source, found in zip(sources, together, strict=True):
        assert found is None or _plain(found) == _plain(decoder.decode(source))
    assert together[1] is None or together[1][0].status == "failed"


def test_one_is_not_decoded_together(samples: Path, probes: Probes, started: list[int]) -> None:
    """Alone among its neighbours, or without any, nothing is gained: no ffmpeg is started."""
    decoder = Decoder(find_ffmpeg(), SETTINGS, probes)
    assert decoder.decode_together(_sources(samples, [])) == []
    assert decoder.decode_together(_sources(samples, [GOOD[0]])) == [None]
    alone, gone = decoder.decode_together(_sources(samples, [GOOD[0], "gone.mp4"]))
    assert alone is None
    assert gone is not None
    assert gone[0].reason == "cannot be opened as a video (No such file or directory)"
    assert not started


@pytest.mark.parametrize("change", [{"hdr": "smpte2084"}, {"size": (1921, 1092)}])
def test_large_pictures_are_decoded_alone(
    samples: Path,
    probes: Probes,
    started: list[int],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
) -> None:
    """What takes much memory never takes it beside others: HDR, and more pixels than HD."""
    claims = Probes.claims

    def some(ours: Probes, path: Path, **options: Any) -> Any:
        found = claims(ours, path, **options)
        return replace(found, **change) if path.name == GOOD[1] else found

    monkeypatch.setattr(Probes, "claims", some)
    decoder = Decoder(find_ffmpeg(), SETTINGS, probes)
    first, large, last = decoder.decode_together(_sources(samples, GOOD[:3]))
    assert (large, started) == (None, [2])
    assert first is not None
    assert last is not None


@pytest.mark.parametrize(
    "script",
    [
        'for n in {3..40}; do eval "exec $n>&-"; done; exec $FFMPEG "$@"',  # a container, say
        'case "$*" in *" -i "*" -i "*) kill -9 $$;; esac; exec $FFMPEG "$@"',
        'case "$*" in *" -i "*" -i "*) exit 1;; esac; exec $FFMPEG "$@"',
        # The first output is cut off in the midst of a picture.
        'case "$*" in *" -i "*" -i "*) $FFMPEG "$@" | head -c 9000;; *) exec $FFMPEG "$@";; esac',
    ],
    ids=["closes files", "is killed", "fails", "is cut off"],
)
def test_where_it_fails_together(
    samples: Path, probes: Probes, program_of: Callable[[str], Ffmpeg], script: str
) -> None:
    """An ffmpeg that fails with several is no verdict on them: alone, all is well."""
    decoder = Decoder(program_of(script), SETTINGS, probes)
    sources = _sources(samples, GOOD[:3])
    assert decoder.decode_together(sources) == [None] * 3
    for source in sources:
        assert [part.status for part in decoder.decode(source)] == ["ok"]


def test_a_silent_one_ends(
    samples: Path, probes: Probes, program_of: Callable[[str], Ffmpeg]
) -> None:
    """The wait for the next picture bounds several as it bounds one."""
    decoder = Decoder(
        program_of("exec sleep 60"), replace(SETTINGS, time_limit_seconds=0.5), probes
    )
    assert decoder.decode_together(_sources(samples, GOOD[:3])) == [None] * 3


@pytest.mark.parametrize("place", range(3))
@pytest.mark.timeout(60)
def test_what_takes_the_pictures_fails(samples: Path, probes: Probes, place: int) -> None:
    """A disk that is full for one of them ends all, at once, and is heard of; no pipe stays open."""
    asked = 0

    def refuse(_: int) -> None:
        raise StoppedError("disk", "is full", fix="free it")

    class Full(Spool):
        def append(self, data: bytes) -> None:
            refuse(len(data))

    def new_spool() -> Spool:
        nonlocal asked
        asked += 1
        return Full() if asked == place + 1 else Spool()

    before = _num_open_files()
    settings = replace(SETTINGS, time_limit_seconds=300)
    decoder = Decoder(find_ffmpeg(), settings, probes, new_spool=new_spool)
    with pytest.raises(StoppedError, match="disk: is full; free it"):
        decoder.decode_together(_sources(samples, ["plain.mp4"] * 3))
    assert _num_open_files() == before


def _num_open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_a_signal_is_no_verdict(
    samples: Path, probes: Probes, program_of: Callable[[str], Ffmpeg]
) -> None:
    """When a batch system asks ffmpeg to end, we stop; nothing is decoded once more."""
    decoder = Decoder(program_of("kill -TERM $$"), SETTINGS, probes)
    with pytest.raises(StoppedError, match="its ffmpeg was ended by signal 15"):
        decoder.decode_together(_sources(samples, GOOD[:2]))


def _jobs(folder: Path, sizes: list[int | None]) -> list[Job]:
    paths = [folder / f"{n}.mp4" for n in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.unlink(missing_ok=True)
        if size is not None:
            with path.open("wb") as file:
                file.truncate(size)
    return [Job(path, ()) for path in paths]


@given(
    sizes=st.lists(st.none() | st.integers(0, 3 * making._GROUP_BYTES), max_size=20),
    most=st.integers(0, 6),
)
def test_groups(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int | None], most: int
) -> None:
    """All videos in their order, each once; together only as many and as many bytes as may be."""
    folder = tmp_path_factory.getbasetemp() / "groups"
    folder.mkdir(exist_ok=True)
    jobs = _jobs(folder, sizes)
    groups = list(making._groups(jobs, most))
    assert [job for group in groups for job in group] == jobs
    size_of = {job.path: size for job, size in zip(jobs, sizes, strict=True)}
    for group in groups:
        assert 1 <= len(group) <= max(1, most)
        if len(group) > 1:
            found = [size_of[job.path] for job in group]
            assert None not in found
            assert sum(size for size in found if size is not None) <= making._GROUP_BYTES
    for group, after in pairwise(groups):  # none could have been larger
        found = [size_of[job.path] for job in [*group, after[0]]]
        fits = None not in found and sum(n for n in found if n is not None) <= making._GROUP_BYTES
        assert len(group) >= most or not fits


@pytest.fixture
def many(samples: Path, tmp_path: Path) -> Iterator[Path]:
    """Return a source CSV of 40 videos beside its folder, with bad ones and a folder among them."""
    names = [*GOOD, "cut plain.mp4", "text.mp4", *GOOD[:2], "gone.mp4"]
    videos = tmp_path / "videos"
    videos.mkdir()
    lines = ["id,video,label,split"]
    for n in range(40):
        name = names[n % len(names)]
        if name != "gone.mp4":
            shutil.copy(samples / name, videos / f"{n} {name}")
        lines.append(f"v{n},{n} {name},c,train")
    source = tmp_path / "source.csv"
    source.write_text("\n".join(lines), encoding="utf-8")
    yield source
    shutil.rmtree(videos)


def test_an_extraction_in_groups(
    many: Path, started: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is that of an extraction that decodes each video alone."""
    config = ExtractConfig.model_validate(
        {"videos": str(many.parent / "videos"), "short_side": 16, "workers": 1}
        | {"videos_per_shard": 7}
    )
    grouped = extract(many, many.parent / "grouped", config, SilentReporter())
    assert max(started) == 4
    with monkeypatch.context() as patch:
        patch.setattr(making, "_GROUP_VIDEOS", 1)
        started.clear()
        alone = extract(many, many.parent / "alone", config, SilentReporter())
    assert set(started) == {1}
    assert grouped.videos == alone.videos
    assert grouped.summary == alone.summary
    assert {video.status for video in alone.videos} == {"ok", "partial", "failed"}
    stores = [FrameStore(many.parent / name) for name in ("grouped", "alone")]
    for video in alone.videos:
        if video.shard is not None:
            ours, theirs = (store.read(video.shard, video.id) for store in stores)
            for name in ARRAYS:
                np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
            assert (
                replace(ours, **{n: getattr(theirs, n) for n in ARRAYS}).__dict__ == theirs.__dict__
            )
    for store in stores:
        store.close()
