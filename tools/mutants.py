"""Breaks a copy of the package in each way of `mutations.toml`; the tests must kill every mutant.

Run by ``make mutants``. Prints a line for each mutant with the test that found it; exits with 1 if one
survives. All run in this process, because importing torch takes longer than the tests; what comes from the
copy is imported again each time.
"""

import contextlib
import importlib
import io
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Mutation:
    """One text of one file of `fvar/model`, replaced by another; `mutations.toml` describes the fields."""

    says: str
    file: str
    old: str
    new: str
    select: Sequence[str] = ("-k", "not resnet34 and not resnet50 and not resnet101")
    tested_in: str | None = None


ROOT = Path(__file__).resolve().parents[1]
MUTATIONS = [
    Mutation(**entry)
    for entry in tomllib.loads(Path(__file__).with_name("mutations.toml").read_text())["mutation"]
]
COPIED = ("fvar", "tests", "pyproject.toml")
# A mutant may loop forever; and hypothesis is imported from the second run on, which pytest warns about.
PYTEST = (
    "-x",
    "-q",
    "--timeout=60",
    "--timeout-method=signal",
    "-p",
    "no:cacheprovider",
    "--hypothesis-profile=mutants",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)


def main() -> int:
    """See the tests pass as things are, then try every mutation; return the exit code."""
    sys.dont_write_bytecode = (
        True  # the cache cannot tell two mutants of one size within a second apart
    )
    with tempfile.TemporaryDirectory() as temporary:
        copy = _copy_of_the_package(Path(temporary).resolve())
        for tests in sorted({_tests(mutation) for mutation in MUTATIONS}):
            if found_by := _first_failure(copy, tests):
                _say(f"{' '.join(tests)} must pass before mutants are tried: {found_by}")
                return 2
        survivors = [mutation for mutation in MUTATIONS if not _killed(copy, mutation)]
        os.chdir(ROOT)
    _say(f"{len(MUTATIONS) - len(survivors)} of {len(MUTATIONS)} mutants killed")
    return 1 if survivors else 0


def _copy_of_the_package(folder: Path) -> Path:
    """Copy what is tested and its tests into `folder`, and import from there from now on."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    os.chdir(folder)
    sys.path[0] = str(folder)
    return folder


def _tests(mutation: Mutation) -> tuple[str, ...]:
    """Return pytest's arguments."""
    name = f"test_{mutation.tested_in or Path(mutation.file).name}.py"
    (path,) = (ROOT / "tests" / "model").rglob(name)
    return (path.relative_to(ROOT).as_posix(), *mutation.select)


def _killed(copy: Path, mutation: Mutation) -> bool:
    """Break the copy, run the tests, restore the copy; return whether a test failed.

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
    _say(f"{verdict:8}  {mutation.file:22}  {mutation.says:60}  {seconds:5.1f} s  {found_by}")
    return bool(found_by)


class _FirstFailure:
    """Remembers the first test that failed, as a plugin of pytest."""

    name = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid.partition("::")[2]


def _first_failure(copy: Path, tests: tuple[str, ...]) -> str:
    """Run the copy's tests on the copy; return the first test that failed, nothing when all passed.

    Raises:
        RuntimeError: No test failed, but pytest did not end well either, or tested something else.
    """
    _forget(copy)
    package = importlib.import_module("fvar")
    if not Path(str(package.__file__)).is_relative_to(copy):
        raise RuntimeError(f"{package.__file__}: is tested instead of the copy in {copy}")
    said, failure = io.StringIO(), _FirstFailure()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main([*PYTEST, *tests], plugins=[failure])
    if code != (pytest.ExitCode.TESTS_FAILED if failure.name else pytest.ExitCode.OK):
        raise RuntimeError(f"{' '.join(tests)}: {code!r}\n{said.getvalue()[-2000:]}")
    return failure.name


def _forget(copy: Path) -> None:
    """Let every module that came from the copy be imported again."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(copy):
            del sys.modules[name]
    importlib.invalidate_caches()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
