"""Questions for a probe process that are not answered well; a process can only call functions of a module."""

import os
import signal
import time
from pathlib import Path


def crash(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(_: Path) -> None:
    time.sleep(60)


def break_down(_: Path) -> None:
    raise TypeError("a bug")


def process_id(_: Path) -> int:
    return os.getpid()
