"""This module ends the engine at a named place, so that tests can see what a crash there leaves behind.

``HANDOFF_CRASH=accept.committed:17`` kills the process (SIGKILL) the 17th time that place is reached. Without the
variable a crash point does nothing.
"""

import os
import signal
from typing import Final

# Every place that exists; the crash tests visit each of them, and fail for one that is never reached.
POINTS: Final = (
    "accept.received",
    "accept.inserted",
    "accept.committed",
    "process.begun",
    "process.returned",
    "finish.inserted",
    "finish.committed",
    "claim.updated",
    "claim.committed",
    "send.begun",
    "send.returned",
    "batch.renamed",
    "fallback.born",
    "record.updated",
    "record.committed",
    "pass.accepted",
    "pass.committed",
    "act.applied",
    "prm.before_commit",
    "prm.after_commit",
    "file.claimed",
    "file.fetched",
    "file.noted",
    "file.committed",
    "file.copied",
    "file.moved",
    "poll.begun",
    "poll.committed",
    "poll.settled",
)

_NAME, _, _HIT = os.environ.get("HANDOFF_CRASH", "").partition(":")
_left = int(_HIT or 1)
_others: list[int] = []  # processes that die with this one


def end_with_us(process: int) -> None:
    """Let a crash point in this process kill another one first: a crash takes the whole engine."""
    _others.append(process)


def crash_point(name: str) -> None:
    """Die here if this is the place and the time that ``HANDOFF_CRASH`` names."""
    global _left  # noqa: PLW0603 - one countdown for the process is what is meant
    if _NAME and name == _NAME:
        _left -= 1
        if _left == 0:
            for process in (*_others, os.getpid()):
                os.kill(process, signal.SIGKILL)
