"""This module tells who waits for it that the steps of a message have ended, and how.

It is told after the commit that says so. A message that came twice may have ended long before, so the store is asked
about it; an end that commits meanwhile is told all the same.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from broker.acts import read_ended
from broker.errors import StoreError
from broker.message import Ended
from broker.store import Store
from broker.units import Finished

_RUNNING: Final = "received"


class Endings:
    """Those who wait, by message; used on the loop only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[int, list[asyncio.Future[Ended]]] = {}
        self._looks: set[asyncio.Task[None]] = set()

    def of(self, message: int, *, may_be_over: bool) -> "asyncio.Future[Ended]":
        """Resolve when a message's steps have ended; fail with `StoreError` when the store cannot say.

        A message whose steps have surely not ended need not be looked for.
        """
        promise: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(message, []).append(promise)
        if may_be_over:
            task = asyncio.create_task(self._look(message), name="endings")
            self._looks.add(task)
            task.add_done_callback(self._looks.discard)
        return promise

    def tell(self, finished: Sequence[Finished]) -> None:
        """Take what was just committed."""
        if self._waiting:
            for unit in finished:
                self._resolve(unit.id, Ended(unit.state, unit.step, unit.location, unit.reason))

    async def _look(self, message: int) -> None:
        try:
            row = await self._store.read(read_ended, message)
        except StoreError as error:
            self._resolve(message, error)
            return
        if row is not None and row[0] != _RUNNING:
            self._resolve(message, Ended(*row))

    def _resolve(self, message: int, what: Ended | StoreError) -> None:
        for promise in self._waiting.pop(message, ()):
            if promise.done():
                continue
            if isinstance(what, Ended):
                promise.set_result(what)
            else:
                promise.set_exception(what)
