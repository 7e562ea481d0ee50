"""This module leaves a destination alone that only fails, and lets one delivery at a time find out if it is back."""

from dataclasses import dataclass
from typing import Final

from tenacity import wait_exponential

from broker.retry import wait_after


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """After ``failures`` sends in a row without an answer (0: never), leave it alone: ``first``, then doubling."""

    failures: int = 5
    first: float = 1.0  # seconds
    longest: float = 60.0

    def wait(self, times: int) -> float:
        """Return the seconds to leave it alone for the how-manieth time in a row, from 1."""
        return wait_after(wait_exponential(multiplier=self.first, max=self.longest), times)


CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"


class Breaker:
    """A circuit breaker: closed (send), open (leave alone until a time), half-open (one probe is on the wire).

    All times are of one monotonic clock, in seconds.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self.state = CLOSED
        self.failures = 0  # in a row, while closed
        self._policy = policy
        self._times = 0  # opened in a row
        self._until = 0.0

    def wait(self, now: float, under_way: int) -> float:
        """Return the seconds until something may be sent; infinite while that depends on what is on the wire."""
        if self.state == CLOSED:
            return 0.0
        if self.state == HALF_OPEN:
            return float("inf")
        # A probe goes alone: what is still on the wire from before would be taken for its answer.
        return max(self._until - now, float("inf") if under_way else 0.0)

    def begin(self) -> bool:
        """Note that a send begins; say whether it is the probe."""
        if self.state == CLOSED:
            return False
        self.state = HALF_OPEN
        return True

    def succeeded(self) -> bool:
        """Note that the other side answered; say whether that closed the circuit."""
        closes = self.state != CLOSED
        self.state, self.failures, self._times = CLOSED, 0, 0
        return closes

    def failed(self, now: float) -> float | None:
        """Note that it did not; return for how many seconds it is left alone if that opened the circuit (again)."""
        if self.state == OPEN:
            return None  # sent before it opened
        self.failures += 1
        if self.state == CLOSED and not 0 < self._policy.failures <= self.failures:
            return None
        self.state = OPEN
        self._times += 1
        seconds = self._policy.wait(self._times)
        self._until = now + seconds
        return seconds
