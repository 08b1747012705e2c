"""The settings of a training: defaults, then a recipe, then a file, then the flags."""

import tomllib
from pathlib import Path
from typing import Any

from fvar.config import TrainConfig
from fvar.errors import ConfigError
from fvar.names import files_in
from fvar.settings import parse

_MAX_FILE_BYTES = 1 << 20  # all settings together take 2 KB


def load_recipe(name: str) -> dict[str, Any]:
    """Return the settings of a bundled recipe.

    Raises:
        ConfigError: There is no recipe of that name.
    """
    recipes = files_in("recipes", ".toml")
    if name not in recipes:
        fix = f"choose one of: {', '.join(recipes)}"
        raise ConfigError(f"--recipe {name}", "is not a recipe", fix=fix)
    return tomllib.loads(recipes[name])


def load_config_file(path: Path) -> dict[str, Any]:
    """Return the settings of a TOML file.

    Raises:
        ConfigError: The file cannot be read, is too large or is not TOML.
    """
    try:
        return tomllib.loads(_read_small(path).decode("utf-8"))
    # ValueError is what tomllib raises, and Python for a number of 5,000 digits.
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            path, f"is not a readable TOML file ({error})", fix="correct the file"
        ) from error


def _read_small(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # reading a pipe or a device may never end
        raise ValueError("not a file")
    with path.open("rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError(f"more than {_MAX_FILE_BYTES} bytes")
    return data


def train_config(
    flags: dict[str, Any], *, recipe: str | None = None, config_file: Path | None = None
) -> TrainConfig:
    """Return the settings of a training: flags over the file over the recipe over the defaults.

    Raises:
        ConfigError: A key is unknown or a value breaks its rule; the message names the layer that has it.
    """
    settings: dict[str, Any] = {}
    layers = [
        (f"recipe {recipe}", load_recipe(recipe) if recipe is not None else {}),
        (str(config_file), load_config_file(config_file) if config_file else {}),
        ("command line", flags),
    ]
    for source, layer in layers:
        settings |= layer
        if layer.get("schedule") == "one-cycle" and "milestones" not in layer:
            settings.pop("milestones", None)
        config = parse(TrainConfig, settings, source=source)
    return config
