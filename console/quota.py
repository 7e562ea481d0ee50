"""This module keeps one peer from filling the log: of each kind of notice about it, so many a minute are told.

What is beyond that is counted, and told as one line when the minute is over; metrics count every one all the same.
"""

import time
from collections.abc import Callable
from math import inf
from threading import Lock
from typing import Final, NamedTuple

from broker.notices import Notice

MOST: Final = 20  # notices of one kind about one peer in a minute; enough to see what is wrong with it
MINUTE: Final = 60.0  # seconds
_PEERS: Final = 100  # peers and kinds that are told apart at a time
_OTHERS: Final = "others"  # what those beyond are called, all together


class Subject(NamedTuple):
    """What a minute is counted for."""

    kind: type[Notice]
    channel: str
    host: str


class _Minute:
    __slots__ = ("began", "left_out", "told")

    def __init__(self, began: float) -> None:
        self.began = began
        self.told = 0
        self.left_out = 0


class Quota:
    """Says of each notice whether it is told; usable from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minutes: dict[Subject, _Minute] = {}
        self._lock = Lock()

    def admits(self, notice: Notice) -> bool:
        """Count a notice, and say whether it is told; what is about no peer always is."""
        peer = getattr(notice, "peer", None)
        if peer is None:
            return True
        subject = Subject(type(notice), getattr(notice, "channel", ""), host_of(peer))
        with self._lock:
            minute = self._minutes.get(subject) or self._begin(subject)
            if minute.told < MOST:
                minute.told += 1
                return True
            minute.left_out += 1
            return False

    def _begin(self, subject: Subject) -> _Minute:
        if len(self._minutes) >= _PEERS:
            subject = subject._replace(host=_OTHERS)
        return self._minutes.setdefault(subject, _Minute(self._clock()))

    def settle(self, *, all_of_it: bool = False) -> list[tuple[Subject, int]]:
        """Return how much was left out in the minutes that are over, or in all, and begin them anew."""
        before = inf if all_of_it else self._clock() - MINUTE
        with self._lock:
            over = [subject for subject, minute in self._minutes.items() if minute.began <= before]
            ended = [(subject, self._minutes.pop(subject).left_out) for subject in over]
        return [(subject, count) for subject, count in ended if count]


def host_of(peer: str) -> str:
    """Return the part of a peer that stays the same when it connects again, or when its next line is read."""
    host, _, number = peer.rpartition(":")
    return host if host and number.isdecimal() else peer
