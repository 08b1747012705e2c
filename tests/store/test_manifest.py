"""Manifests: what is written is read, what is foreign is refused, what changed is named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel
from training_samples import ROWS, write_frames

from fvar.config import EvalConfig, ExtractConfig, InspectConfig, TrainConfig
from fvar.errors import ManifestError
from fvar.store.manifest import (
    CheckpointManifest,
    ClustersManifest,
    ClustersSummary,
    EvalSummary,
    FramesManifest,
    InputFile,
    OutputFile,
    PredictionsManifest,
    StageManifest,
    TrainSummary,
    VideoEntry,
    check_out,
    locate,
    read_manifest,
    write_manifest,
)
from fvar.store.provenance import check_files, input_file, output_file, tool_versions

HASH = "0" * 64


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small extraction; nobody writes into it."""
    return write_frames(tmp_path_factory.mktemp("run") / "frames")


@pytest.fixture
def mine(frames: Path, tmp_path: Path) -> Path:
    """Return a copy of the extraction, its source CSV beside it, to be damaged."""
    shutil.copytree(frames, tmp_path / "frames")
    shutil.copy(frames.parent / "source.csv", tmp_path)
    return tmp_path / "frames"


def _json(path: Path) -> Any:
    return json.loads((path / "manifest.json").read_text())


def _flip_byte(path: Path, *, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def _check(folder: Path) -> None:
    check_files(folder / "manifest.json", read_manifest(folder / "manifest.json", FramesManifest))


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
seconds = st.none() | st.floats(0, 1e9)
counts = st.integers(0, 10**9)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
inside = st.from_regex(r"[\w ]{1,8}(/[\w ]{1,8}){0,2}", fullmatch=True)
entries = st.builds(
    VideoEntry,
    id=names,
    video=names,
    label=names,
    split=st.sampled_from(["train", "val", "test"]),
    start_seconds=seconds,
    end_seconds=seconds,
    group=st.none() | names,
    status=st.sampled_from(["ok", "partial", "failed"]),
    reason=st.none() | names,
    num_frames=counts,
    shard=st.none() | inside,
    fps=st.none() | st.floats(0.1, 1e6),
)
inputs = st.lists(st.builds(InputFile, path=names, sha256=hashes), max_size=3)
outputs = st.lists(st.builds(OutputFile, path=inside, sha256=hashes, num_bytes=counts), max_size=3)
common: dict[str, Any] = {
    "versions": st.dictionaries(names, names, max_size=3),
    "classes": st.lists(names, max_size=4),
    "inputs": inputs,
    "outputs": outputs,
}
accuracies = st.floats(0, 1)
manifests = st.one_of(
    st.builds(
        FramesManifest,
        config=st.builds(ExtractConfig, videos=names, max_gb=st.none() | st.floats(0.1, 1e6)),
        videos=st.lists(entries, max_size=4),
        **common,
    ),
    st.builds(
        CheckpointManifest,
        config=st.builds(TrainConfig, seed=st.integers(0, 2**63 - 1), lr=st.floats(1e-9, 1e3)),
        summary=st.builds(TrainSummary, train_loss=st.floats(0, 100), seconds=st.floats(0, 1e6)),
        **common,
    ),
    st.builds(
        PredictionsManifest,
        config=st.builds(EvalConfig),
        summary=st.builds(
            EvalSummary,
            top1=accuracies,
            top5=st.none() | accuracies,
            mean_class_accuracy=accuracies,
        ),
        **common,
    ),
    st.builds(
        ClustersManifest,
        config=st.builds(InspectConfig, limit=st.none() | st.integers(1, 99)),
        summary=st.builds(ClustersSummary),
        **common,
    ),
)


@given(manifest=manifests)
def test_written_then_read_is_the_same(
    manifest: StageManifest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever a stage may say comes back from the disk as it was."""
    folder = tmp_path_factory.getbasetemp() / "round-trip"
    write_manifest(folder, manifest)
    assert read_manifest(folder / "manifest.json", type(manifest)) == manifest


def _records(data: Any, model: type[BaseModel]) -> list[tuple[dict[str, Any], type[BaseModel]]]:
    """Return every record in a frames manifest with its class."""
    found = [(data, model)]
    fields = model.model_fields
    found += [
        (data["config"], fields["config"].annotation),
        (data["summary"], fields["summary"].annotation),
    ]
    found += [
        (data["videos"][1], VideoEntry),
        (data["outputs"][0], OutputFile),
        (data["inputs"][0], InputFile),
    ]
    return found


@given(data=st.data())
def test_every_misspelt_key_is_refused(
    frames: Path, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At any depth, a key with a letter dropped or doubled is named with the known ones of that record."""
    content = _json(frames)
    record, model = data.draw(st.sampled_from(_records(content, FramesManifest)))
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
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).endswith(
        f"{wrong}: is not a known key; remove it or use one of: {known}"
    )


def test_locate_takes_the_folder_or_the_file(frames: Path) -> None:
    """A stage is named by its folder or by its manifest."""
    assert locate(frames) == locate(frames / "manifest.json") == frames / "manifest.json"


def test_locate_names_what_is_not_there(tmp_path: Path) -> None:
    """An unfinished folder and an absent path are told apart."""
    with pytest.raises(ManifestError) as error:
        locate(tmp_path)
    assert str(error.value).startswith(
        f"{tmp_path}: holds no manifest.json: no stage finished there"
    )
    with pytest.raises(ManifestError) as error:
        locate(tmp_path / "no")
    assert str(error.value).startswith(f"{tmp_path / 'no'}: does not exist; give the folder")


def test_another_stages_manifest_is_refused(frames: Path) -> None:
    """The message says who wrote it and what is wanted."""
    path = frames / "manifest.json"
    with pytest.raises(ManifestError) as error:
        read_manifest(path, CheckpointManifest)
    assert str(error.value) == (
        f"{path}: was written by `fvar extract`, wanted 'fvar.checkpoint/1'; "
        "give a folder that `fvar train` wrote"
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"schema": "fvar.frames/2"}', "has schema 'fvar.frames/2', wanted 'fvar.frames/1'"),
        ('{"schema": ["fvar.frames/1"]}', "has schema ['fvar.frames/1'], wanted"),
        ('["fvar.frames/1"]', "has schema None, wanted"),
        ("{}", "has schema None, wanted"),
        ('{"schema_": "fvar.frames/1"}', "has schema None, wanted"),
        ("{", "is not a readable manifest (Expecting property name"),
        ("", "is not a readable manifest (Expecting value"),
        ("[" * 100_000, "is not a readable manifest (maximum recursion depth"),
        ('{"a":' * 100_000, "is not a readable manifest (maximum recursion depth"),
        ("9" * 10_000, "is not a readable manifest (Exceeds the limit"),
        ('{"schema": "fvar.frames/1", "versions": 3}', ""),
    ],
)
def test_foreign_content_is_refused(tmp_path: Path, content: str, found: str) -> None:
    """What is no manifest of this version is one line with the file's name, however odd it is."""
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(ManifestError) as error:
        read_manifest(path, FramesManifest)
    assert str(error.value).startswith(f"{path}: {found}")


