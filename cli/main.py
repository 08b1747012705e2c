"""``fvar``: all commands."""

import os
import platform
import signal
from typing import Annotated

import typer

import fvar
from cli.commands.compare import compare
from cli.commands.doctor import doctor
from cli.commands.eval import evaluate
from cli.commands.export import export
from cli.commands.extract import extract
from cli.commands.features import features
from cli.commands.inspect_clusters import inspect_clusters
from cli.commands.manifest import app as manifest
from cli.commands.predict import predict
from cli.commands.toy import toy
from cli.commands.train import train
from cli.commands.verify import verify
from cli.exit_codes import Boundary

app = typer.Typer(
    cls=Boundary,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog="[bold]Start with[/bold]\n\nfvar toy --out runs/toy\n\n"
    "fvar extract runs/toy/toy.csv --videos runs/toy/videos",
)


def _show_version(value: bool) -> None:
    if value:
        from importlib import metadata

        packages = ("torch", "torchvision", "torchcodec", "av", "imageio-ffmpeg", "h5py", "numpy")
        versions = [f"{package} {metadata.version(package)}" for package in packages]
        system = [f"python {platform.python_version()}", platform.platform()]
        typer.echo(f"fvar {fvar.__version__} ({', '.join(system + versions)})")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print what a bug report needs.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Recognize actions from [bold]every frame[/bold] of a video.

    The stages are extract, train, eval and inspect-clusters. Each of them reads
    the folder that the one before wrote.
    """


app.command()(extract)
app.add_typer(manifest, name="manifest")
app.command()(toy)
app.command()(train)
app.command("eval")(evaluate)
app.command()(inspect_clusters)
app.command()(compare)
app.command()(predict)
app.command()(features)
app.command()(export)
app.command()(verify)
app.command()(doctor)


def main() -> None:
    """Run the command line."""
    # GNU OpenMP reads this when torch is loaded. Waiting threads then leave the core to threads that
    # read and decode and to other programs, which is faster on a busy machine (benchmarks/README.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    finally:
        # The exit code is decided. A second Ctrl-C must not change it while Python ends.
        for ours in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ours, signal.SIG_IGN)
