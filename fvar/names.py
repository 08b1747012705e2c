"""The names that users may choose from, read from files without importing them: `--help` is fast."""

import ast
from importlib.resources import files


def files_in(folder: str, suffix: str) -> dict[str, str]:
    """Return the text of each file in a folder of this package, by its name without `suffix`, sorted."""
    found = {entry.name: entry for entry in (files("fvar") / folder).iterdir()}
    return {
        name.removesuffix(suffix): found[name].read_text(encoding="utf-8")
        for name in sorted(found)
        if name.endswith(suffix) and not name.startswith("_")
    }


def clustering_names() -> list[str]:
    """Return the names of the clusterings, which are the files in ``model/clusterings``."""
    return list(files_in("model/clusterings", ".py"))


def backbone_names() -> list[str]:
    """Return what the files in ``model/networks`` list in ``NAMES``."""
    return [
        name
        for text in files_in("model/networks", ".py").values()
        for line in ast.parse(text).body
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "NAMES"
        for name in ast.literal_eval(line.value)
    ]


def recipe_names() -> list[str]:
    """Return the names of the recipes, which are the files in ``recipes``."""
    return list(files_in("recipes", ".toml"))
