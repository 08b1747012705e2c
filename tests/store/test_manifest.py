"""Manifests: what is written is read, and foreign content is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from chain_samples import FOLDERS, write_chain
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel
from training_samples import write_frames

from fvar.config import ExtractConfig
from fvar.errors import ManifestError
from fvar.store import manifest_file
from fvar.store.manifest import (
    CheckpointManifest,
    ClustersManifest,
    FramesManifest,
    FramesSummary,
    InputFile,
    OutputFile,
    PredictionsManifest,
    StageManifest,
    VideoEntry,
)
from fvar.store.manifest_file import check_out, locate, read_manifest, write_manifest


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small extraction; nobody writes into it."""
    return write_frames(tmp_path_factory.mktemp("run") / "frames")


def _json(path: Path) -> Any:
    return json.loads((path / "manifest.json").read_text())


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
seconds = st.none() | st.floats(0, 1e9)
counts = st.integers(0, 10**9)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
inside = st.from_regex(r"[\w ]{1,8}(/[\w ]{1,8}){0,2}", fullmatch=True)
entries = st.builds(
    VideoEntry,
    **dict.fromkeys(("id", "video", "label"), names),
    **dict.fromkeys(("start_seconds", "end_seconds"), seconds),
    **dict.fromkeys(("group", "reason", "note"), st.none() | names),
    num_frames=counts,
    shard=st.none() | inside,
    fps=st.none() | st.floats(0.1, 1e6),
)
manifests = st.builds(
    FramesManifest,
    config=st.builds(ExtractConfig, videos=names, max_gb=st.none() | st.floats(0.1, 1e6)),
    videos=st.lists(entries, max_size=4),
    versions=st.dictionaries(names, names, max_size=3),
    classes=st.lists(names, max_size=4),
    inputs=st.lists(st.builds(InputFile, path=names, sha256=hashes), max_size=3),
    outputs=st.lists(
        st.builds(OutputFile, path=inside, sha256=hashes, num_bytes=counts), max_size=3
    ),
)


