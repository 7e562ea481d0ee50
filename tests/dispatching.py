"""This module is a dispatcher over a real store and a destination that does what a test tells it."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from broker.channel import RoutePlan
from broker.delivery import Delivered, Delivery, Outcome
from broker.dispatcher import Dispatcher
from broker.ids import EPOCH_MS, Ids
from broker.migrate import migrate
from broker.notices import Notice
from broker.retry import RetryPolicy
from broker.store import Store
from broker.units import Finished, NewDelivery, NewMessage, Recorded
from tests.committing import accept, finish
from tests.filling import SEALER

QUICK = RetryPolicy(attempts=0, first=0.01, max=0.02)


@dataclass
class Script:
    """A destination; ``outcomes`` come first, then everything is delivered. ``gate`` set: sends wait for it."""

    outcomes: deque[Outcome | Exception] = field(default_factory=deque)
    sent: list[tuple[float, Delivery]] = field(default_factory=list)  # monotonic
    batches: list[int] = field(default_factory=list)
    abreast: list[int] = field(default_factory=list)  # how many were under way with each send
    hold: asyncio.Event | None = None
    _under_way: int = 0

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Note what came, and end as told."""
        self._under_way += 1
        self.abreast.append(self._under_way)
        self.batches.append(len(deliveries))
        self.sent += [(time.monotonic(), each) for each in deliveries]
        try:
            await (self.hold.wait() if self.hold is not None else asyncio.sleep(0))
        finally:
            self._under_way -= 1
        return [self._next() for _ in deliveries]

    def _next(self) -> Outcome:
        outcome = self.outcomes.popleft() if self.outcomes else Delivered()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@dataclass
class Rig:
    """A store, a dispatcher of its destination ``main`` (and maybe one of ``other``), and what was noticed."""

    store: Store
    registered: Any
    said: list[Notice]
    ids: Ids
    dispatchers: dict[str, Dispatcher] = field(default_factory=dict)
    concluded: list[Recorded] = field(default_factory=list)
    fatal: list[Exception] = field(default_factory=list)  # why the engine would stop

    def add(self, name: str, destination: Script, **options: Any) -> Dispatcher:
        """Make a dispatcher; it is not started."""
        plan = RoutePlan(name=name, destination=destination, **{"policy": QUICK, **options})
        route = self.registered.routes[name]
        made = Dispatcher(
            self.store,
            SEALER,
            "adt",
            self.registered.channel,
            route,
            plan,
            self.said.append,
            self.wake,
            self.concluded.append,
        )
        self.dispatchers[name] = made
        return made

    def wake(self, routes: frozenset[int]) -> None:
        """Wake dispatchers, as the engine does."""
        for dispatcher in self.dispatchers.values():
            if dispatcher.route in routes:
                dispatcher.due()

    async def deliver(self, count: int = 1, lane: str = "", *, instead: str = "", arrived: float = 0.0) -> list[int]:
        """Commit messages with a delivery to ``main`` each (in a lane of its own); return the ids of those.

        ``instead`` names a destination that stands by; ``arrived`` is when, if not now.
        """
        return [await self._one(lane or str(number), instead, arrived) for number in range(count)]

    async def _one(self, lane: str, instead: str, arrived: float) -> int:
        identifier = _at(arrived) if arrived else self.ids.next()
        message = NewMessage(identifier, self.registered.channel, time.time(), "ADT^A08", "p", identifier, 1, b"MSH|")
        await accept(self.store, message)
        deliveries = [self._delivery(identifier + 1, "main", lane)]
        if instead:
            deliveries.append(self._delivery(identifier + 2, instead, lane, (identifier + 1,)))
        unit = Finished(
            identifier, self.registered.channel, self.registered.revision, "processed", time.time(),
            deliveries=tuple(deliveries),
        )  # fmt: skip
        for placed in await finish(self.store, unit):
            if dispatcher := next((d for d in self.dispatchers.values() if d.route == placed.delivery.route), None):
                dispatcher.offer(placed)
                dispatcher.wake()
        return identifier + 1

    def _delivery(self, identifier: int, name: str, lane: str, instead: tuple[int, ...] = ()) -> NewDelivery:
        dispatcher = self.dispatchers.get(name)
        eager = not instead and dispatcher is not None and dispatcher.take()
        route = self.registered.routes[name]
        return NewDelivery(identifier, route, SEALER.lane(lane), None, eager, b"request", instead)

    async def rows(self, sql: str) -> list[Any]:
        """Read beside the writer."""
        return list(await self.store.read(lambda connection: connection.rows(sql)))

    async def states(self, name: str = "main") -> dict[str, int]:
        """Count a destination's deliveries by state."""
        route = self.registered.routes[name]
        return dict(await self.rows(f"SELECT state, count(*) FROM delivery WHERE route_id = {route} GROUP BY state"))

    async def until(self, condition: Callable[[], Any], seconds: float = 10.0) -> None:
        """Wait until something is so; it may be a coroutine function."""
        end = time.monotonic() + seconds
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            assert time.monotonic() < end, f"not within {seconds:g} s; noticed: {self.said[-5:]}"
            await asyncio.sleep(0.005)

    async def ended(self, states: dict[str, int], name: str = "main") -> None:
        """Wait until a destination's deliveries are in these states."""

        async def reached() -> bool:
            return await self.states(name) == states

        await self.until(reached)


_COUNT = count(1)


def _at(arrived: float) -> int:
    return ((int(arrived * 1000) - EPOCH_MS) << 22) + next(_COUNT) * 64


@contextlib.asynccontextmanager
async def rigged(url: str) -> AsyncIterator[Rig]:
    """Open a store with one channel; stop every dispatcher at the end."""
    await asyncio.to_thread(migrate, url)
    said: list[Notice] = []
    store = Store(url, SEALER, said.append, inside=True)
    await store.open()
    rig = Rig(store, await store.register("adt", "r1", "{}", ["main", "other"]), said, Ids())
    store.on_fatal = rig.fatal.append
    try:
        yield rig
    finally:
        for dispatcher in rig.dispatchers.values():
            await dispatcher.stop(5)
        await store.close()


def sqlite(folder: Path) -> str:
    """Return the address of a database in a folder."""
    return f"sqlite:///{folder / 'handoff.db'}"
