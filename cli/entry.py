"""Where ``fvar`` begins: Ctrl-C is answered by a line while Python still reads the rest, for 0.2 s."""

import sys

_STOPPED = 3  # `main` has it too, and is not there yet


def main() -> None:
    """Run the command line."""
    try:
        from cli.main import main as run
    except KeyboardInterrupt:
        sys.stderr.write("fvar: interrupted: nothing was begun\n")
        sys.exit(_STOPPED)
    run()