def test_manifest_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are an error with the file's name."""
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(
        ManifestError, match=r"manifest\.json: is not a readable manifest \(.*utf-8"
    ):
        read_manifest(tmp_path / "manifest.json", FramesManifest)


def test_huge_manifest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beyond any manifest's size is not read into memory."""
    monkeypatch.setattr("fvar.store.manifest._MAX_BYTES", 10)
    (tmp_path / "manifest.json").write_text('{"schema": 1}')
    with pytest.raises(ManifestError, match="has 13 bytes, a manifest at most 10"):
        read_manifest(tmp_path / "manifest.json", FramesManifest)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "..", ".", "", "a\\b", "a\0b"]
)
def test_outputs_lie_inside_the_folder(mine: Path, path: str) -> None:
    """An output that is absolute, climbs out or names no file is refused, for shards of videos too."""
    for record in ("outputs", "videos"):
        content = _json(mine)
        content[record][0]["path" if record == "outputs" else "shard"] = path
        (mine / "manifest.json").write_text(json.dumps(content))
        with pytest.raises(ManifestError, match="must be a relative path inside the folder"):
            read_manifest(mine / "manifest.json", FramesManifest)


def test_untouched_files_pass(mine: Path) -> None:
    """What was written a moment ago is what its manifest vouches for."""
    _check(mine)


