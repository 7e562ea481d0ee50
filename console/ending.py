"""This module sees to it that the process ends: a stop that hangs is cut short after a while, or at a second signal.

Whatever is cut short is found and finished by the next start, as after a crash. A thread does this, so that nothing
which blocks the loop, or the interpreter's own end, can be in its way.
"""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Final

from broker.notices import Notice, StopCutShort

_WITHIN: Final = 60.0  # seconds of a stop; what is on the wire has 10 of them, each part after the other
_SAME: Final = 1.0  # seconds in which a signal is the same again: a terminal's, passed on by whoever wraps us
_CUT: Final = 1  # the exit code


class Ending:
    """Takes SIGTERM and SIGINT from the moment that it is made; ``told`` is set on the loop at the first."""

    def __init__(
        self,
        told: asyncio.Event,
        notify: Callable[[Notice], None],
        *,
        within: float = _WITHIN,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._told = told
        self._notify = notify
        self._within = within
        self._end = end
        # A signal may interrupt anything, also another signal: this queue is one that may be written to then.
        self._asked: SimpleQueue[str] = SimpleQueue()  # who asks: `signal` or `engine`
        threading.Thread(target=self._watch, name="ending", daemon=True).start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)

    def begin(self) -> None:
        """Note that a stop has begun, whoever asked for it."""
        self._asked.put("engine")

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        self._asked.put("signal")

    def _watch(self) -> None:
        self._asked.get()
        begun = time.monotonic()
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._told.set)
        reason = self._wait(begun)
        # Not even a log that nobody reads any more may keep us.
        telling = threading.Thread(target=self._notify, args=(StopCutShort(reason=reason),), daemon=True)
        telling.start()
        telling.join(1.0)
        self._end(_CUT)

    def _wait(self, begun: float) -> str:
        """Return why the stop is cut short, once it must be."""
        while (left := begun + self._within - time.monotonic()) > 0:
            with contextlib.suppress(Empty):
                if self._asked.get(timeout=left) == "signal" and time.monotonic() - begun > _SAME:
                    return "a second signal came"
        return f"it took longer than {self._within:g} s"
