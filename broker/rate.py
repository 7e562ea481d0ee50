"""This module spreads what a destination gets over time, so that a partner's rate limit is never exceeded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``count`` in any stretch of ``seconds``; up to ``burst`` of them at once, the rest evenly spread.

    A fraction of ``burst`` lets one that was late be followed the sooner: without it, every late timer costs pace.
    """

    count: int
    seconds: float
    burst: float = 1.0

    @property
    def per_second(self) -> float:
        """Return the steady pace; what may leave at once is taken off it, so that no stretch holds too many."""
        return (self.count - self.burst + 1) / self.seconds


class Bucket:
    """A token bucket; it begins empty, so that starting again and again does not exceed the rate either.

    All times are of one monotonic clock, in seconds.
    """

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = 0.0
        self._at = now

    def wait(self, now: float) -> float:
        """Return the seconds until the next one may leave; 0 for now."""
        missing = 1.0 - self._fill(now)
        return max(missing / self._rate.per_second, 0.0) if missing > _NOTHING else 0.0

    def take(self, now: float) -> None:
        """Let one leave."""
        self._tokens = self._fill(now) - 1.0
        self._at = now

    def within(self, now: float, seconds: float) -> int:
        """Return how many may leave within so many seconds from now."""
        return int(self._fill(now) + seconds * self._rate.per_second + _NOTHING)

    def _fill(self, now: float) -> float:
        return min(self._tokens + (now - self._at) * self._rate.per_second, self._rate.burst)


_NOTHING = 1e-9  # what sums of fractions may be off by
