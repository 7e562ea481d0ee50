"""This module watches the time of one connection: a handshake, a message and silence may each take only so long.

There is one timer a connection, never one a message: when it rings, it is worked out what is really late.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from broker.handshake import LATE, WITHIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one connection may cost: bytes of a message, messages of a batch, seconds of a frame, and of silence."""

    message: int
    batch: int
    frame_deadline: float
    idle: float  # 0: any


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a connection does now: whether a frame is open, whether it reads, and whether answers are due."""

    frame: bool
    reading: bool
    waiting: bool


class Watch:
    """Calls ``on_late`` with the reason when something takes too long."""

    def __init__(
        self, reactor: Any, limits: Limits, state: Callable[[], State], on_late: Callable[[str], None]
    ) -> None:
        self._reactor = reactor
        self._limits = limits
        self._state = state
        self._on_late = on_late
        self._agreed_by = 0.0  # when TLS must be agreed on; 0: it is, or there is none
        self._frame_since = 0.0  # when the open frame began
        self._heard = 0.0  # when something came last
        self._timer: Any = None

    def begin(self, *, handshake: bool) -> None:
        """Watch a connection that was just made."""
        self._heard = self._reactor.seconds()
        if self._limits.idle:
            self._ring_after(self._limits.idle)
        if handshake:
            self._agreed_by = self._heard + WITHIN
            self._ring_after(WITHIN)

    def agreed(self) -> None:
        """Note that TLS is agreed on."""
        self._agreed_by = 0.0

    def heard(self, *, frame: bool, began: bool) -> None:
        """Note that something came; ``frame`` says whether one is open now, ``began`` whether it may be a new one."""
        if not frame:
            self._frame_since = 0.0
            if not self._limits.idle:
                return
        now = self._heard = self._reactor.seconds()
        if frame and (began or not self._frame_since):
            self._frame_since = now
            self._ring_after(self._limits.frame_deadline)

    def resumed(self, *, frame: bool) -> None:
        """Note that reading goes on; an open frame's time did not run while nothing was read."""
        self._heard = self._reactor.seconds()
        if frame:
            self._frame_since = self._heard

    def cut_after(self, seconds: float, cut: Callable[[], None]) -> None:
        """Watch nothing else any more, and cut the connection off after so long."""
        self.end()
        self._timer = self._reactor.callLater(seconds, self._cut, cut)

    def end(self) -> None:
        """Watch nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self, cut: Callable[[], None]) -> None:
        self._timer = None
        cut()

    def _ring_after(self, seconds: float) -> None:
        """Look again after so long at the latest."""
        if self._timer is not None:
            if self._timer.getTime() <= self._reactor.seconds() + seconds:
                return
            self._timer.cancel()
        self._timer = self._reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        """See whether something took too long; look again when the next could have."""
        self._timer = None
        left = self._left(self._state(), self._reactor.seconds())
        for seconds, reason in left:
            if seconds <= 0:
                self._on_late(reason)
                return
        if left:
            self._ring_after(min(left)[0])

    def _left(self, state: State, now: float) -> list[tuple[float, str]]:
        """Return how long each thing that is under way may still take."""
        limits = self._limits
        left = []
        if self._agreed_by:
            left.append((self._agreed_by - now, LATE))
        if state.frame:
            rest = self._frame_since + limits.frame_deadline - now if state.reading else limits.frame_deadline
            left.append((rest, "a frame did not end in time"))
        if limits.idle:
            quiet = state.reading and not state.waiting
            left.append((self._heard + limits.idle - now if quiet else limits.idle, "nothing came for a long time"))
        return left
