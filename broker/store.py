"""This module is the one durable place: one writer that takes everything that waits and commits it as a group.

A unit of work is handed over with `Store.accept`, `finish`, `record`, … and its future resolves after the commit that
holds it. While one group commits the next one gathers, so an idle engine commits singly (0.3 ms) and a busy one commits
hundreds at a time. The writer is one thread: SQLite allows no more, and on PostgreSQL it keeps the order of a lane free
of the trap that sequence numbers become visible out of order.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final

from broker import acts, writes
from broker.crash import crash_point
from broker.errors import StoreError, StoreFatal, StoreUnavailable
from broker.keys import Keys
from broker.notices import Committed, Notice
from broker.seal import Sealer
from broker.sql import Connection, connect
from broker.units import Accepted, Act, Claim, Claims, Done, Finished, NewMessage, Placed, Quarantine, Recorded

_GROUP: Final = 512  # most units in one transaction
# Nobody waits for these, so they wait a moment for somebody else's commit: half as many syncs under load.
_PATIENT: Final = frozenset({"finish", "record"})
_PATIENCE: Final = 0.003  # seconds
_PAUSE: Final = 0.5  # seconds between attempts to reach a database that is away


@dataclass(frozen=True, slots=True)
class _Unit:
    kind: str
    item: Any
    future: "asyncio.Future[Any]"


class Store:
    """The engine's store; every method but `open` and `close` may be called from the loop only."""

    def __init__(self, url: str, sealer: Sealer, notify: Callable[[Notice], None]) -> None:
        self._url = url
        self._sealer = sealer
        self._notify = notify
        self._queue: SimpleQueue[_Unit | None] = SimpleQueue()
        self._channels: dict[int, int] = {}  # route -> channel
        self._keys = Keys()
        self._connections: list[Connection] = []  # that are open: a failed start has not got to all of them
        self._fatal: StoreFatal | None = None
        self._reads = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self.dialect = "sqlite" if url.startswith("sqlite") else "postgresql"
        self.on_fatal: Callable[[StoreError], None] = lambda _error: None

    async def open(self) -> None:
        """Connect and begin to write; the database has been migrated. Raises `NotReady`."""
        self._loop = asyncio.get_running_loop()
        self._writer = await self._loop.run_in_executor(None, lambda: connect(self._url, alone=True))
        self._connections.append(self._writer)
        await self._loop.run_in_executor(None, self._keys.load, self._writer)
        self._reader = await self._loop.run_in_executor(self._reads, lambda: connect(self._url, writer=False))
        self._connections.append(self._reader)
        self._thread.start()

    async def close(self) -> None:
        """Commit what was handed over, then let go of the database."""
        if self._thread.is_alive():
            self._queue.put(None)
            await self._loop.run_in_executor(None, self._thread.join)
        for connection in self._connections:
            await self._loop.run_in_executor(self._reads, connection.close)
        self._reads.shutdown()

    def accept(self, message: NewMessage) -> "asyncio.Future[Accepted]":
        """Commit a message, or find that it was committed before."""
        return self._put("accept", message)

    def finish(self, finished: Finished) -> "asyncio.Future[list[Placed]]":
        """Commit what the steps made of a message."""
        return self._put("finish", finished)

    def record(self, recorded: Recorded) -> "asyncio.Future[frozenset[int]]":
        """Commit how an attempt ended; resolves to the routes with work due because of the whole group."""
        return self._put("record", recorded)

    def claim(self, claim: Claim) -> "asyncio.Future[Claims]":
        """Commit due deliveries of a route as sending."""
        return self._put("claim", claim)

    def quarantine(self, quarantine: Quarantine) -> "asyncio.Future[None]":
        """Commit bytes that never became a message."""
        return self._put("quarantine", quarantine)

    def act(self, act: Act) -> "asyncio.Future[Done]":
        """Commit what an operator does."""
        if act.act == "replay":
            return self.call(acts.replay, self._sealer, act)
        return self.call(acts.discard, self._sealer, act, self._channels)

    def call(self, function: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        """Run ``function(connection, *args)`` in a transaction of the writer."""
        return self._put("call", (function, args))

    async def read(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run ``function(connection, *args)`` on the reader's connection, beside the writer."""
        return await self._loop.run_in_executor(self._reads, lambda: function(self._reader, *args))

    async def register(self, name: str, digest: str, content: str, destinations: Sequence[str]) -> acts.Registered:
        """Note a channel's revision and destinations."""
        registered: acts.Registered = await self.call(acts.register, name, digest, content, destinations)
        self._channels |= dict.fromkeys(registered.routes.values(), registered.channel)
        return registered

    def _put(self, kind: str, item: Any) -> "asyncio.Future[Any]":
        future = self._loop.create_future()
        self._queue.put(_Unit(kind, item, future))
        return future

    # The writer's thread.

    def _run(self) -> None:
        unit = self._queue.get()
        while unit is not None:
            group = [unit]
            unit = self._gather(group)
            self._commit(group)
            if unit is _MORE:
                unit = self._queue.get()

    def _gather(self, group: list[_Unit]) -> _Unit | None:
        """Add what waits to a group; return what comes after it: the mark for more, or None for the end."""
        until = time.monotonic() + _PATIENCE if group[0].kind in _PATIENT else 0.0
        while len(group) < _GROUP:
            try:
                unit = (
                    self._queue.get(timeout=max(until - time.monotonic(), 0.0)) if until else self._queue.get_nowait()
                )
            except Empty:
                break
            if unit is None:
                return None
            group.append(unit)
            if unit.kind not in _PATIENT:
                until = 0.0
        return _MORE

    def _commit(self, group: list[_Unit]) -> None:
        began = time.monotonic()
        try:
            results = self._apply(group)
        except StoreFatal as error:
            self._fatal = error
            self._resolve([(unit, error) for unit in group])
            self._loop.call_soon_threadsafe(self.on_fatal, error)
        except StoreUnavailable as error:
            self._wait(group, error)
            self._guard(lambda: self._keys.load(self._writer))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others of the group must not suffer from it
            if len(group) == 1:
                self._resolve([(group[0], error)])
            else:
                for unit in group:
                    self._commit([unit])
        else:
            self._resolve(results, Committed(units=len(group), seconds=time.monotonic() - began))
            if self._keys.is_full():
                self._guard(self._sort_keys)

    def _guard(self, work: Callable[[], None]) -> None:
        """Do work of our own that nobody waits for; what fails is done again at the next occasion."""
        try:
            work()
        except StoreFatal as error:
            self._loop.call_soon_threadsafe(self.on_fatal, error)
        except StoreError:
            time.sleep(_PAUSE)

    def _wait(self, group: list[_Unit], error: StoreUnavailable) -> None:
        # Senders keep what was not acknowledged and send it again; everything else waits here for the database.
        self._resolve([(unit, error) for unit in group if unit.kind == "accept"])
        time.sleep(_PAUSE)
        rest = [unit for unit in group if unit.kind != "accept"]
        if rest:
            self._commit(rest)

    def _apply(self, group: list[_Unit]) -> list[tuple[_Unit, Any]]:
        if self._fatal is not None:
            raise self._fatal  # what comes later must not overtake what failed: a lane would get out of order
        kinds: dict[str, list[_Unit]] = {}
        for unit in group:
            kinds.setdefault(unit.kind, []).append(unit)
        counts = writes.Counts()
        results: list[tuple[_Unit, Any]] = []
        self._fresh: list[NewMessage] = []
        with self._writer.transaction():
            for kind, apply in self._KINDS:
                if units := kinds.get(kind):
                    results += zip(units, apply(self, [unit.item for unit in units], counts), strict=True)
            writes.count(self._writer, counts, time.time())
        # Only what is committed may be known: a duplicate is acknowledged without being stored.
        self._keys.add(self._fresh)
        for kind in kinds:
            crash_point(_COMMITTED.get(kind, ""))
        return results

    def _sort_keys(self) -> None:
        with self._writer.transaction():
            self._keys.sort(self._writer)
        self._keys.forget()

    def _accept(self, items: list[NewMessage], counts: writes.Counts) -> Sequence[Accepted]:
        accepted, self._fresh = writes.accept(self._writer, self._sealer, self._keys, items, counts)
        return accepted

    def _finish(self, items: list[Finished], counts: writes.Counts) -> Sequence[list[Placed]]:
        return writes.finish(self._writer, self._sealer, items, counts)

    def _record(self, items: list[Recorded], counts: writes.Counts) -> Sequence[frozenset[int]]:
        due = writes.record(self._writer, self._sealer, items, counts, self._channels)
        return [due] * len(items)

    def _claim(self, items: list[Claim], counts: writes.Counts) -> Sequence[Claims]:
        return [writes.claim(self._writer, self._sealer, item, counts, self._channels[item.route]) for item in items]

    def _quarantine(self, items: list[Quarantine], counts: writes.Counts) -> Sequence[None]:
        writes.quarantine(self._writer, self._sealer, items, counts)
        return [None] * len(items)

    def _call(self, items: list[Any], _counts: writes.Counts) -> Sequence[Any]:
        return [function(self._writer, *args) for function, args in items]

    # The order in which a group is applied: what an attempt's end sets free can be claimed in the same group.
    _KINDS: Final = (
        ("accept", _accept),
        ("finish", _finish),
        ("record", _record),
        ("claim", _claim),
        ("quarantine", _quarantine),
        ("call", _call),
    )

    def _resolve(self, results: Sequence[tuple[_Unit, Any]], notice: Notice | None = None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._set_results, results, notice)

    def _set_results(self, results: Sequence[tuple[_Unit, Any]], notice: Notice | None) -> None:
        for unit, result in results:
            if unit.future.done():
                continue
            if isinstance(result, Exception):
                unit.future.set_exception(result)
            else:
                unit.future.set_result(result)
        if notice is not None:
            self._notify(notice)


_MORE: Final = _Unit("", None, None)  # type: ignore[arg-type]  # a mark: the queue went on after this group
_COMMITTED: Final = {
    "accept": "accept.committed",
    "finish": "finish.committed",
    "claim": "claim.committed",
    "record": "record.committed",
}
