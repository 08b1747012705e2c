"""Settings: a misspelt key is refused, the last layer that has a setting decides, and errors name it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel

from fvar.config import (
    EvalConfig,
    ExtractConfig,
    InspectConfig,
    ToyConfig,
    TrainConfig,
    VerifyConfig,
)
from fvar.errors import ConfigError, ManifestError
from fvar.names import recipe_names
from fvar.recipes.resolve import load_config_file, load_recipe, train_config
from fvar.settings import parse
from fvar.system import usable_processors

MODELS: list[type[BaseModel]] = [ExtractConfig, TrainConfig, EvalConfig, InspectConfig, ToyConfig]


@st.composite
def typos(draw: st.DrawFn) -> tuple[type[BaseModel], str]:
    """Draw a record and a key of it with one letter dropped, doubled, swapped or changed in case."""
    model = draw(st.sampled_from(MODELS))
    key = draw(st.sampled_from(sorted(model.model_fields)))
    at = draw(st.integers(0, len(key) - 1))
    wrong = draw(
        st.sampled_from(
            [
                key[:at] + key[at + 1 :],
                key[:at] + key[at] + key[at:],
                key[:at] + key[at : at + 2][::-1] + key[at + 2 :],
                key.upper(),
                key.replace("_", "-"),
            ]
        )
    )
    assume(wrong not in model.model_fields)
    return model, wrong


@given(typos())
def test_every_misspelt_key_is_refused(typo: tuple[type[BaseModel], str]) -> None:
    """A key that is not known is named, and so are the known ones."""
    model, wrong = typo
    base: dict[str, Any] = {"videos": "v"} if model is ExtractConfig else {}
    with pytest.raises(ConfigError) as error:
        parse(model, base | {wrong: 1}, source="my.toml")
    assert str(error.value).startswith(f"my.toml: {wrong}: is not a known key; ")
    assert str(error.value).endswith(f": {', '.join(model.model_fields)}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"clusters": 0}, "clusters: 0: Input should be greater than or equal to 1; "),
        ({"lr": "fast"}, "lr: 'fast': Input should be a valid number"),
        ({"lr": float("nan")}, "lr: nan: Input should be a finite number"),
        ({"backbone": "resnet9"}, "backbone: 'resnet9': "),
        ({"crop_share": 1.5}, "crop_share: 1.5: Input should be less than or equal to 1"),
        ({"milestones": [5]}, "`milestones` belongs to schedule `step`"),
        ({"schedule": "step"}, "`milestones` belongs to schedule `step`"),
        ({"schedule": "step", "milestones": [9, 3]}, "`milestones` must rise; "),
        ({"schedule": "step", "milestones": [3, 3]}, "`milestones` must rise; "),
        ([1], "Input should be a valid dictionary"),
    ],
)
def test_wrong_value_is_named(data: object, message: str) -> None:
    """The message names the place, the key, the value and the rule."""
    with pytest.raises(ConfigError) as error:
        parse(TrainConfig, data, source="here")
    assert str(error.value).startswith(f"here: {message}")


def test_defaults_that_depend() -> None:
    """Without a number of workers all processors work; a Dask task has one unless more are wanted."""
    assert ExtractConfig(videos="v").workers == VerifyConfig().workers == usable_processors()
    assert ExtractConfig(videos="v", dask="tcp://a:1").workers == 1
    assert ExtractConfig(videos="v", dask="tcp://a:1", workers=3).workers == 3


@pytest.mark.parametrize(("limit", "expected"), [(0, None), (None, None), (1, 1)])
def test_no_limit_is_all_videos(limit: int | None, expected: int | None) -> None:
    """Both 0 and None mean that inspection shows all videos."""
    assert InspectConfig(limit=limit).limit == expected


def test_paths_may_be_paths() -> None:
    """In Python a file is often a Path; what is kept and written to manifests is its text."""
    found = [
        InspectConfig(segments=Path("a/b.csv"), checkpoint=Path("c.pt")),  # type: ignore[arg-type]
        ExtractConfig(videos=Path("v"), ffmpeg=Path("f")),  # type: ignore[arg-type]
    ]
    kept = [found[0].segments, found[0].checkpoint, found[1].videos, found[1].ffmpeg]
    assert kept == ["a/b.csv", "c.pt", "v", "f"]
    assert TrainConfig(weights=Path("w.pt")).weights == "w.pt"  # type: ignore[arg-type]


def test_long_value_is_cut() -> None:
    """A value of any length leaves the message readable."""
    with pytest.raises(ConfigError) as error:
        parse(TrainConfig, {"epochs": "x" * 10_000}, source="here")
    assert len(str(error.value)) < 250


def test_missing_setting_is_named() -> None:
    """A required key that was left out is named, and the whole record is not printed."""
    with pytest.raises(ConfigError, match=r"here: videos: Field required; [a-z ]+$"):
        parse(ExtractConfig, {"quality": 3}, source="here")


def test_error_has_the_class_asked_for() -> None:
    """A manifest that is wrong is a ManifestError."""
    with pytest.raises(ManifestError):
        parse(EvalConfig, {"splitt": "test"}, source="here", error=ManifestError)


def test_settings_are_frozen() -> None:
    """A setting cannot be changed after it was resolved."""
    with pytest.raises(ValueError, match="frozen"):
        TrainConfig().epochs = 3  # type: ignore[misc]  # what is tested


def test_later_layers_win(tmp_path: Path) -> None:
    """Defaults give way to the recipe, the recipe to the file, the file to the flags."""
    recipe = load_recipe("ucf101")
    file = tmp_path / "my.toml"
    file.write_text("clusters = 5\nepochs = 7\n")
    config = train_config({"epochs": 3}, recipe="ucf101", config_file=file)
    assert (config.lr, config.clusters, config.epochs) == (recipe["lr"], 5, 3)
    assert "keep_mb" not in recipe
    assert config.keep_mb == TrainConfig().keep_mb
    assert train_config({}) == TrainConfig()


@pytest.mark.parametrize("layer", ["file", "flags"])
def test_error_names_the_layer(tmp_path: Path, layer: str) -> None:
    """An error names the file for a setting of the file, and the command line for a flag."""
    file = tmp_path / "my.toml"
    file.write_text("epochs = 0\n" if layer == "file" else "")
    flags = {"epochs": -1} if layer == "flags" else {}
    place, value = (file, "0") if layer == "file" else ("command line", "-1")
    with pytest.raises(ConfigError) as error:
        train_config(flags, recipe="ucf101", config_file=file)
    assert str(error.value).startswith(f"{place}: epochs: {value}: Input should be")


def test_another_schedule_drops_the_recipes_milestones(tmp_path: Path) -> None:
    """A file that sets `one-cycle` drops the milestones of the recipe, and may have none itself."""
    file = tmp_path / "my.toml"
    file.write_text('schedule = "one-cycle"\n')
    assert train_config({}, recipe="ucf101", config_file=file).milestones == ()
    file.write_text('schedule = "one-cycle"\nmilestones = [3]\n')
    with pytest.raises(ConfigError, match=r"my\.toml: `milestones` belongs to schedule `step`"):
        train_config({}, config_file=file)


@pytest.mark.parametrize("name", ["ucf102", "../config", ""])
def test_unknown_recipe_lists_the_known(name: str) -> None:
    """A recipe of another name, or a path, is refused with the names there are."""
    with pytest.raises(ConfigError) as error:
        train_config({}, recipe=name)
    assert str(error.value).startswith(f"--recipe {name}: is not a recipe; ")
    assert str(error.value).endswith(f": {', '.join(recipe_names())}")


@pytest.mark.parametrize(
    "content",
    [None, b"epochs = ", b"epochs = 3\nepochs = 4", b"\xff\xfe", b"a = " + b"[" * 100_000],
    ids=["absent", "cut", "twice", "binary", "deep"],
)
def test_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    """A file that is absent, or not TOML, or not text, or absurdly deep is an error with its name."""
    file = tmp_path / "my.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_config_file(file)
    assert str(error.value).startswith(f"{file}: is not a readable TOML file (")
