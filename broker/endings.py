"""This module tells who waits for it that the steps of a message, or a delivery, have ended, and how.

It is told after the commit that says so. What came twice may have ended long before, so the store is asked about it; an
end that commits meanwhile is told all the same.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Generic, TypeVar

from broker.acts import read_concluded, read_ended
from broker.errors import Breach, StoreError
from broker.message import Conclusion, Ended
from broker.seal import Sealer
from broker.store import Store
from broker.units import Finished, Recorded

_SOUND: Final[Mapping[int, tuple[Breach, ...]]] = {}
_RUNNING: Final = frozenset({"received", "waiting", "sending"})

E = TypeVar("E", Ended, Conclusion)


class _Waiting(Generic[E]):
    """Those who wait, by what they wait for: a message or a delivery; used on the loop only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[int, list[asyncio.Future[E]]] = {}
        self._looks: set[asyncio.Task[None]] = set()

    def of(self, identifier: int, *, may_be_over: bool) -> "asyncio.Future[E]":
        """Resolve when it has ended; fail with `StoreError` when the store cannot say.

        What has surely not ended need not be looked for. Who waits no longer cancels the future.
        """
        promise: asyncio.Future[E] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(identifier, []).append(promise)
        promise.add_done_callback(lambda done: self._forget(identifier, done))
        if may_be_over:
            task = asyncio.create_task(self._look(identifier), name="endings")
            self._looks.add(task)
            task.add_done_callback(self._looks.discard)
        return promise

    def _forget(self, identifier: int, promise: "asyncio.Future[E]") -> None:
        """Hold nothing for one who gave up: what it waited for may not end for days."""
        others = self._waiting.get(identifier, [])
        if promise in others:
            others.remove(promise)
            if not others:
                del self._waiting[identifier]

    async def _look(self, identifier: int) -> None:
        try:
            found = await self._read(identifier)
        except StoreError as error:
            self._resolve(identifier, error)
            return
        if found is not None and found.state not in _RUNNING:
            self._resolve(identifier, found)

    async def _read(self, identifier: int) -> E | None:
        raise NotImplementedError

    def _resolve(self, identifier: int, what: E | StoreError) -> None:
        for promise in self._waiting.pop(identifier, ()):
            if promise.done():
                continue
            if isinstance(what, StoreError):
                promise.set_exception(what)
            else:
                promise.set_result(what)


class Endings(_Waiting[Ended]):
    """Those who wait for the steps of a message to end."""

    def tell(self, finished: Sequence[Finished], breaches: Mapping[int, tuple[Breach, ...]] = _SOUND) -> None:
        """Take what was just committed, and all that is wrong with messages among it, which is not stored."""
        if self._waiting:
            for unit in finished:
                told = breaches.get(unit.id, ())
                self._resolve(unit.id, Ended(unit.state, unit.step, unit.location, unit.reason, told))

    async def _read(self, identifier: int) -> Ended | None:
        row = await self._store.read(read_ended, identifier)
        return None if row is None else Ended(*row)


class Conclusions(_Waiting[Conclusion]):
    """Those who wait for a delivery to end; its message's steps have."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        super().__init__(store)
        self._sealer = sealer

    def tell(self, unit: Recorded) -> None:
        """Take what was just committed."""
        if self._waiting and unit.state not in _RUNNING:
            self._resolve(unit.id, conclusion(unit.state, unit.reason, unit.location, unit.detail))

    async def _read(self, identifier: int) -> Conclusion | None:
        row = await self._store.read(read_concluded, self._sealer, identifier)
        return Conclusion("absent") if row is None else conclusion(*row)


def conclusion(state: str, reason: str | None, location: str | None, detail: bytes) -> Conclusion:
    """Return how a delivery ended; ``detail`` is what the other side said, as `broker.verdict` writes it."""
    reference, _, response = detail.partition(b"\n\n")
    return Conclusion(state, reason or "", location or "", reference.decode("utf-8", "replace"), response)
