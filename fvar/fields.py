"""The kinds of setting that several stages have, and what the command line shows of a setting."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import core_schema

from fvar.settings import Settings

DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
Split = Literal["train", "val", "test"]


class OneOf(tuple[str, ...]):
    """The names that a setting may have, read from files: a `Literal` whose names mypy cannot know."""

    __slots__ = ()

    def __get_pydantic_core_schema__(self, *_: Any) -> core_schema.CoreSchema:
        """Return pydantic's schema of a `Literal`."""
        return core_schema.literal_schema(list(self))


@dataclass(frozen=True)
class Flag:
    """What the command line shows for a setting whose name, type or default does not say it.

    Attributes:
        name: The flag, if it is not the name of the setting.
        default: What happens without the setting, if its default value does not say it.
        is_path: Whether the text is a path, which a shell can complete.
    """

    name: str | None = None
    default: str | None = None
    is_path: bool = False


# A path may be given as text or, in Python, as a Path.
TEXT = BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)

SplitSetting = Annotated[Split, Field(description="Which videos of the source CSV.")]
CheckpointSetting = Annotated[
    str | None,
    TEXT,
    Flag(default="best where a val split chose one, otherwise last"),
    Field(description="best, last or a file."),
]
DeviceSetting = Annotated[DeviceName, Field(description="`auto` takes a GPU if there is one.")]
Readers = Annotated[
    int, Field(ge=0, description="Threads that read ahead; 0 reads without a thread.")
]
Seed = Annotated[int, Field(ge=0, lt=2**63, description="The same seed gives the same numbers.")]
AllowPartial = Annotated[
    bool, Field(description="Also use videos of which extraction found frames missing.")
]
SkipIncomplete = Annotated[
    bool, Field(description="Leave out videos that are not complete, and say which.")
]


class StageSettings(Settings):
    """Settings that are described by the string below each of them."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class CacheSettings(StageSettings):
    """Settings of the stages that run a stem."""

    cache: Annotated[bool, Flag(name="--cache/--no-cache", default="cache")] = True
    """Keep what a frozen stem makes of the videos in the folder fvar-cache, beside the training."""
    cache_gb: float = Field(10.0, gt=0)
    """Size up to which fvar-cache grows, GB. Half of what is free on the disk always stays free."""

    @property
    def max_cache_gb(self) -> float | None:
        """The largest size of the cache in GB; None without a cache."""
        return self.cache_gb if self.cache else None