@pytest.mark.slow
@given(written=manifests)
def test_written_then_read_is_the_same(
    written: FramesManifest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any text, time and number that a stage writes comes back from the disk unchanged."""
    folder = tmp_path_factory.getbasetemp() / "round-trip"
    write_manifest(folder, written)
    assert read_manifest(folder / "manifest.json", FramesManifest) == written


def test_every_stage_writes_what_it_reads(tmp_path: Path) -> None:
    """Reading and writing the manifests of a whole chain changes no byte, and finds each stage's class."""
    chain = write_chain(tmp_path)
    stages = (FramesManifest, CheckpointManifest, PredictionsManifest, ClustersManifest)
    for name, stage in zip(FOLDERS, stages, strict=True):
        path = chain / name / "manifest.json"
        before, found = path.read_bytes(), read_manifest(path, StageManifest)
        assert found == read_manifest(path, stage)
        write_manifest(path.parent, found)
        assert path.read_bytes() == before


def _records(data: Any) -> list[tuple[dict[str, Any], type[BaseModel]]]:
    """Return every record in a frames manifest with its class."""
    return [
        (data, FramesManifest),
        (data["config"], ExtractConfig),
        (data["summary"], FramesSummary),
        (data["videos"][1], VideoEntry),
        (data["outputs"][0], OutputFile),
        (data["inputs"][0], InputFile),
    ]


@given(data=st.data())
def test_every_misspelt_key_is_refused(
    frames: Path, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At any depth, a key with a letter dropped or doubled is named with the known keys of that record."""
    content = _json(frames)
    record, model = data.draw(st.sampled_from(_records(content)))
    key = data.draw(st.sampled_from(sorted(record)))
    at = data.draw(st.integers(0, len(key) - 1))
    wrong = data.draw(
        st.sampled_from([key[:at] + key[at + 1 :], key[:at] + key[at] + key[at:], key + "_"])
    )
    assume(wrong not in record)
    record[wrong] = record[key]
    path = tmp_path_factory.getbasetemp() / "misspelt.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ManifestError) as error:
        read_manifest(path, FramesManifest)
    known = ", ".join(field.alias or name for name, field in model.model_fields.items())
    assert f"{wrong}: is not a known key" in str(error.value)
    assert str(error.value).endswith(known)


def test_locate_takes_the_folder_or_the_file(frames: Path, tmp_path: Path) -> None:
    """A stage is named by its folder or its manifest; what is not there is an error that names it."""
    assert locate(frames) == locate(frames / "manifest.json") == frames / "manifest.json"
    for path, problem in ((tmp_path, "holds no manifest.json"), (tmp_path / "no", "not exist")):
        with pytest.raises(ManifestError) as error:
            locate(path)
        assert error.value.thing == str(path)
        assert problem in error.value.problem


def test_another_stages_manifest_is_refused(frames: Path) -> None:
    """The message names the command that wrote it and the command that is needed."""
    path = frames / "manifest.json"
    with pytest.raises(ManifestError) as error:
        read_manifest(path, CheckpointManifest)
    for part in (str(path), "`fvar extract`", "`fvar train`"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"schema": "fvar.frames/2"}', "has schema 'fvar.frames/2', must be one of"),
        ('{"schema": ["fvar.frames/1"]}', "has schema ['fvar.frames/1'], must be"),
        ('["fvar.frames/1"]', "has schema None, must be"),
        ("{}", "has schema None, must be"),
        ('{"schema_": "fvar.frames/1"}', "has schema None, must be"),
        ("{", "Expecting property name"),
        ("", "Expecting value"),
        ("[" * 100_000, "maximum recursion depth"),
        ('{"a":' * 100_000, "maximum recursion depth"),
        ("9" * 10_000, "Exceeds the limit"),
        ('{"schema": "fvar.frames/1", "versions": 3}', "versions"),
        (b"\xff\xfe{", "utf-8"),
    ],
)
def test_foreign_content_is_refused(tmp_path: Path, content: str | bytes, found: str) -> None:
    """A file that is no manifest of this version is one line with the file's name, however odd it is."""
    path = tmp_path / "manifest.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ManifestError) as error:
        read_manifest(path, FramesManifest)
    assert str(error.value).startswith(f"{path}: ")
    assert found in str(error.value)


def test_huge_manifest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file larger than any manifest is not read into memory."""
    monkeypatch.setattr(manifest_file, "_MAX_BYTES", 10)
    (tmp_path / "manifest.json").write_text('{"schema": 1}')
    with pytest.raises(ManifestError, match="has 13 bytes, must have at most 10"):
        read_manifest(tmp_path / "manifest.json", FramesManifest)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "..", ".", "", "a\\b", "a\0b"]
)
@pytest.mark.parametrize("record", ["outputs", "videos"])
def test_outputs_lie_inside_the_folder(
    frames: Path, tmp_path: Path, record: str, path: str
) -> None:
    """An output that is absolute, climbs out or names no file is refused, for shards of videos too."""
    content = _json(frames)
    content[record][0]["path" if record == "outputs" else "shard"] = path
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ManifestError, match="must be a relative path inside the folder"):
        read_manifest(tmp_path / "manifest.json", FramesManifest)


def test_check_out_keeps_other_stages_safe(frames: Path) -> None:
    """``--overwrite`` replaces a stage's own folder, never that of another stage."""
    check_out(frames, FramesManifest, overwrite=True)
    with pytest.raises(ManifestError, match="was written by `fvar extract`"):
        check_out(frames, CheckpointManifest, overwrite=True)
    with pytest.raises(ManifestError, match="holds a complete run"):
        check_out(frames, FramesManifest, overwrite=False)
    check_out(frames / "new", FramesManifest, overwrite=True)
