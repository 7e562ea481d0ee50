"""This module says when a destination may be sent to: breaker, rate, quiet hours, what it asked for, and an operator.

It holds no clock: all times are passed in, of one monotonic clock, in seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from broker.breaker import CLOSED, HALF_OPEN, OPEN, Breaker, BreakerPolicy
from broker.delivery import Delivered, Outcome, Rejected, Retry, Suppressed
from broker.rate import Bucket, Rate

_AHEAD: Final = 0.05  # seconds before its token that a delivery is claimed, so that it is ready in time
_FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Change:
    """What a send's outcome changed: ``opened``, ``reopened``, ``closed`` (the circuit) or ``busy`` (it asked)."""

    what: str
    seconds: float = 0.0  # for which nothing is sent


class Gate:
    """The gate of one destination; ``held`` says that its channel file shuts it."""

    def __init__(self, policy: BreakerPolicy, rate: Rate | None, now: float, *, held: bool = False) -> None:
        self.is_paused = False  # by an operator
        self._held = held
        self._breaker = Breaker(policy)
        self._bucket = Bucket(rate, now) if rate is not None else None
        self._asked_until = 0.0
        self.quiet_until = 0.0  # as the last look at the clock on the wall has it

    @property
    def is_clear(self) -> bool:
        """Say whether everything may go as fast as it can: nothing failed lately, nothing limits, nobody shut it."""
        return not (
            self._breaker.failures
            or self._asked_until
            or self.is_paused
            or self._held
            or self.quiet_until
            or self._bucket is not None
            or self._breaker.state != CLOSED
        )

    @property
    def is_probing(self) -> bool:
        """Say whether one delivery is to find out, or is finding out, whether the other side is back."""
        return self._breaker.state != CLOSED

    def state(self, now: float) -> str:
        """Return how it is: running, paused (by an operator), held (by its file), quiet, open, half_open, or busy."""
        if self.is_paused:
            return "paused"
        if self._held:
            return "held"
        if self.quiet_until > now:
            return "quiet"
        if self._breaker.state != CLOSED:
            return HALF_OPEN if self._breaker.state == HALF_OPEN else OPEN
        return "busy" if self._asked_until > now else "running"

    def wait(self, now: float, under_way: int) -> float:
        """Return the seconds until a send may begin; infinite when that depends on somebody else."""
        if self._bucket is None:
            return self._wait(now, under_way)
        return max(self._wait(now, under_way), self._bucket.wait(now))

    def wait_to_claim(self, now: float, under_way: int) -> float:
        """Return the seconds until what is to be sent then may be claimed: a little earlier than it leaves."""
        if self._bucket is None:
            return self._wait(now, under_way)
        return max(self._wait(now, under_way), self._bucket.wait(now) - _AHEAD)

    def _wait(self, now: float, under_way: int) -> float:
        if self.is_paused or self._held:
            return _FOREVER
        return max(self._breaker.wait(now, under_way), self._asked_until - now, self.quiet_until - now, 0.0)

    def room(self, now: float, free: int) -> int:
        """Return how many of ``free`` sends may be claimed for."""
        if self._breaker.state != CLOSED:
            return min(free, 1)
        return free if self._bucket is None else min(free, max(self._bucket.within(now, _AHEAD), 1))

    def begin(self, now: float) -> bool:
        """Note that a send begins; say whether it is a probe."""
        if self._bucket is not None:
            self._bucket.take(now)
        return self._breaker.begin()

    def judge(self, outcomes: Sequence[Outcome], now: float) -> list[Change]:
        """Take in how a send ended; return what that changed.

        One that asked for time did answer: its circuit stays closed, and nothing is sent for so long.
        """
        kinds = set(map(type, outcomes))
        if kinds == {Delivered} and not self._asked_until:
            return self._succeeded()  # as it mostly is
        waits = [one.after for one in outcomes if isinstance(one, Retry) and one.after is not None]
        answered = waits or not kinds.isdisjoint({Delivered, Rejected, Suppressed})
        changes = self._succeeded() if answered else self._failed(now)
        is_asked = self._asked_until > now
        if any(waits):
            if not is_asked:
                changes.append(Change("busy", max(waits)))
            self._asked_until = max(self._asked_until, now + max(waits))
        elif not is_asked:
            self._asked_until = 0.0
        return changes

    def _succeeded(self) -> list[Change]:
        return [Change("closed")] if self._breaker.succeeded() else []

    def _failed(self, now: float) -> list[Change]:
        was_closed = self._breaker.state == CLOSED
        seconds = self._breaker.failed(now)
        return [] if seconds is None else [Change("opened" if was_closed else "reopened", seconds)]
