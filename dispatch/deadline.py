"""This module ends what takes too long: one timer watches over all that is under way and may take equally long.

A timer for each would be set and cancelled thousands of times a second, and hardly one of them would ever ring.
"""

import asyncio


class Deadline:
    """A time that everything may take, in seconds from when each began; used on one loop only."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._under_way: dict[asyncio.Timeout, float] = {}  # when each ends (loop time): first what began first
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> asyncio.Timeout:
        """Return what raises `TimeoutError` once the time is over; to be entered at once, and given to `end` after."""
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None)
        self._under_way[limit] = until = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(until, self._ring)
        return limit

    def end(self, limit: asyncio.Timeout) -> None:
        """Forget what is over."""
        self._under_way.pop(limit, None)

    def close(self) -> None:
        """Let go of the timer: nothing is under way any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for limit, until in list(self._under_way.items()):
            if until > now:
                self._timer = loop.call_at(until, self._ring)
                return
            self.end(limit)
            limit.reschedule(now)
