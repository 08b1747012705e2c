"""The options of the commands: one for each setting of a config, and those that several commands share."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from pydantic.fields import FieldInfo
from rich.markup import escape

from fvar.fields import Flag, OneOf
from fvar.settings import Settings
from fvar.store.manifest_file import locate

_Command = Callable[..., None]


def with_default(text: str, default: object) -> str:
    """Return a help text with its default. Typer does not know the default: it would count as typed."""
    return f"{escape(text)} [dim]{escape(f'[default: {default}]')}[/dim]"


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a complete result in --out.")]
Frames = Annotated[
    Path | None,
    typer.Option(help=with_default("Another extraction.", "the one trained on")),
]
Videos = Annotated[
    list[Path],
    typer.Argument(help="Video files, folders of them, or a CSV with a column `video`."),
]


def _training(path: Path) -> Path:
    """Refuse what is no finished run, before the seconds that importing torch takes."""
    locate(path)
    return path


Training = Annotated[
    Path, typer.Argument(help="Folder that `fvar train` wrote.", callback=_training)
]


Trainings = Annotated[
    list[Path],
    typer.Argument(
        help="Folders that `fvar train` wrote; the page is that of the first.",
        callback=lambda paths: [_training(path) for path in paths],
    ),
]


def flags_of(
    config: type[Settings], panels: Mapping[str, Sequence[str]]
) -> Callable[[_Command], _Command]:
    """Give a command one option for each setting of `config` that `panels` names.

    Type, description, default and limits of an option come from the field in `config`. The command gets in
    `**flags` the settings that were typed. What was not typed is left to a recipe, a file or the default.

    Args:
        config: The settings of the command's stage.
        panels: The titles of the groups in ``--help``, each with its settings.
    """
    options = [
        _option(name, config.model_fields[name], panel=panel)
        for panel, names in panels.items()
        for name in names
    ]

    def decorate(command: _Command) -> _Command:
        own = [p for p in signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]

        @wraps(command)
        def run(**values: Any) -> None:
            given = {o.name: values.pop(o.name) for o in options}
            command(**values, **{k: _plain(v) for k, v in given.items() if v is not None})

        run.__signature__ = Signature([*own, *options])  # type: ignore[attr-defined]  # Typer reads it
        return run

    return decorate


def _option(name: str, field: FieldInfo, *, panel: str) -> Parameter:
    flag = next((m for m in field.metadata if isinstance(m, Flag)), Flag())
    option: Any = typer.Option(
        ... if field.is_required() else None,
        flag.name or f"--{name.replace('_', '-')}",
        help=_help(field, flag),
        metavar=_metavar(field),
        rich_help_panel=panel,
    )
    kind: Any = Path if flag.is_path else field.annotation
    if names := next((tuple(m) for m in field.metadata if isinstance(m, OneOf)), None):
        kind = Literal[names]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=option, annotation=kind | None)


def _help(field: FieldInfo, flag: Flag) -> str:
    text = field.description or ""
    switched_off = flag.default is None and field.default is False
    if field.is_required() or switched_off:
        return escape(text)
    return with_default(text, flag.default or field.default)


def _metavar(field: FieldInfo) -> str | None:
    """Return type and limits of a number, like ``<int 1..4>``; None where it has no limits."""
    limits = {k: getattr(m, k) for m in field.metadata for k in ("ge", "le") if hasattr(m, k)}
    if "ge" not in limits:
        return None
    kind: Any = next(iter(get_args(field.annotation)), field.annotation)  # `int` of `int | None`
    least, most = limits["ge"], limits.get("le")
    return f"<{kind.__name__} {f'>={least}' if most is None else f'{least}..{most}'}>"


def _plain(value: object) -> object:
    return str(value.expanduser()) if isinstance(value, Path) else value


def free_out(default: Path) -> list[object]:
    """Return the flag with which a next command writes into a new folder; none where its default is free."""
    if not default.exists():
        return []
    numbers = (default.with_name(f"{default.name}-{number}") for number in count(2))
    return ["--out", next(folder for folder in numbers if not folder.exists())]


def out_option(default: str) -> Any:
    """Return the option ``--out`` of a stage; `default` says in words where the output goes without it."""
    return typer.Option("--out", help=with_default("Output folder.", default))
