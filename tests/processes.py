"""Commands in processes of their own, as users and torchrun start them."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FVAR = Path(sys.executable).parent / "fvar"  # the installed console script
TIMEOUT_SECONDS = 240


def fvar(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``fvar`` with `arguments` and return how it ended and what it printed."""
    return subprocess.run(
        [str(FVAR), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        env=os.environ | environment,
    )


def fvar_processes(count: int, arguments: Sequence[object]) -> list[tuple[int, str, str]]:
    """Run ``python -m cli`` in `count` processes that find each other as torchrun's do.

    Returns:
        For each rank its exit code, standard output and standard error.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "cli", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]
    try:
        outputs = [process.communicate(timeout=TIMEOUT_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(p.returncode, out, err) for p, (out, err) in zip(processes, outputs, strict=True)]
