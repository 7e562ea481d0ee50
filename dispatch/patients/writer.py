"""This module is the engine's side of the process that writes to a patient store.

All channels that deliver to one store share it: SQLite allows one writer, and only one connection may checkpoint.
"""

import asyncio
import contextlib
import pickle
from collections.abc import Sequence
from typing import Any, Final

from broker.delivery import Delivery, Outcome, Retry, Unknown
from broker.errors import NotReady
from broker.link import Link
from broker.sql import connect
from dispatch.patients.apply import DELIVERED
from dispatch.patients.migrate import migrate

_ENDED: Final = Unknown("patient store: the process that writes to it ended before it answered")


class _Away(NotReady):
    """PostgreSQL cannot be reached right now."""


_writers: Final[dict[str, "Writer"]] = {}


class Writer:
    """Has batches applied to one patient store, one after the other."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.users = 1
        self._link: Link | None = None
        self._migrated = False
        self._number = 0
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Connect and migrate. PostgreSQL may be away, then the first `send` does it; raises `NotReady` otherwise."""
        await self._opened()
        with contextlib.suppress(_Away):
            await self._prepare()

    async def send(self, channel: str, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """Apply deliveries of a channel; return one outcome each, in the same order."""
        try:
            await self._prepare()
        except NotReady as error:
            return [Retry(str(error), is_away=True)] * len(deliveries)
        link = await self._opened()
        answer = await self._ask(link, channel, [(delivery.id, delivery.request) for delivery in deliveries])
        if answer is None:
            return [DELIVERED] * len(deliveries)
        outcomes: list[Outcome] = pickle.loads(answer)  # noqa: S301 - from a process of our own
        return outcomes or [_ENDED] * len(deliveries)

    async def _prepare(self) -> None:
        if not self._migrated:
            await asyncio.get_running_loop().run_in_executor(None, _bring_up, self._url)
            self._migrated = True

    async def _opened(self) -> Link:
        async with self._opening:
            if self._link is None:
                link = Link(self._answered, self._ended)
                await link.open("dispatch.patients.applier:serve")
                link.send(self._url)
                self._link = link
            return self._link

    def _ask(self, link: Link, channel: str, items: Sequence[Any]) -> "asyncio.Future[Any]":
        self._number += 1
        future = self._pending[self._number] = asyncio.get_running_loop().create_future()
        link.send((self._number, channel, items))
        return future

    def _answered(self, frame: Any) -> None:
        number, answer = frame
        future = self._pending.pop(number)
        if not future.done():
            future.set_result(answer)

    def _ended(self) -> None:
        """Note that the process has gone; the next batch starts another one."""
        self._link = None
        for future in self._pending.values():
            if not future.done():
                future.set_result(pickle.dumps([]))
        self._pending.clear()

    async def close(self) -> None:
        """Let go of the store with the last user."""
        self.users -= 1
        if self.users == 0:
            _writers.pop(self._url, None)
            if self._link is not None:
                await self._link.close()


def share(url: str) -> Writer:
    """Return the writer of this store, one for all who ask; each of them calls `Writer.close` once."""
    writer = _writers.get(url)
    if writer is None:
        writer = _writers[url] = Writer(url)
    else:
        writer.users += 1
    return writer


def _bring_up(url: str) -> None:
    # Where there is nothing to connect to, it says whether that may change by itself.
    try:
        connect(url).close()
    except NotReady as error:
        if url.startswith("sqlite:"):
            raise
        raise _Away(str(error)) from None
    migrate(url)
