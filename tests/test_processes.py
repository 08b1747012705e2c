"""Work in processes: results keep their order, and a killed process stops it with a reason."""

import os

import pytest

from fvar.errors import StoppedError
from fvar.processes import in_processes


def _die_at_3(task: int) -> int:
    if task == 3:
        os._exit(1)
    return -task


def test_results_come_in_order_until_a_process_dies() -> None:
    """Tasks keep their order over two processes; a killed one (memory) stops with cause and next step."""
    done = list(in_processes(iter([0, 1, 2]), _die_at_3, workers=2))
    assert done == [(0, 0), (1, -1), (2, -2)]
    with pytest.raises(StoppedError, match=r"one of them was killed, .* --workers"):
        list(in_processes(iter([3]), _die_at_3, workers=2))
