"""This module lets what has the same key go one after another: two searches at once find nothing, and two are made."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


@dataclass(slots=True)
class Turns:
    """One turn per key, forgotten as soon as nobody has or awaits it."""

    _busy: dict[str, _Turn] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Wait until nobody else has the key's turn, and have it."""
        turn = self._busy.setdefault(key, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._busy[key]
