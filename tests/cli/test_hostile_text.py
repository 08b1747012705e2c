"""Hostile text: CSV, JSON and TOML of absurd depth and size soon end in one line."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from training_samples import write_frames

from fvar.config import TrainConfig
from fvar.errors import ConfigError, FvarError, ManifestError, SourceError
from fvar.recipes.resolve import load_config_file, train_config
from fvar.settings import parse
from fvar.sources.source_csv import read_source
from fvar.store.manifest import FramesManifest
from fvar.store.manifest_file import read_manifest
from fvar.store.provenance import check_files

_HEADER = "id,video,label,split"
_fuzz = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small extraction; nobody writes into it."""
    return write_frames(tmp_path_factory.mktemp("run") / "frames")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a" * 1_000_000, "is not CSV (field larger than field limit"),
        (",".join(f"c{n}" for n in range(300_000)), "column 'c0' is not known"),
        (",".join(["id"] * 300_000), "column 'id' comes twice"),
        (f"{_HEADER}\n" + "," * 1_000_000, "lists no video"),
        (f"{_HEADER}\n" + "a," * 1_000_000, "has 1000001 cells beginning with 'a'"),
        (f"{_HEADER}\n" + "\n" * 1_000_000, "lists no video"),
        (f'{_HEADER}\n"a' + "\n" * 100_000, "is not CSV (unexpected end of data)"),
        (f"{_HEADER}\na,v\0,x,train", "holds a control"),
        (f"{_HEADER},start_seconds\na,v,x,train,{'9' * 100_000}", "is not a time"),
        (f"{_HEADER},start_seconds\na,v,x,train,1e-{'9' * 30}9,", "has 6 cells"),
        (f"\ufeff\ufeff{_HEADER}\na,v,x,train", "is not known"),
    ],
    ids=str,
)
def test_absurd_csv(tmp_path: Path, text: str, problem: str) -> None:
    """A source CSV of absurd size or content is one short line that names file and problem."""
    path = tmp_path / "s.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        read_source(path)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        f"epochs = {'9' * 5000}",
        f"seed = 0x{'f' * 20_000}",
        "epochs = nan",
        "lr = 1e400",
        "milestones = " + "[" * 300 + "]" * 300,
        "milestones = " + "[" * 50_000,
        "a." * 2000 + "a = 1",
        "[a]\n" * 1000,
        "weights = 1979-05-27",
        'epochs = "\\u0000"',
        "[[epochs]]",
        "#" * (1 << 20) + "\n",
    ],
    ids=lambda text: text[:20],
)
def test_absurd_toml(tmp_path: Path, text: str) -> None:
    """Settings of absurd depth, size or value are one short line with the file's name."""
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        train_config({}, config_file=path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 800
    assert str(caught.value).isprintable()


@pytest.mark.timeout(20)
def test_settings_are_read_from_a_file(tmp_path: Path) -> None:
    """A pipe, a device or a folder in the place of a settings file is refused at once."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="not a file"):
            load_config_file(path)


def test_values_that_cannot_be_shown() -> None:
    """A value whose text Python itself refuses to make is named by its kind."""
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    for value, kind in ((16**20_000, "int"), (nested, "list")):
        with pytest.raises(ConfigError, match=f"seed: a {kind} too large to show"):
            parse(TrainConfig, {"seed": value}, source="c.toml")
    while nested:  # taken apart from outside: freeing it at once would go as deep
        nested = nested.pop()


@pytest.mark.parametrize("depth", [500, 900, 990, 5000])
@pytest.mark.parametrize("key", ["schema", "videos", "config"])
def test_absurdly_deep_manifests(frames: Path, tmp_path: Path, key: str, depth: int) -> None:
    """A manifest nested to any depth, under any key, is one short line."""
    text = (frames / "manifest.json").read_text()
    deep = "[" * depth + "]" * depth
    path = tmp_path / "manifest.json"
    path.write_text(text.replace(f'"{key}": ', f'"{key}": {deep}, "old": ', 1))
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, FramesManifest)
    assert len(str(caught.value)) < 800


def _read(path: Path) -> None:
    """Read a manifest as a stage does; whatever is wrong with it must be an error of ours."""
    with contextlib.suppress(FvarError):
        check_files(path, read_manifest(path, FramesManifest))


@_fuzz
@given(
    flips=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6),
    keep=st.one_of(st.none(), st.integers(0, 1 << 14)),
)
def test_damaged_manifests(
    frames: Path, tmp_path: Path, flips: list[tuple[int, int]], keep: int | None
) -> None:
    """Bytes changed anywhere, and an end cut off: read, or refused by an error of ours."""
    data = bytearray((frames / "manifest.json").read_bytes())
    for at, value in flips:
        data[at % len(data)] = value
    (tmp_path / "manifest.json").write_bytes(data[:keep])
    _read(tmp_path / "manifest.json")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["../x", "/dev/zero", "a\0b", "\ud800", 10**30, -1, "\u202e", "x" * 10_000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) inside `value`."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


@_fuzz
@given(data=st.data(), value=_json, how=st.sampled_from(["replace", "drop", "rename"]))
def test_manifests_with_other_values(
    frames: Path, tmp_path: Path, data: st.DataObject, value: Any, how: str
) -> None:
    """Any value replaced, any key dropped or renamed: read, or refused by an error of ours."""
    content = json.loads((frames / "manifest.json").read_text())
    container, key = data.draw(st.sampled_from(list(_places(content))))
    if how == "replace":
        container[key] = value
    else:
        old = container.pop(key)
        if how == "rename" and isinstance(container, dict):
            container[str(value)] = old
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    _read(tmp_path / "manifest.json")


_rows = st.text(max_size=100).map(lambda text: f"{_HEADER}\n{text}".encode("utf-8", "replace"))


@_fuzz
@given(st.binary(max_size=200) | _rows)
def test_random_bytes_are_no_source(tmp_path: Path, data: bytes) -> None:
    """Whatever a source CSV holds, it is read or refused by an error of ours."""
    path = tmp_path / "s.csv"
    path.write_bytes(data)
    with contextlib.suppress(FvarError):
        assert read_source(path)
