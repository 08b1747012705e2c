"""``fvar doctor``: the machine, the versions, a self-test."""

import typer

from cli.console import print_error, print_summary
from cli.exit_codes import NOT_ALL_OK
from fvar.errors import FvarError


def doctor() -> None:
    """Describe this machine and try all stages on toy videos, in ten seconds.

    Put what it prints into a report of a problem. Exit code 1: the self-test failed.

    [bold]Examples[/bold]

    fvar doctor
    """
    from fvar.api.doctor import advise, describe_machine, self_test

    figures: dict[str, object] = dict(describe_machine())
    problem = None
    try:
        figures["self-test"] = f"ok, {self_test():.0f} s"
    except FvarError as error:
        figures["self-test"], problem = "failed", error
    print_summary("fvar doctor", figures, hint=" ".join(advise()) or None)
    if problem is not None:
        print_error(str(problem))
        raise typer.Exit(NOT_ALL_OK)
