"""This module runs work that blocks in threads, a few at a time, and says whether work that took too long was begun.

The threads are daemons: one that hangs, because a mounted folder does, must not keep the engine from ending.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")


class NotBegun(Exception):
    """No thread was free in time, so the work was not begun and never will be."""


class Threads:
    """At most ``most`` threads at a time; one that took too long counts until it ends."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._free = asyncio.Semaphore(most)

    async def run(self, work: Callable[[], R], seconds: float | None = None) -> R:
        """Return what the work gives; raise `NotBegun`, or TimeoutError for work that was begun and has not ended."""
        try:
            async with asyncio.timeout(seconds):
                await self._free.acquire()
        except TimeoutError:
            raise NotBegun from None
        loop = asyncio.get_running_loop()
        promise: asyncio.Future[R] = loop.create_future()

        def end(tell: Callable[[], None]) -> None:
            self._free.release()
            if not promise.done():
                tell()

        def do() -> None:
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - whoever awaits it gets it
                tell, given = promise.set_exception, error
                with contextlib.suppress(RuntimeError):  # the loop has gone, and with it whoever would want to know
                    loop.call_soon_threadsafe(end, lambda: tell(given))
            else:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(end, lambda: promise.set_result(result))

        threading.Thread(target=do, name=self._name, daemon=True).start()
        async with asyncio.timeout(seconds):
            return await promise
