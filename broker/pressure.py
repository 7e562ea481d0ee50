"""This module says whether more may be taken in: how much waits for its commit, is half read, and is free on the disk.

Memory is bounded by not reading: while too much waits for the store, listeners read nothing more, and their peers wait.
While the disk is nearly full the intake refuses, so that what was taken before can still be finished in the rest.
"""

from collections.abc import Callable
from typing import Final

from broker.errors import NotAccepted
from broker.limits import Limits
from broker.notices import Notice
from broker.notices_pressure import IntakeResumed, IntakeStopped, SpaceLow

_BUSY: Final = "too much waits for the store"
_SPACE: Final = "the disk is nearly full"
_RELEASE: Final = 2  # reading goes on when so many times less waits than made it stop
_HARD: Final = 2  # times the limit at which even what was read is refused
_WARNING: Final = 4  # times the limit of free space at which it is told that there is little
_SLACK: Final = 1.1  # times the limit that must be free again


class Pressure:
    """How much the engine holds in memory of what came in; used on the loop only."""

    def __init__(self, limits: Limits | None = None, notify: Callable[[Notice], None] = lambda _notice: None) -> None:
        self.limits = limits or Limits()
        self.waiting = 0  # bytes that wait for their commit
        self.unfinished = 0  # bytes of messages that have begun and not ended
        self.free: int | None = None  # bytes, where the store is on a disk of ours
        self.is_high = False  # read nothing more
        self.is_short = False  # take nothing more
        self._notify = notify
        self._half_read = 0  # connections with such a message
        self._is_low = False
        self._told = ""  # why the intake was told to have stopped
        self._paused: dict[Callable[[], None], None] = {}

    @property
    def state(self) -> str:
        """Return how it is: ``open``, ``busy`` (nothing is read) or ``short`` (of space: everything is refused)."""
        return "short" if self.is_short else "busy" if self.is_high else "open"

    @property
    def reason(self) -> str:
        """Return why nothing more is taken in; empty where it is."""
        return _SPACE if self.is_short else _BUSY if self.is_high else ""

    def take(self, size: int) -> None:
        """Count a message that is handed to the store; raise `NotAccepted` when there is no room for it."""
        if self.is_short:
            raise _refused(_SPACE)
        if self.waiting and self.waiting + size > _HARD * self.limits.waiting:
            raise _refused(_BUSY)
        self.waiting += size
        if self.waiting > self.limits.waiting:
            self.is_high = True

    def give(self, size: int) -> None:
        """Count it no more: it is committed, or was refused."""
        self.waiting -= size
        if self.is_high and self.waiting * _RELEASE <= self.limits.waiting:
            self.is_high = False
            paused, self._paused = self._paused, {}
            for go_on in paused:
                go_on()

    def when_low(self, go_on: Callable[[], None]) -> None:
        """Call ``go_on`` once reading may go on."""
        self._paused[go_on] = None

    def forget(self, go_on: Callable[[], None]) -> None:
        """Call it no more."""
        self._paused.pop(go_on, None)

    def hold(self, before: int, now: int) -> bool:
        """Note that a connection holds so much of a message that has not ended; return False when that is too much.

        Over the limit, those must go that hold more than most; who holds little is not in the way.
        """
        self.unfinished += now - before
        self._half_read += bool(now) - bool(before)
        return now <= before or self.unfinished <= self.limits.unfinished or now * self._half_read < self.unfinished

    def look(self, free: int) -> None:
        """Note how many bytes are free where the store is."""
        self.free = free
        limit = self.limits.free_space
        is_low = free < limit * _WARNING
        if is_low and not self._is_low:
            self._notify(SpaceLow(free=free, limit=limit))
        self._is_low = is_low
        self.is_short = free < limit * (_SLACK if self.is_short else 1.0)

    def tell(self) -> None:
        """Report what has changed since it was asked last; what came and went in between is nobody's concern."""
        if self.reason != self._told:
            if self.reason:
                self._notify(IntakeStopped(reason=self.reason))
            else:
                self._notify(IntakeResumed(reason=self._told))
            self._told = self.reason


def _refused(reason: str) -> NotAccepted:
    return NotAccepted(f"{reason}; send it again later", code="AE", condition=207)
