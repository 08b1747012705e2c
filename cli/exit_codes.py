"""The exit codes of every command; 0 means that all is done and all is well."""

from fvar.errors import InputError, StoppedError

NOT_ALL_OK = 1  # done, but some videos are partial, failed or missing
WRONG_INPUT = InputError.exit_code  # nothing was written; also what Typer ends wrong usage with
STOPPED = StoppedError.exit_code  # stopped midway; the same command goes on
BUG = 70  # EX_SOFTWARE of sysexits.h
