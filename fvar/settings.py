"""A frozen record that refuses unknown keys, and the error that explains what is wrong with one."""

from typing import TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from fvar.errors import ConfigError, FvarError

_Model = TypeVar("_Model", bound=BaseModel)


class Settings(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )


def parse(
    model: type[_Model], data: object, *, source: object, error: type[FvarError] = ConfigError
) -> _Model:
    """Validate `data` as `model`.

    Args:
        model: The record wanted.
        data: What was read or typed, usually a dict.
        source: Where it came from, for the message.
        error: The class to raise.

    Raises:
        FvarError: As `error`, on the first thing that is wrong: an unknown key lists the known ones.
    """
    try:
        return model.model_validate(data)
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    thing = f"{source}: {where}" if where else str(source)
    if first["type"] == "extra_forbidden":
        fields = _innermost(model, first["loc"]).model_fields
        known = ", ".join(field.alias or name for name, field in fields.items())
        raise error(thing, "is not a known key", fix=f"remove it or use one of: {known}")
    shown = "" if first["type"] == "missing" or not where else f"{_brief(first['input'])}: "
    raise error(thing, f"{shown}{first['msg'].removeprefix('Value error, ')}", fix="correct it")


def _brief(value: object) -> str:
    try:
        return repr(value)[:80]
    except (ValueError, RecursionError):  # a number of 5,000 digits, a list in a list in a list ...
        return f"a {type(value).__name__} too large to show"


def _innermost(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the record that the last part of `location` is a key of."""
    for part in location[:-1]:
        if field := model.model_fields.get(str(part)):  # there is none for the index of a list
            inner = (field.annotation, *get_args(field.annotation))
            model = next(t for t in inner if isinstance(t, type) and issubclass(t, BaseModel))
    return model
