"""Commands in processes of their own, as users and torchrun start them."""

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

FVAR = Path(sys.executable).parent / "fvar"  # the installed console script
TIMEOUT_SECONDS = 240

Ended = tuple[int | None, str, str]  # exit code, standard output, standard error


def wait_until(condition: Callable[[], object], *, seconds: float = 120) -> None:
    """Wait until `condition` holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Return whether a process runs; one that ended without being waited for does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def fvar(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``fvar`` with `arguments` and return how it ended and what it printed."""
    return subprocess.run(
        [str(FVAR), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def fvar_processes(count: int, arguments: Sequence[object], *, nodes: int = 1) -> list[Ended]:
    """Run ``fvar`` in `count` processes that find each other as torchrun's do, on `nodes` machines."""
    return processes(count, _run_fvar, list(map(str, arguments)), nodes=nodes)


def fvar_on_nodes(arguments: Sequence[object], folders: Sequence[Path]) -> list[Ended]:
    """Run ``fvar`` on several machines, one process each, in a working folder of its own."""
    count = len(folders)
    return processes(count, _run_fvar_in, list(map(str, arguments)), folders, nodes=count)


def processes(
    count: int, target: Callable[..., None], *arguments: object, nodes: int = 1
) -> list[Ended]:
    """Call `target` with `arguments` in `count` processes that find each other as torchrun's do.

    Each of `nodes` machines has equally many, and LOCAL_RANK starts at 0 on each. The processes are forked
    from a process that has imported torch, because the import takes longer than all the rest.

    Returns:
        For each rank its exit code, standard output and standard error.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cli.main", "fvar.stages.train", "fvar.stages.evaluate"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = [
            context.Process(
                target=_run,
                args=(
                    target,
                    arguments,
                    common | {"RANK": str(rank), "LOCAL_RANK": str(rank % (count // nodes))},
                    folder / str(rank),
                ),
            )
            for rank in range(count)
        ]
        for process in started:
            process.start()
        try:
            for process in started:
                process.join(TIMEOUT_SECONDS)
            return [
                (process.exitcode, _text(folder / f"{rank}.out"), _text(folder / f"{rank}.err"))
                for rank, process in enumerate(started)
            ]
        finally:
            for process in started:
                process.kill()
                process.join()


def _run(
    target: Callable[..., None],
    arguments: Sequence[object],
    environment: Mapping[str, str],
    stem: Path,
) -> None:
    os.environ.update(environment)
    for descriptor, suffix in ((1, ".out"), (2, ".err")):
        with stem.with_suffix(suffix).open("w") as file:
            os.dup2(file.fileno(), descriptor)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115  # lives as long as the process
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115  # as above
    target(*arguments)


def _run_fvar(arguments: Sequence[str]) -> None:
    from cli.main import main  # noqa: PLC0415  # in the process it is run in

    sys.argv = ["fvar", *arguments]
    main()


def _run_fvar_in(arguments: Sequence[str], folders: Sequence[Path]) -> None:
    os.chdir(folders[int(os.environ["RANK"])])
    _run_fvar(arguments)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
