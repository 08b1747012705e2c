"""Work in processes and threads: results keep their order; a killed process stops it with a reason."""

import os
import threading

import pytest

from fvar.errors import StoppedError
from fvar.processes import in_processes, in_threads


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


@pytest.mark.parametrize("ahead", [0, 1, 4])
def test_threads_take_a_few_tasks_ahead(ahead: int) -> None:
    """Results come in order, `ahead` tasks are taken before they are due, and the threads end."""
    taken, before = list[int](), threading.active_count()
    tasks = (taken.append(task) or task for task in range(9))
    for due, (task, result) in enumerate(in_threads(tasks, lambda t: -t, ahead=ahead, name="work")):
        assert (task, result) == (due, -due)
        assert len(taken) == min(due + 1 + ahead, 9)
    assert threading.active_count() == before
