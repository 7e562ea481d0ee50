"""This module keeps peers to a pace: who sends faster is read more slowly, so that nothing of it is lost."""

from collections.abc import Callable
from typing import Final

_BURST: Final = 1.0  # seconds of the rate that a peer may be ahead
_MOST: Final = 10_000  # peers that are remembered


class Pace:
    """A token bucket (ITU-T I.371) for each peer, kept as the time at which it will be empty again."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        """``rate`` is messages a second; ``clock`` returns seconds that only grow."""
        self._each = 1.0 / rate
        self._clock = clock
        self._paid_until: dict[str, float] = {}

    def ahead(self, peer: str) -> float:
        """Return the seconds until a peer is within its pace again (0: it is)."""
        return max(self._paid_until.get(peer, 0.0) - self._clock() - _BURST, 0.0)

    def spend(self, peer: str, messages: int) -> float:
        """Note messages of a peer; return the seconds for which it is to be read no more (0: go on)."""
        now = self._clock()
        if len(self._paid_until) >= _MOST:
            self._paid_until = {name: until for name, until in self._paid_until.items() if until > now}
        until = max(self._paid_until.get(peer, 0.0), now) + messages * self._each
        self._paid_until[peer] = until
        return max(until - now - _BURST, 0.0)
