"""``fvar``: the commands, and the one boundary where errors become a line and an exit code."""

import errno
import io
import os
import platform
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

import fvar
from cli.console import print_error
from cli.eval import evaluate
from cli.extract import extract
from cli.inspect_clusters import inspect_clusters
from cli.manifest import manifest
from cli.toy import toy
from cli.train import train
from cli.verify import verify
from fvar.errors import FvarError, one_line

EXIT_STOPPED = 3
EXIT_BUG = 70

# A right that is lacking, a disk that fails: met in any place, and no bug of ours.
_OF_THE_SYSTEM = {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EROFS}


class _Boundary(TyperGroup):
    """Turns every error into one line on standard error and the exit code of its kind."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with _ended_like_ctrl_c():
                return super().invoke(ctx)
        except FvarError as error:
            if not error.is_duplicate:
                print_error(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print_error(
                "interrupted: what is complete is kept; run the same command again to go on, "
                "a training with --resume"
            )
            raise typer.Exit(EXIT_STOPPED) from None
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:  # a reader like `head` has gone
            _print_no_more()
            raise typer.Exit(EXIT_STOPPED) from None
        except Exception as error:
            if _is_usage(error):
                raise
            raise typer.Exit(_tell(error)) from None


def _tell(error: Exception) -> int:
    """Print what nobody expected, and return the exit code."""
    if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM and error.filename:
        thing = one_line(os.fsdecode(error.filename))
        print_error(
            f"{thing}: cannot be used ({error.strerror}); mend that and run the same command again"
        )
        return EXIT_STOPPED
    traceback.print_exception(error)
    print_error(
        f"this is a bug in fvar {fvar.__version__} ({type(error).__name__}); "
        "please report it with the lines above and `fvar --version`"
    )
    return EXIT_BUG


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM (batch systems send it) and SIGHUP (a lost terminal) end the command as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        for ours in before:
            signal.signal(ours, signal.SIG_IGN)  # the second must not disturb the end of the first
        raise KeyboardInterrupt

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for ours in (signal.SIGTERM, signal.SIGHUP):
            # What nohup and others set stays.
            if signal.getsignal(ours) is signal.SIG_DFL:
                before[ours] = signal.signal(ours, interrupt)
    try:
        yield
    finally:
        for ours, handler in before.items():
            signal.signal(ours, handler)


def _print_no_more() -> None:
    """Let what is still to be printed go nowhere: Python would stumble over it when it ends."""
    with suppress(io.UnsupportedOperation), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _is_usage(error: Exception) -> bool:
    """Tell whether `error` is the parser's own, which Typer shows as usage and ends with exit code 2."""
    return hasattr(error, "exit_code") and hasattr(error, "format_message")


app = typer.Typer(
    name="fvar",
    cls=_Boundary,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "Recognise actions from [bold]every frame[/bold] of a video: extract, train, eval, inspect-clusters. "
        "Each command reads the folder that the one before wrote."
    ),
    epilog="Start with: fvar toy --out runs/toy && fvar extract runs/toy/toy.csv --videos runs/toy/videos",
)


def _show_version(value: bool) -> None:
    if value:
        from importlib import metadata

        packages = ("torch", "torchvision", "torchcodec", "av", "imageio-ffmpeg", "h5py", "numpy")
        versions = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
        typer.echo(
            f"fvar {fvar.__version__} (python {platform.python_version()}, {platform.platform()}, {versions})"
        )
        raise typer.Exit


@app.callback()
def root(
    *,
    version: bool = typer.Option(
        False,
        "--version",
        help="Print what a bug report needs.",
        callback=_show_version,
        is_eager=True,
    ),
) -> None:
    """Recognise actions from every frame of a video."""


app.command()(extract)
app.command()(manifest)
app.command()(toy)
app.command()(train)
app.command("eval")(evaluate)
app.command()(inspect_clusters)
app.command()(verify)


def main() -> None:
    """Run the command line."""
    # GNU OpenMP reads this when torch is loaded. Waiting threads then leave the core to those that
    # read and decode, and to other programs: faster on a busy machine (benchmarks/README.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    finally:
        # All is done and the code is decided: a second Ctrl-C must not change it while Python ends.
        for ours in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ours, signal.SIG_IGN)
