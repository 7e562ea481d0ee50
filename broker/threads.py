"""This module runs work that blocks in threads, a few at a time, and says whether work that took too long was begun.

The threads are daemons: one that hangs, because a mounted folder does, must not keep the engine from ending. One that
is done waits a little for more: to start another costs more than short work does.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

R = TypeVar("R")

_IDLE: Final = 5.0  # seconds that a thread waits for more work

_Jobs = SimpleQueue[Callable[[], Callable[[], object]]]  # what one thread is to do; each returns what tells its end


class NotBegun(Exception):
    """No thread was free in time, so the work was not begun and never will be."""


class Threads:
    """At most ``most`` threads at a time; one that took too long counts until it ends."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._free = asyncio.Semaphore(most)
        self._idle: list[_Jobs] = []  # of the threads that wait, the one that worked last at the end

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

        def do() -> Callable[[], object]:
            try:
                tell = partial(promise.set_result, work())
            except BaseException as error:  # noqa: BLE001 - whoever awaits it gets it
                tell = partial(promise.set_exception, error)
            return partial(loop.call_soon_threadsafe, end, tell)

        self._give(do)
        async with asyncio.timeout(seconds):
            return await promise

    def _give(self, do: Callable[[], Callable[[], object]]) -> None:
        """Have a thread that waits do it, or a new one."""
        try:
            self._idle.pop().put(do)
        except IndexError:
            jobs: _Jobs = SimpleQueue()
            jobs.put(do)
            threading.Thread(target=_live, args=(jobs, self._idle), name=self._name, daemon=True).start()


def _live(jobs: _Jobs, idle: list[_Jobs]) -> None:
    """Do what comes, until nothing has come for a while."""
    while True:
        try:
            tell = jobs.get(timeout=_IDLE)()
        except Empty:
            with contextlib.suppress(ValueError):  # it waits no more: something is about to come
                idle.remove(jobs)
                return
            continue
        idle.append(jobs)  # before it is told, so that what comes next finds this thread
        with contextlib.suppress(RuntimeError):  # the loop has gone, and with it whoever would want to know
            tell()
        del tell  # and what the work gave with it
