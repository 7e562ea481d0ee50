"""This module is the one durable place, seen from the loop: units of work go to the writer, and come back committed.

`Store.accept`, `finish`, `record`, … hand units over; what was asked for is told after the commit that holds them. All
that is handed over in one turn of the loop goes to the writer's process as one frame (`broker.writer`), which takes
everything that waits as one group: an idle engine commits singly (0.3 ms), a busy one hundreds of units at a time.
"""

import asyncio
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from broker import acts
from broker.delivery import Delivery
from broker.errors import StoreError, StoreFatal
from broker.link import Link
from broker.notices import Bug, Committed, Notice
from broker.seal import Sealer
from broker.sql import Connection, connect
from broker.units import (
    Accepted,
    Act,
    Claim,
    Claimed,
    Claims,
    Done,
    Finished,
    NewMessage,
    Passed,
    Placed,
    Quarantine,
    Recorded,
)

# Takes the value of the item at a place of a unit, or why it was not committed; says whether more is to come.
_Told = Callable[[int, Any], bool | None]

_ENDED: Final = "store: its writer's process ended; nothing acknowledged is lost; start again"


class Store:
    """The engine's store; every method but `open` and `close` may be called from the loop only."""

    def __init__(self, url: str, sealer: Sealer, notify: Callable[[Notice], None], *, inside: bool = False) -> None:
        """``inside`` keeps the writer in a thread of this process, so that tests can reach it."""
        self._url = url
        self._sealer = sealer
        self._notify = notify
        self._inside = inside
        self._pending: dict[int, _Told] = {}
        self._number = 0
        self._out: list[tuple[int, str, Sequence[Any]]] = []
        self._closing = False
        self._fatal: StoreFatal | None = None
        self._connection: Connection | None = None
        self._reads = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self.dialect = "sqlite" if url.startswith("sqlite") else "postgresql"
        self.on_fatal: Callable[[StoreError], None] = lambda _error: None

    async def open(self) -> None:
        """Connect and begin to write; the database has been migrated. Raises `NotReady`."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._pending[0] = lambda _place, value: _resolve(opened, value)  # the writer's first answer
        self._link = Link(self._answered, self._ended)
        await self._link.open("broker.writer:serve", inside=self._inside)
        self._link.send((self._url, self._sealer.master))
        await opened
        self._reader = await self._loop.run_in_executor(self._reads, lambda: connect(self._url, writer=False))
        self._connection = self._reader

    async def close(self) -> None:
        """Commit what was handed over, then let go of the database."""
        self._closing = True
        if hasattr(self, "_link"):
            self._flush()
            await self._link.close()
        if self._connection is not None:
            await self._loop.run_in_executor(self._reads, self._connection.close)
        self._reads.shutdown()

    def accept(self, message: NewMessage, told: Callable[[Accepted | Exception], None]) -> None:
        """Commit a message, or find that it was committed before; ``told`` is called after the commit.

        Those of one group are told in one turn of the loop, in the order in which they were handed over.
        """
        self._hand_over("accept", (tuple(message),), lambda _place, value: told(_accepted(value)))

    def finish(self, finished: Sequence[Finished]) -> "asyncio.Future[list[list[Placed] | Exception]]":
        """Commit what the steps made of messages: for each, where its deliveries went, or why it was not committed."""
        items = [(*unit[:-1], [tuple(delivery) for delivery in unit.deliveries]) for unit in finished]
        return self._all("finish", items, lambda place, value: _placed(finished[place], value))

    def record(self, recorded: Sequence[Recorded]) -> "asyncio.Future[list[Sequence[int] | Exception]]":
        """Commit how attempts ended: for each, the routes that have work due because of it and of its group."""
        return self._all("record", [tuple(unit) for unit in recorded], lambda _place, value: value)

    def pass_on(self, passed: Passed, told: Callable[[tuple[Accepted, Sequence[int]] | Exception], None]) -> None:
        """Commit a message with the record of the delivery that it was; ``told`` is called as by `accept`.

        It gets what became of the message, and the routes that have work due because of the record.
        """
        item = (tuple(passed.recorded), tuple(passed.message))
        self._hand_over("pass", (item,), lambda _place, value: told(_passed(value)))

    def claim(self, claim: Claim) -> "asyncio.Future[Claims]":
        """Take due heads of lanes and mark them as sending."""
        return self._one("claim", tuple(claim), lambda value: self._claims(claim.route, value))

    def quarantine(self, quarantine: Quarantine) -> "asyncio.Future[int]":
        """Commit bytes that never became a message: how many others had to go for them."""
        return self._one("quarantine", tuple(quarantine), lambda value: value)

    def act(self, act: Act) -> "asyncio.Future[Done]":
        """Commit what an operator does."""
        return self.call(_ACTS[act.act], act)

    def call(self, function: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        """Run ``function(connection, sealer, *args)``, of a module's top level, in a transaction of the writer."""
        return self._one("call", pickle.dumps((function, args)), pickle.loads)

    async def read(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run ``function(connection, *args)`` on the reader's connection, beside the writer."""
        return await self._loop.run_in_executor(self._reads, lambda: function(self._reader, *args))

    async def register(self, name: str, digest: str, content: str, destinations: Sequence[str]) -> acts.Registered:
        """Note a channel's revision and destinations."""
        registered: acts.Registered = await self.call(acts.register, name, digest, content, destinations)
        return registered

    def _claims(self, route: int, value: Any) -> Claims:
        claimed, next_due, expired, routes = value
        key = self._sealer.delivery_key
        return Claims(
            tuple(
                Claimed(
                    Delivery(
                        id=found, route=route, key=key(found), request=request, attempt=attempt, first_at=first_at
                    ),
                    lane,
                    spent,
                    away,
                )
                for found, request, attempt, first_at, lane, spent, away in claimed
            ),
            next_due,
            expired,
            frozenset(routes),
        )

    def _one(self, kind: str, item: Any, read: Callable[[Any], Any]) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self._loop.create_future()
        self._hand_over(kind, (item,), lambda _place, value: _resolve(future, _read(read, value)))
        return future

    def _all(self, kind: str, items: Sequence[Any], read: Callable[[int, Any], Any]) -> "asyncio.Future[list[Any]]":
        several = _Several(self._loop.create_future(), len(items), read)
        if items:
            self._hand_over(kind, items, several)
        else:
            several.future.set_result([])
        return several.future

    def _hand_over(self, kind: str, items: Sequence[Any], told: _Told) -> None:
        self._number += 1
        self._pending[self._number] = told
        if self._fatal is not None:
            self._loop.call_soon(self._refuse, self._number, self._fatal)
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append((self._number, kind, items))

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._fatal is None:
            self._link.send(out)

    def _answered(self, answer: Any) -> None:
        values, errors, units, seconds = answer
        for number, place, value in values:
            self._tell(number, place, value)
        for number, place, data in errors:
            error = pickle.loads(data)  # noqa: S301 - from a process of our own
            if isinstance(error, StoreFatal):
                self.on_fatal(error)
            self._tell(number, place, error)
        if units:
            self._notify(Committed(units=units, seconds=seconds))

    def _tell(self, number: int, place: int, value: Any) -> None:
        told = self._pending.pop(number, None)
        if told is None:
            return  # something of the writer's own, which nobody waits for
        try:
            if told(place, value):
                self._pending[number] = told
        except Exception as error:  # noqa: BLE001 - one's mistake must not keep the others from being told
            self._notify(Bug(where="store", error=type(error).__name__))

    def _ended(self) -> None:
        """Note that the writer has gone: what it did not answer may or may not have been committed."""
        self._fatal = StoreFatal(_ENDED)
        if self._connection is not None and not self._closing:  # else `open` says what is wrong
            self.on_fatal(self._fatal)
        for number in list(self._pending):
            self._refuse(number, self._fatal)

    def _refuse(self, number: int, error: StoreError) -> None:
        told = self._pending.get(number)
        if isinstance(told, _Several):
            for place in told.left():
                self._tell(number, place, error)
        else:
            self._tell(number, 0, error)


_ACTS: Final = {"replay": acts.replay, "discard": acts.discard, "cancel": acts.cancel}


class _Several:
    """Collects the values of a unit of several items; its future has them once the last one has come."""

    __slots__ = ("_left", "_read", "_values", "future")

    def __init__(self, future: "asyncio.Future[list[Any]]", count: int, read: Callable[[int, Any], Any]) -> None:
        self.future = future
        self._read = read
        self._left = count
        self._values: list[Any] = [_Several] * count  # stands for a value that has not come

    def __call__(self, place: int, value: Any) -> bool:
        self._values[place] = value if isinstance(value, Exception) else self._read(place, value)
        self._left -= 1
        if not self._left:
            _resolve(self.future, self._values)
        return self._left > 0

    def left(self) -> list[int]:
        """Return the places whose values have not come."""
        return [place for place, value in enumerate(self._values) if value is _Several]


def _read(read: Callable[[Any], Any], value: Any) -> Any:
    return value if isinstance(value, Exception) else read(value)


def _resolve(future: "asyncio.Future[Any]", value: Any) -> None:
    if future.done():
        return
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)


def _accepted(value: Any) -> Accepted | Exception:
    return value if isinstance(value, Exception) else Accepted(*value)


def _passed(value: Any) -> tuple[Accepted, Sequence[int]] | Exception:
    return value if isinstance(value, Exception) else (Accepted(*value[0]), value[1])


def _placed(finished: Finished, values: Any) -> list[Placed]:
    return [Placed(delivery, *value) for delivery, value in zip(finished.deliveries, values, strict=True)]
