"""Every error a user can meet, one line each: the thing, what is wrong with it, what to do next.

::

    FvarError                  the base that the command line catches
    ├── InputError             exit 2: wrong input or usage; nothing was written
    │   ├── ConfigError        a setting, a flag, a recipe
    │   ├── SourceError        a source CSV: file, line, column, value
    │   ├── ManifestError      a manifest.json, or a file it vouches for
    │   ├── FrameStoreError    an HDF5 shard of frames
    │   ├── VideoError         a video file that cannot be read
    │   └── WeightsError       a state dict or checkpoint that does not fit
    └── StoppedError           exit 3: stopped midway; a rerun goes on
"""

import re

UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029"  # line breaks, terminal escapes
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that turn the writing direction
    r"\u00ad\u180e\u200b\u2060-\u2065\ufeff\U000e0000-\U000e007f"  # not seen; joiners have a use in words
    r"\ud800-\udfff]"  # halves of surrogate pairs: file names that are not UTF-8
)
"""Characters that make a terminal, a table or a path show something else than it holds."""


def one_line(text: object) -> str:
    """Return `text` as one line that a terminal prints as it is: control characters escaped."""
    return UNPRINTABLE.sub(lambda match: match.group().encode("unicode_escape").decode(), str(text))


def in_brief(error: Exception) -> str:
    """Return another library's error as its class and the beginning of its first line."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])[:160]


class FvarError(Exception):
    """An error whose message is complete on one line: ``thing: problem; next step``."""

    exit_code = 2
    is_duplicate = False  # True in all processes but the main one, which prints the same error

    def __init__(self, thing: object, problem: str, *, fix: str) -> None:
        """Compose the line.

        Args:
            thing: What is wrong: a file, a flag, a row and column.
            problem: The offending value and the rule it breaks.
            fix: What the user does next, as a command or an instruction.
        """
        self.thing, self.problem, self.fix = str(thing), problem, fix
        super().__init__(one_line(f"{thing}: {problem}; {fix}"))

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way from a worker process."""
        return _rebuild, (type(self), self.thing, self.problem, self.fix)


def _rebuild(kind: type[FvarError], thing: str, problem: str, fix: str) -> FvarError:
    return kind(thing, problem, fix=fix)


class InputError(FvarError):
    """Wrong input or usage; nothing was written."""


class ConfigError(InputError):
    """A setting, a flag or a recipe."""


class SourceError(InputError):
    """A source CSV or an annotation list."""


class ManifestError(InputError):
    """A manifest, or a file whose content is not what a manifest vouches for."""


class FrameStoreError(InputError):
    """A shard of the frame store."""


class VideoError(InputError):
    """A video file that cannot be read."""


class WeightsError(InputError):
    """A state dict or checkpoint that does not fit the network."""


class StoppedError(FvarError):
    """Stopped midway: a rerun goes on from what is complete."""

    exit_code = 3


def stopped_by(error: InputError, *, then: str) -> StoppedError:
    """Return the error of a stage that met `error` after it wrote something; `then` is the last step."""
    return StoppedError(error.thing, error.problem, fix=f"{error.fix}; then {then}")
