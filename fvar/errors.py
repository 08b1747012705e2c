"""All errors that a user can meet. Each is one line: the thing, what is wrong with it, what to do next.

::

    FvarError                  the base class that the command line catches
    ├── InputError             exit code 2: wrong input or usage; nothing was written
    │   ├── ConfigError        a setting, a flag or a recipe
    │   ├── SourceError        a source CSV or an annotation list: file, line, column, value
    │   ├── ManifestError      a manifest.json, or a file that one lists
    │   ├── FrameStoreError    an HDF5 shard of frames
    │   ├── VideoError         a video file that cannot be read
    │   └── WeightsError       a state dict or checkpoint that does not fit the network
    └── StoppedError           exit code 3: stopped midway; a rerun continues
"""

import re
from functools import partial

UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029"  # line breaks, terminal escapes
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that change the writing direction
    r"\u00ad\u180e\u200b\u2060-\u2065\ufeff\U000e0000-\U000e007f"  # invisible; words need the joiners
    r"\ud800-\udfff]"  # halves of surrogate pairs: file names that are not UTF-8
)
"""Characters with which a terminal, a table or a path shows something else than it contains."""


def one_line(text: object) -> str:
    """Return `text` as one line that a terminal prints unchanged: control characters are escaped."""
    return UNPRINTABLE.sub(lambda match: match.group().encode("unicode_escape").decode(), str(text))


def in_brief(error: Exception) -> str:
    """Return the class and the beginning of the first line of another library's error."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])[:160]


class FvarError(Exception):
    """An error whose message is complete on one line: ``thing: problem; next step``."""

    exit_code = 2
    is_duplicate = False  # True in all processes but the main one, which prints the same error

    def __init__(self, thing: object, problem: str, *, fix: str) -> None:
        """Compose the message.

        Args:
            thing: The file, flag, or row and column that is wrong.
            problem: The wrong value and the rule that it breaks.
            fix: What the user does next: a command or an instruction.
        """
        self.thing, self.problem, self.fix = str(thing), problem, fix
        super().__init__(one_line(f"{thing}: {problem}; {fix}"))

    def __reduce__(self) -> tuple[object, ...]:
        """Return how to rebuild the error in another process."""
        return partial(type(self), fix=self.fix), (self.thing, self.problem)


class InputError(FvarError):
    """Wrong input or usage; nothing was written."""


class ConfigError(InputError):
    """A setting, a flag or a recipe is wrong."""


class SourceError(InputError):
    """A source CSV or an annotation list is wrong."""


class ManifestError(InputError):
    """A manifest is wrong, or a file differs from what its manifest lists."""


class FrameStoreError(InputError):
    """A shard of the frame store is wrong."""


class VideoError(InputError):
    """A video file cannot be read."""


class WeightsError(InputError):
    """A state dict or checkpoint does not fit the network."""


class StoppedError(FvarError):
    """Stopped midway; a rerun continues from what is complete."""

    exit_code = 3


def stopped_by(error: InputError, *, then: str) -> StoppedError:
    """Return the error of a stage that met `error` after it wrote something; `then` is the last step."""
    return StoppedError(error.thing, error.problem, fix=f"{error.fix}; then {then}")
