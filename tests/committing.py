"""This module hands single units to a store and waits until they are committed."""

import asyncio

from broker.store import Store
from broker.units import Accepted, Finished, NewMessage, Placed, Recorded


def accept(store: Store, message: NewMessage) -> "asyncio.Future[Accepted]":
    """Commit a message."""
    future: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()

    def told(what: Accepted | Exception) -> None:
        if isinstance(what, Exception):
            future.set_exception(what)
        else:
            future.set_result(what)

    store.accept(message, told)
    return future


async def finish(store: Store, unit: Finished) -> list[Placed]:
    """Commit what the steps made of a message."""
    (placed,) = await store.finish([unit])
    if isinstance(placed, Exception):
        raise placed
    return placed


async def record(store: Store, unit: Recorded) -> frozenset[int]:
    """Commit how an attempt ended."""
    (routes,) = await store.record([unit])
    if isinstance(routes, Exception):
        raise routes
    return frozenset(routes)
