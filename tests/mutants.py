"""Breaks a copy of the package in each way of `mutations` and asks the tests: every mutant must be killed.

Run by ``make mutants``. Prints a line for each mutant with the test that found it; exits with 1 if one
survives. Each runs in a fork of this process, so that torch, slower to import than the tests to run, is imported once.
"""

import importlib
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest
from mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("fvar", "tests", "pyproject.toml")
TIME_LIMIT_SECONDS = 120
NOT_THE_COPY = 99  # an exit code that pytest does not have


def main() -> int:
    """See the tests pass as things are, then try every mutation; return the exit code."""
    importlib.import_module("torchvision")
    with tempfile.TemporaryDirectory() as temporary:
        copy = _copy_of_the_package(Path(temporary))
        for tests in sorted({_tests(mutation) for mutation in MUTATIONS}):
            if found_by := _first_failure(copy, tests):
                _say(f"{' '.join(tests)} must pass before mutants are tried: {found_by}")
                return 2
        survivors = [mutation for mutation in MUTATIONS if not _killed(copy, mutation)]
    _say(f"{len(MUTATIONS) - len(survivors)} of {len(MUTATIONS)} mutants killed")
    return 1 if survivors else 0


def _copy_of_the_package(folder: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def _tests(mutation: Mutation) -> tuple[str, ...]:
    """Return pytest's arguments."""
    return (f"tests/test_{mutation.tested_in or mutation.file}.py", *mutation.select)


def _killed(copy: Path, mutation: Mutation) -> bool:
    """Break the copy, run the tests, mend the copy; tell whether a test failed.

    Raises:
        ValueError: The text to replace is not there exactly once.
    """
    path = copy / "fvar" / "model" / f"{mutation.file}.py"
    intact, started = path.read_text(encoding="utf-8"), time.monotonic()
    if (count := intact.count(mutation.old)) != 1:
        raise ValueError(
            f"{mutation.says}: {mutation.old!r} is {count} times in {path.name}, not once"
        )
    path.write_text(intact.replace(mutation.old, mutation.new), encoding="utf-8")
    found_by = _first_failure(copy, _tests(mutation))
    path.write_text(intact, encoding="utf-8")
    verdict = "killed" if found_by else "SURVIVED"
    seconds = time.monotonic() - started
    _say(f"{verdict:8}  {mutation.file:10}  {mutation.says:60}  {seconds:5.1f} s  {found_by}")
    return bool(found_by)


def _first_failure(copy: Path, tests: tuple[str, ...]) -> str:
    """Run pytest in a fork; return the first test that failed, nothing when all passed.

    Raises:
        RuntimeError: No test failed, but pytest did not end well either.
    """
    log = copy / "log.txt"
    process = multiprocessing.get_context("fork").Process(target=_child, args=(copy, tests, log))
    process.start()
    process.join(TIME_LIMIT_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        return f"no end after {TIME_LIMIT_SECONDS} s"
    said = log.read_text("utf-8")
    failed = re.search(r"^(?:FAILED|ERROR) \S+?::(\S+)", said, re.MULTILINE)
    if process.exitcode == 0:
        return ""
    if process.exitcode != 1 or failed is None:
        raise RuntimeError(f"{' '.join(tests)}: exit code {process.exitcode}\n{said[-2000:]}")
    return failed[1]


def _child(copy: Path, tests: tuple[str, ...], log: Path) -> None:
    """Run the copy's tests on the copy, and nothing of the original."""
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    sys.dont_write_bytecode = (
        True  # two mutants of equal size within a second look alike to a cache
    )
    sys.path[0] = str(copy)
    package = importlib.import_module("fvar")
    if not Path(str(package.__file__)).is_relative_to(copy.resolve()):
        sys.exit(NOT_THE_COPY)
    sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
