"""Disks that refuse file locks, as some NFS and Lustre do: everything is written all the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# flock(2) and the locks of fcntl(2) end with ENOLCK; all other calls of fcntl go on.
LIBRARY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static int refuse(void) {
    FILE *told = fopen(getenv("TOLD"), "a");
    if (told) { fputs("x", told); fclose(told); }
    errno = ENOLCK;
    return -1;
}
int flock(int descriptor, int operation) { return refuse(); }
static int forward(const char *name, int descriptor, int command, void *argument) {
    if (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK) return refuse();
    int (*next)(int, int, ...) = dlsym(RTLD_NEXT, name);
    return next(descriptor, command, argument);
}
int fcntl(int descriptor, int command, ...) {
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return forward("fcntl", descriptor, command, argument);
}
int fcntl64(int descriptor, int command, ...) {
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return forward("fcntl64", descriptor, command, argument);
}
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="preloads a library as Linux does")
def test_stages_need_no_locks(tmp_path: Path) -> None:
    """The toy set is made, extracted and verified although every lock is refused."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("wants a C compiler, to make a library that refuses locks")
    (tmp_path / "refuse.c").write_text(LIBRARY)
    library = tmp_path / "refuse.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(tmp_path / "refuse.c"), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    told = tmp_path / "told"
    environment = os.environ | {"LD_PRELOAD": str(library), "TOLD": str(told)}
    toy = "toy --out toy --clips-per-class 1 --frames 4 --informative 2 --size 32"
    for line in (
        toy,
        "extract toy/toy.csv --videos toy/videos --out frames --short-side 32 --workers 1",
        "verify frames --workers 1",
    ):
        done = subprocess.run(
            [sys.executable, "-m", "cli", *line.split()],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert told.stat().st_size > 0  # a lock was asked for, and refused