def test_changed_shard_is_named(mine: Path) -> None:
    """One byte in a shard: the error names the shard and the command to rerun."""
    shard = mine / "shards" / "shard-00001.h5"
    _flip_byte(shard, at=shard.stat().st_size // 2)
    with pytest.raises(ManifestError) as error:
        _check(mine)
    assert str(error.value) == (
        f"{shard}: is not what `fvar extract` wrote (its SHA-256 differs from {mine / 'manifest.json'}); "
        f"restore it, or rerun `fvar extract` with --out {mine} --update"
    )


def test_missing_and_cut_shards_are_named(mine: Path) -> None:
    """A shard that is shorter, or gone, is an error with its name."""
    shard = mine / "shards" / "shard-00000.h5"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ManifestError, match=r"shard-00000\.h5: is not what `fvar extract` wrote"):
        _check(mine)
    shard.unlink()
    with pytest.raises(
        ManifestError, match=r"shard-00000\.h5: is missing, .*manifest\.json lists it"
    ):
        _check(mine)


def test_changed_source_is_named(mine: Path) -> None:
    """An edited source CSV is named with its whole path, and so is the stage to rerun."""
    source = mine.parent / "source.csv"
    source.write_text(source.read_text() + "q,r.mp4,up,test\n")
    with pytest.raises(ManifestError) as error:
        _check(mine)
    assert str(error.value) == (
        f"{source}: changed since `fvar extract` read it; "
        f"restore it, or rerun `fvar extract` with --out {mine} --update"
    )


def test_moved_source_is_passed_over(mine: Path, tmp_path: Path) -> None:
    """A run may be moved away from its source CSV."""
    shutil.move(mine, tmp_path / "elsewhere" / "frames")
    _check(tmp_path / "elsewhere" / "frames")


def test_changed_upstream_manifest_is_named(mine: Path) -> None:
    """A later stage notices that the manifest it was made from is another one."""
    later = mine.parent / "eval"
    later.mkdir()
    (later / "x.csv").write_text("x")
    manifest = PredictionsManifest(
        versions={},
        classes=[],
        inputs=[input_file(later, mine / "manifest.json")],
        outputs=[output_file(later, "x.csv")],
        config=EvalConfig(),
        summary=EvalSummary.model_construct(),
    )
    check_files(later / "manifest.json", manifest)
    _flip_byte(mine / "manifest.json", at=-3)
    with pytest.raises(ManifestError) as error:
        check_files(later / "manifest.json", manifest)
    assert str(error.value).startswith(
        f"{mine / 'manifest.json'}: changed since `fvar eval` read it"
    )


def test_check_out_keeps_other_stages_safe(mine: Path) -> None:
    """``--overwrite`` replaces a stage's own folder, never that of another stage."""
    check_out(mine, FramesManifest, overwrite=True)
    with pytest.raises(
        ManifestError, match=r"was written by `fvar extract`, wanted 'fvar\.checkpoint/1'"
    ):
        check_out(mine, CheckpointManifest, overwrite=True)
    with pytest.raises(ManifestError, match="holds a complete run"):
        check_out(mine, FramesManifest, overwrite=False)
    check_out(mine / "new", FramesManifest, overwrite=True)


def test_described_files_are_relative_with_hash(tmp_path: Path) -> None:
    """Inputs may lie elsewhere, outputs lie inside; both are named from the folder."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.csv").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert output_file(tmp_path / "out", "a.csv") == OutputFile(
        path="a.csv", sha256=digest, num_bytes=3
    )
    assert input_file(tmp_path / "in", tmp_path / "out" / "a.csv") == InputFile(
        path="../out/a.csv", sha256=digest
    )


def test_versions_are_those_installed() -> None:
    """A manifest says which packages did the work, without importing them."""
    versions = tool_versions(["numpy", "h5py"])
    assert list(versions)[:3] == ["fvar", "python", "system"]
    assert list(versions)[3:] == ["h5py", "numpy"]


def test_sample_rows_are_in_the_manifest(frames: Path) -> None:
    """The store that these tests stand on holds what it was asked for, in order."""
    manifest = read_manifest(frames / "manifest.json", FramesManifest)
    assert [(video.id, video.num_frames) for video in manifest.videos] == [
        (row.id, row.num_frames) for row in ROWS
    ]
