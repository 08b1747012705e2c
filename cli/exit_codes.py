"""The exit codes, and the one place where an error becomes a line on standard error and one of them.

Code 0 means that all is done and all is well.
"""

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

import fvar
from cli.console import print_error
from fvar.errors import FvarError, InputError, StoppedError, one_line

NOT_ALL_OK = 1  # done, but some videos are partial, failed or missing
WRONG_INPUT = InputError.exit_code  # nothing was written; also what Typer ends wrong usage with
STOPPED = StoppedError.exit_code  # stopped midway; the same command goes on
BUG = 70  # EX_SOFTWARE of sysexits.h

# Missing rights and failing disks: they can occur anywhere and are no bug of ours.
_SYSTEM_ERRORS = {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EROFS}


class Boundary(TyperGroup):
    """The group of all commands; it turns an error into one line on standard error and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was typed."""
        try:
            with _signals_as_ctrl_c():
                return super().invoke(ctx)
        except FvarError as error:
            if not error.is_duplicate:
                print_error(str(error))
            code = error.exit_code
        except KeyboardInterrupt:
            print_error(
                "interrupted: everything complete is kept; run the same command again to go on"
            )
            code = STOPPED
        except BrokenPipeError:  # a reader like `head` has gone
            _drop_output()
            code = STOPPED
        except Exception as error:
            # Typer's own: the end of a command, or wrong usage, which it explains and ends with code 2.
            if isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "format_message"):
                raise
            code = _report(error)
        raise typer.Exit(code)


def _report(error: Exception) -> int:
    """Print an unexpected error and return its exit code."""
    if isinstance(error, OSError) and error.errno in _SYSTEM_ERRORS and error.filename:
        thing = one_line(os.fsdecode(error.filename))
        print_error(
            f"{thing}: cannot be used ({error.strerror}); fix that and run the same command again"
        )
        return STOPPED
    traceback.print_exception(error)
    print_error(
        f"this is a bug in fvar {fvar.__version__} ({type(error).__name__}); "
        "please report it with the lines above and what `fvar doctor` prints"
    )
    return BUG


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """Make SIGTERM (sent by batch systems) and SIGHUP (a lost terminal) end the command as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        for ours in before:
            signal.signal(ours, signal.SIG_IGN)  # a second signal must not disturb the cleanup
        raise KeyboardInterrupt

    before: dict[signal.Signals, Any] = {}
    for ours in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ours) is signal.SIG_DFL:  # nohup, for one, sets another; it stays
            before[ours] = signal.signal(ours, interrupt)
    try:
        yield
    finally:
        for ours, handler in before.items():
            signal.signal(ours, handler)


def _drop_output() -> None:
    """Discard all further output, because Python would fail to flush it at its end."""
    with suppress(io.UnsupportedOperation), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
