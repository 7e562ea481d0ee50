"""This module says how much slower this machine is now than one with nothing else to do, for tests that bound time.

A second processor that shares its core with somebody else's work takes two or three times as long for the same work;
bounds are meant for the work.
"""

import time
from typing import Final

_NOMINAL: Final = 0.018  # CPU seconds of the loop below where nothing else runs
_ROUNDS: Final = 1_000_000


def pace() -> float:
    """Return by how much to stretch a bound on CPU time: 2 at least, since the load may grow the moment after."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        for _ in range(_ROUNDS):
            pass
        taken.append(time.process_time() - began)
    return 2.0 * max(1.0, min(taken) / _NOMINAL)
