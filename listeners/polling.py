"""This module is what every poll does alike: it looks when that is due, tells of trouble once, and hands over in order.

A poll that failed is tried again, after longer and longer pauses, until it is done; the due times meanwhile are one.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Any, Final

import orjson

from broker.errors import Away, NotAccepted, StoreError
from broker.message import Inbound, Receipt
from broker.notices import Bug, ListenerStarted, MessageRefused
from broker.notices_polls import PollFailed, PollRecovered
from broker.parts import Marks, Tools
from broker.retry import RetryPolicy
from broker.schedule import Schedule

_AGAIN: Final = 1.0  # seconds until something is handed over again that the store could not take
_STOP_WITHIN: Final = 10.0  # seconds for what is under way
_BACKOFF: Final = RetryPolicy(attempts=0, first=2.0, max=60.0)


def mark_name(channel: str, *what: Any) -> str:
    """Return what a channel's mark is kept under, of what it is about: a mark of something else is another one."""
    return f"{channel} {sha256(orjson.dumps(what)).hexdigest()[:16]}"


class Mark:
    """What a poll keeps in the store of how far it has read, under a name; without a store, nothing."""

    def __init__(self, marks: Marks | None, name: str) -> None:
        self.name = name
        self._marks = marks
        self._is_known = False
        self._kept: bytes | None = None

    def forget(self) -> None:
        """Look again before the next poll: another engine may have read meanwhile."""
        self._is_known = False

    async def recall(self) -> bytes | None:
        """Return what is kept where that was not asked since `forget`; else, and where there is nothing, None."""
        if self._is_known or self._marks is None:
            return None
        self._kept = await self._marks.read(self.name)
        self._is_known = True
        return self._kept

    async def keep(self, value: bytes) -> None:
        """Return once the store has it; what it has already is not written again."""
        if self._marks is not None and value != self._kept:
            await self._marks.write(self.name, value)
            self._kept = value


class Polling:
    """The clock, the voice and the hands of one channel's poll; ``work`` is one poll.

    It may raise `Away` and `StoreError`; anything else is a mistake of ours, and tried again as well.
    """

    def __init__(
        self, tools: Tools, source: str, schedule: Schedule, catch_up: float, work: Callable[[], Awaitable[None]]
    ) -> None:
        self.source = source
        self.failures = 0  # polls in a row
        self.away = ""  # why it cannot be read now
        self._tools = tools
        self._schedule = schedule
        self._catch_up = catch_up
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """What is polled; nothing while stopped."""
        return (self.source,) if self._task is not None else ()

    @property
    def is_stopping(self) -> bool:
        """Whether a stop has come, and nothing more is to be read."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Begin to watch the clock; a source that is away is no reason not to."""
        self._stopping.clear()
        self._task = asyncio.create_task(self._live(), name=f"poll {self._tools.channel}")
        self._tools.notify(ListenerStarted(channel=self._tools.channel, endpoint=self.source))

    async def stop(self) -> bool:
        """Wait at most 10 seconds for what is under way; say whether it was running."""
        task, self._task = self._task, None
        if task is None:
            return False
        self._stopping.set()
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(task, _STOP_WITHIN)
        return True

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until a stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def wait_for_room(self) -> bool:
        """Wait until more may be read; return False where a stop came first."""
        while self._tools.pressure.is_high and not self.is_stopping:
            await self.pause(_AGAIN)
        return not self.is_stopping

    async def _live(self) -> None:
        looked = time.time() - self._catch_up
        while not self.is_stopping:
            now = time.time()
            looked = min(looked, now)  # the clock may have been set back
            seconds = self._schedule.wait(looked, now)
            if seconds:
                await self.pause(seconds)
                continue
            wanted = await self._attempt()
            if wanted is None:
                looked = now
            else:
                await self.pause(max(_BACKOFF.wait(self.failures), _AGAIN, wanted))

    async def _attempt(self) -> float | None:
        """Poll; return None where that went well, or else how many seconds the source asks for."""
        try:
            await self._work()
        except (Away, StoreError) as error:
            self._complain(str(error))
            return getattr(error, "after", None) or 0.0
        except Exception as error:  # noqa: BLE001 - the next poll may do better, and a silent end would lose messages
            self._tools.notify(Bug(where=f"poll {self._tools.channel}", error=type(error).__name__))
            self._complain(f"reading it failed ({type(error).__name__}), which is a mistake of ours")
            return 0.0
        return None

    def _complain(self, reason: str) -> None:
        """Tell once that the source cannot be read, for as long as that lasts."""
        if not self.failures:
            self._tools.notify(PollFailed(channel=self._tools.channel, source=self.source, reason=reason))
        self.away = reason
        self.failures += 1

    def recover(self) -> None:
        """Tell that the source was read again, if it was told that it could not be."""
        if self.failures:
            self._tools.notify(PollRecovered(channel=self._tools.channel, source=self.source))
        self.away = ""
        self.failures = 0

    def inbound(self, body: bytes, key: bytes, *, key_decides: bool = False) -> Inbound:
        """Return something that was read, as the intake takes it."""
        return Inbound(
            channel=self._tools.channel,
            body=body,
            peer=self.source,
            received_at=time.time(),
            key=key,
            key_decides=key_decides,
        )

    async def hand_over(self, messages: Sequence[Inbound]) -> bool:
        """Return True once all are committed or in quarantine; False when a stop came first."""
        left = list(messages)
        while left:
            del left[: await self._offer(left)]
            if left:
                await self.pause(_AGAIN)
                if self.is_stopping:
                    return False
        return True

    async def _offer(self, messages: Sequence[Inbound]) -> int:
        """Hand messages over in their order; return how many of the first of them are done with."""
        promises: list[asyncio.Future[Receipt]] = []
        for message in messages:
            promises.append(self._tools.intake.accept(message))
            refusal = promises[-1].exception() if promises[-1].done() else None
            if isinstance(refusal, NotAccepted) and refusal.is_ours:
                break  # those behind it come after it
        answers = await asyncio.gather(*promises, return_exceptions=True)
        for place, (message, told) in enumerate(zip(messages, answers, strict=False)):
            if isinstance(told, NotAccepted):
                if told.is_ours:
                    return place
                self.refuse(message.body, str(told), told.code, told.condition)
            elif isinstance(told, BaseException):
                raise told
        return len(answers)

    def refuse(self, body: bytes, reason: str, code: str, condition: int) -> None:
        """Keep what cannot be taken for an operator to see, so that what is behind it is read."""
        tools = self._tools
        tools.intake.quarantine(tools.channel, self.source, reason, body)
        tools.notify(
            MessageRefused(channel=tools.channel, peer=self.source, code=code, condition=condition, reason=reason)
        )


class PollListener:
    """What all listeners that poll show of themselves; see `broker.parts.Listener`."""

    _polling: Polling

    @property
    def endpoints(self) -> tuple[str, ...]:
        """What is polled; nothing while stopped."""
        return self._polling.endpoints

    @property
    def connections(self) -> int:
        """None: nobody connects to us."""
        return 0

    @property
    def away(self) -> str:
        """Why it cannot be read now; see `broker.parts.Reaching`."""
        return self._polling.away
