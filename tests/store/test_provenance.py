"""Provenance: a file that changed is named, with the command to rerun."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from chain_samples import LAST, write_chain
from training_samples import write_frames

from fvar.errors import ManifestError
from fvar.store.manifest import FramesManifest, InputFile, OutputFile, StageManifest
from fvar.store.manifest_file import read_manifest
from fvar.store.provenance import check_files, input_file, output_file, tool_versions


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a chain of runs; nobody writes into it."""
    return write_chain(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def chain(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of the chain, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "chain"))


def _check(folder: Path) -> None:
    path = folder / "manifest.json"
    check_files(path, read_manifest(path, StageManifest))


def test_untouched_files_pass(whole: Path) -> None:
    """What was written a moment ago is what its manifest lists."""
    for name in ("frames", "train", "eval", "clusters"):
        _check(whole / name)


def _flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


SHARD = "frames/shards/shard-00001.h5"


@pytest.mark.parametrize(
    ("run", "damage", "changed", "problem", "fix"),
    [
        ("frames", _flip_last_bit, SHARD, "not what `fvar extract` wrote", "frames --update"),
        ("frames", _cut_short, SHARD, "not what `fvar extract` wrote", "frames --update"),
        ("frames", Path.unlink, SHARD, "is missing", "frames --update"),
        ("frames", _flip_last_bit, "source.csv", "`fvar extract` read it", "frames --update"),
        ("train", _flip_last_bit, f"train/{LAST}", "`fvar train` wrote", "train --overwrite"),
        ("eval", _flip_last_bit, f"train/{LAST}", "`fvar eval` read it", "eval --overwrite"),
        ("eval", _flip_last_bit, "frames/manifest.json", "`fvar eval` read", "eval --overwrite"),
    ],
)
def test_changed_file_is_named(
    chain: Path, run: str, damage: Callable[[Path], None], changed: str, problem: str, fix: str
) -> None:
    """A changed or missing output, or a changed input: the error names it and the command to rerun."""
    damage(chain / changed)
    with pytest.raises(ManifestError) as error:
        _check(chain / run)
    assert error.value.thing == str(chain / changed)
    assert problem in error.value.problem
    assert fix in error.value.fix


def test_a_run_may_be_moved_away_from_its_source(tmp_path: Path) -> None:
    """An input that is no longer there is ignored, and inputs need not be checked at all."""
    frames = write_frames(tmp_path / "frames")
    shutil.move(frames, tmp_path / "elsewhere" / "frames")
    _check(tmp_path / "elsewhere" / "frames")
    (tmp_path / "elsewhere" / "source.csv").write_text("another")
    path = tmp_path / "elsewhere" / "frames" / "manifest.json"
    check_files(path, read_manifest(path, FramesManifest), with_inputs=False)


def test_described_files_are_relative_with_hash(tmp_path: Path) -> None:
    """Inputs may lie elsewhere, outputs lie inside; both are named from the folder."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.csv").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    expected = OutputFile(path="a.csv", sha256=digest, num_bytes=3)
    assert output_file(tmp_path / "out", "a.csv") == expected
    expected = InputFile(path="../out/a.csv", sha256=digest)
    assert input_file(tmp_path / "in", tmp_path / "out" / "a.csv") == expected


def test_versions_are_those_installed() -> None:
    """A manifest lists the packages that did the work, without importing them."""
    assert list(tool_versions(["numpy", "h5py"])) == ["fvar", "python", "system", "h5py", "numpy"]
