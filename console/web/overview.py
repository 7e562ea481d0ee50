"""This module keeps the one picture that the first page, the live counters and `handoff status` show.

The picture is read from the store, not summed up from notices, so it is right after a restart too. Reading is paced:
at most twice a second, not at all while nothing happens, and never for more than a twentieth of the time.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from broker import queries
from broker.queries import Backlog, Count
from console.plain import iso
from console.report import Hub
from console.web.ports import ChannelStatus, Engine, Pressure

FASTEST: Final = 0.5  # seconds between two reads while something happens
SLOWEST: Final = 2.0  # seconds between two reads while nothing does
_SHARE: Final = 20
_PATIENCE: Final = 1.0  # seconds that a viewer waits for the store before it is shown what was read last
_OF_MESSAGES: Final = ("received", "processed", "filtered", "failed", "duplicate", "quarantined")
_OF_DELIVERIES: Final = (
    "delivered",
    "suppressed",
    "expired",
    "cancelled",
    "held",
    "dead",
    "discarded",
    "attempt",
    "fallback",
)


class Overview:
    """Reads and keeps the picture; many viewers cost one read."""

    def __init__(self, engine: Engine, hub: Hub) -> None:
        self._engine = engine
        self._hub = hub
        self._reading: asyncio.Task[None] | None = None
        self._read_at = -1e9  # monotonic
        self._cost = 0.0
        self._version = -1
        self._past_until = -1  # the hour before which `_past` counts
        self._past: Sequence[Count] = ()
        self._today: Sequence[Count] = ()
        self.backlog: Sequence[Backlog] = ()

    async def current(self) -> dict[str, Any]:
        """Return the picture, as JSON values; what runs is as of this moment, what is counted as of the last read."""
        answers = await self._refreshed()
        channels = picture(self._engine.status(), self._today, self._past, self.backlog)
        intake = _intake(self._engine.pressure, store_answers=answers)
        return {"started_at": iso(self._engine.started_at), "intake": intake, "channels": channels}

    async def _refreshed(self) -> bool:
        """Read again where that is due; return False where the store does not answer in time."""
        if self._reading is None and self._is_stale():
            self._reading = asyncio.create_task(self._read())
        if self._reading is None:
            return True
        done, _ = await asyncio.wait({self._reading}, timeout=_PATIENCE)
        if not done:
            return False
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.result()
        return True

    def _is_stale(self) -> bool:
        age = time.monotonic() - self._read_at
        if age < max(FASTEST * 0.9, self._cost * _SHARE):
            return False
        return age >= SLOWEST or self._version != self._hub.version

    async def _read(self) -> None:
        version, begun = self._hub.version, time.monotonic()
        midnight = _midnight_hour(time.time())
        if midnight != self._past_until:
            self._past = await self._engine.read(queries.counts, 0, midnight)
            self._past_until = midnight
        self._today = await self._engine.read(queries.counts, midnight)
        self.backlog = await self._engine.read(queries.backlog)
        self._version, self._read_at = version, time.monotonic()
        self._cost = self._read_at - begun


def _intake(pressure: Pressure, *, store_answers: bool) -> dict[str, Any]:
    """Return whether messages are taken in, and why not: ``open``, ``busy``, ``short`` of space, or ``late``."""
    late = pressure.state == "open" and not store_answers
    return {
        "state": "late" if late else pressure.state,
        "reason": "the store does not answer" if late else pressure.reason,
        "store_answers": store_answers,
        "waiting_bytes": pressure.waiting,
        "free_bytes": pressure.free,
    }


def _midnight_hour(now: float) -> int:
    """Return the hour since 1970 in which the local day began."""
    day = datetime.fromtimestamp(now).astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    return int(day.timestamp() // 3600)


def picture(
    status: Sequence[ChannelStatus], today: Sequence[Count], past: Sequence[Count], backlog: Sequence[Backlog]
) -> list[dict[str, Any]]:
    """Return one object per channel: its state, counts of today and in total, what waits, and its destinations."""
    now, ever = _table(today), _table([*past, *today])
    running = {each.channel: each for each in status}
    waits: dict[str, list[Backlog]] = {name: [] for name in running}
    for each in backlog:
        waits.setdefault(each.channel, []).append(each)
    return [_channel(name, running.get(name), waits[name], now, ever) for name in sorted(waits)]


Table = dict[tuple[str, str | None, str], int]


def _table(found: Sequence[Count]) -> Table:
    table: Table = defaultdict(int)
    for each in found:
        table[each.channel, each.destination, each.name] += each.value
    return table


def _channel(name: str, status: ChannelStatus | None, waits: list[Backlog], now: Table, ever: Table) -> dict[str, Any]:
    oldest = min((each.oldest_at for each in waits if each.oldest_at is not None), default=None)
    how = {each.destination: each.state for each in status.destinations} if status else {}
    routes = [each.destination for each in waits if each.destination is not None]
    return {
        "channel": name,
        "state": status.state if status else "stopped",
        "reason": status.reason if status else "",
        "revision": status.revision if status else None,
        "endpoints": list(status.endpoints) if status else [],
        "connections": status.connections if status else 0,
        "today": _of_channel(name, routes, now),
        "total": _of_channel(name, routes, ever),
        "queued": sum(each.waiting for each in waits),
        "dead": sum(each.dead for each in waits),
        "oldest_at": None if oldest is None else iso(oldest),
        "destinations": [_destination(each, how, now, ever) for each in waits if each.destination is not None],
    }


def _of_channel(name: str, routes: Sequence[str], table: Table) -> dict[str, int]:
    found = {key: table.get((name, None, key), 0) for key in _OF_MESSAGES}
    return found | {"delivered": sum(table.get((name, route, "delivered"), 0) for route in routes)}


def _destination(waits: Backlog, how: Mapping[str, str], now: Table, ever: Table) -> dict[str, Any]:
    def of(table: Table) -> dict[str, int]:
        return {key: table.get((waits.channel, waits.destination, key), 0) for key in _OF_DELIVERIES}

    return {
        "destination": waits.destination,
        "state": how.get(waits.destination or "", "stopped"),
        "today": of(now),
        "total": of(ever),
        "waiting": waits.waiting,
        "dead": waits.dead,
        "oldest_at": None if waits.oldest_at is None else iso(waits.oldest_at),
        "due_at": None if waits.due_at is None else iso(waits.due_at),
    }
