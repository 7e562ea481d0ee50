"""This module measures what work costs, for tests that bound it, wherever and beside whatever they run.

A second processor that shares its core with somebody else's work takes two or three times as long for the same work,
and a collection of garbage walks all that the tests before have left; bounds are meant for the work.
"""

import gc
import time
from collections.abc import Callable
from typing import Final

_NOMINAL: Final = 0.018  # CPU seconds of the loop below where nothing else runs
_ROUNDS: Final = 1_000_000


def within(seconds: float, work: Callable[[], object]) -> bool:
    """Tell whether work takes less CPU time than this where nothing else runs; what does not is tried again."""
    return cpu_seconds(work, 1) < seconds or cpu_seconds(work) < seconds * pace()


def pace() -> float:
    """Return by how much to stretch a bound on CPU time: 2 at least, since the load may grow the moment after."""
    return 2.0 * max(1.0, cpu_seconds(_count) / _NOMINAL)


def cpu_seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """Return the CPU seconds of the quickest of some rounds of work, without collections of garbage."""
    taken = []
    collects = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            began = time.process_time()
            work()
            taken.append(time.process_time() - began)
    finally:
        if collects:
            gc.enable()
    return min(taken)


def _count() -> None:
    for _ in range(_ROUNDS):
        pass
