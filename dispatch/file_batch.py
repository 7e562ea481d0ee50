"""This module gathers HL7 messages into batch files: FHS, BHS, the messages, BTS and FTS (HL7 v2.5.1, 2.10.3).

Gathered messages are in no file until the batch is full or its time is up, and none of them is called delivered before
the file is there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from broker.delivery import Delivery, Outcome, Unknown
from broker.wire.ack import timestamp
from broker.wire.escape import escape
from broker.wire.header import Separators


class Batching:
    """Puts an envelope around messages. ``sending`` and ``receiving`` are application and facility, with a bar."""

    def __init__(self, sending: str, receiving: str, clock: Callable[[], float]) -> None:
        separators = Separators()
        names = [*sending.partition("|")[::2], *receiving.partition("|")[::2]]
        self._parties = "|".join(escape(name, separators) for name in names).encode()
        self._clock = clock

    def build(self, messages: Sequence[bytes], control_id: str) -> bytes:
        """Return the file; ``control_id`` becomes FHS-11 and BHS-11, the counts stand in BTS-1 and FTS-1."""
        rest = b"|^~\\&|%b|%b||||%b\r" % (self._parties, timestamp(self._clock()), control_id.encode())
        lines = [message.rstrip(b"\r\n\x1c\0") + b"\r" for message in messages]
        return b"".join((b"FHS", rest, b"BHS", rest, *lines, b"BTS|%d\rFTS|1\r" % len(lines)))


class Gathering:
    """Collects deliveries until there are ``most`` or the first has waited for ``wait`` seconds."""

    def __init__(self, most: int, wait: float, write: Callable[[Sequence[Delivery]], Awaitable[Outcome]]) -> None:
        self._most = most
        self._wait = wait
        self._write = write
        self._gathered: list[tuple[Delivery, asyncio.Future[Outcome]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, delivery: Delivery) -> Outcome:
        """Take a delivery on; return what became of the file that it is in."""
        loop = asyncio.get_running_loop()
        promise: asyncio.Future[Outcome] = loop.create_future()
        self._gathered.append((delivery, promise))
        if len(self._gathered) >= self._most:
            self._begin()
        elif self._timer is None:
            self._timer = loop.call_later(self._wait, self._begin)
        return await promise

    async def finish(self) -> None:
        """Write what is gathered now, and wait until it is written."""
        self._begin()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gathered, self._gathered = self._gathered, []
        if gathered:
            task = asyncio.create_task(self._end(gathered))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _end(self, gathered: list[tuple[Delivery, "asyncio.Future[Outcome]"]]) -> None:
        outcome: Outcome = Unknown("the batch was given up while it was written")
        try:
            outcome = await self._write([delivery for delivery, _ in gathered])
        finally:
            for _, promise in gathered:
                if not promise.done():
                    promise.set_result(outcome)
