"""This module takes a channel's messages through its steps: from intake in memory, or from the store, in order.

Fresh messages are handed over after their commit. When more arrive than may wait in memory, or after a start, the pump
reads on from the store, and goes back to memory once it has caught up: recovery is the ordinary way of refilling.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker.acts import read_received
from broker.errors import Breach, StoreError, StoreFatal
from broker.notices import Bug, MessageFailed, MessagesProcessed, Notice, ValidationWarned
from broker.processes import Item, Processed, Rendered, WorkerProcess
from broker.seal import Sealer
from broker.store import Store
from broker.units import Finished, NewDelivery, Placed

_BATCH: Final = 256  # messages that go to a worker at once
_FRESH: Final = 1024  # messages of a channel that may wait in memory
_AGAIN: Final = 5.0  # seconds after which a message is run again whose result the store refused
_AHEAD: Final = 3  # batches on their way through worker and store


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What the pump runs: one revision of a channel, and what it needs to place the deliveries."""

    channel: int
    revision: int
    name: str  # of the channel
    key: str  # of the program in the worker
    routes: tuple[int, ...]  # by destination, in the channel's order
    after: tuple[int | None, ...]  # the place of the destination that each one follows
    instead: tuple[tuple[int, ...], ...]  # the places of those that each one stands by for


class Pump:
    """Drives one channel."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        worker: WorkerProcess,
        program: Program,
        notify: Callable[[Notice], None],
        offer: Callable[[list[Placed]], None],
        room: Callable[[int], bool],
        ended: Callable[[Sequence[Finished], Mapping[int, tuple[Breach, ...]]], None],
    ) -> None:
        self.program = program
        self._store = store
        self._sealer = sealer
        self._worker = worker
        self._notify = notify
        self._offer = offer
        self._room = room
        self._ended_steps = ended
        self._fresh: deque[Item] = deque()
        self._again: deque[int] = deque()
        self._taken = 0  # the last message that was taken to the steps
        self._newest = 0  # the last message known to be committed
        self._behind = True  # read from the store until it has nothing newer
        self._news = asyncio.Event()
        self._ahead = asyncio.Semaphore(_AHEAD)
        self._tasks: set[asyncio.Task[None]] = set()
        self._driver: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take messages."""
        self._driver = self._spawn(self._drive())

    async def stop(self, seconds: float) -> None:
        """Take no more and finish what is with the worker, within ``seconds``; the rest stays received in the store."""
        if self._driver is not None:
            self._driver.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hand_over(self, identifier: int, received_at: float, body: bytes) -> None:
        """Take a message that was just committed; called in the order of commits."""
        self._newest = identifier
        if self._behind or len(self._fresh) >= _FRESH:
            self._behind = True
        else:
            self._fresh.append(Item(identifier, received_at, body))
        self._news.set()

    def again(self, identifiers: Sequence[int]) -> None:
        """Take messages again that an operator replays."""
        self._again.extend(identifiers)
        self._news.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work, name=f"pump {self.program.name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._notify(Bug(where=f"pump {self.program.name}", error=type(error).__name__))

    async def _drive(self) -> None:
        while True:
            items = await self._take()
            if items:
                await self._ahead.acquire()
                program = self.program
                self._spawn(self._process(program, items, self._worker.run(program.key, items)))
            else:
                self._news.clear()
                if not (self._fresh or self._again or self._behind):
                    await self._news.wait()

    async def _take(self) -> list[Item]:
        if self._again:
            return await self._reread()
        if self._fresh:
            count = min(len(self._fresh), _BATCH)
            items = [self._fresh.popleft() for _ in range(count)]
            self._taken = items[-1].id
            return items
        return await self._refill() if self._behind else []

    async def _refill(self) -> list[Item]:
        newest = self._newest
        rows = await self._read(self._taken, _BATCH)
        if rows:
            self._taken = rows[-1].id
        # A short read saw all that was committed when it began; if nothing came since, memory takes over again.
        if len(rows) < _BATCH and self._newest == newest:
            self._behind = False
        return rows

    async def _reread(self) -> list[Item]:
        identifiers = sorted(self._again)
        self._again.clear()
        found = []
        for identifier in identifiers:
            found += await self._read(identifier - 1, 1)
        return [item for item in found if item.id in set(identifiers)]

    async def _read(self, after: int, limit: int) -> list[Item]:
        rows = await self._store.read(read_received, self._sealer, self.program.channel, after, limit)
        return [Item(*row) for row in rows]

    async def _process(
        self, program: Program, items: Sequence[Item], results: "asyncio.Future[list[Processed]]"
    ) -> None:
        began = time.monotonic()
        try:
            processed = await results
            now = time.time()
            finished = [self._finished(program, item, done, now) for item, done in zip(items, processed, strict=True)]
            told = await self._store.finish(finished)
        finally:
            self._ahead.release()
        self._offer([one for unit, placed in zip(finished, told, strict=True) for one in self._placed(unit, placed)])
        self._ended_steps(
            [unit for unit, placed in zip(finished, told, strict=True) if not isinstance(placed, Exception)],
            {item.id: done.breaches for item, done in zip(items, processed, strict=True) if done.breaches},
        )
        self._tell(finished, time.monotonic() - began)
        self._tell_warnings(processed)

    def _placed(self, unit: Finished, told: list[Placed] | Exception) -> list[Placed]:
        if not isinstance(told, Exception):
            return told
        if isinstance(told, StoreFatal):
            return []  # the engine stops, and says why
        self._notify(Bug(where=f"finish {unit.id}", error=str(told) if isinstance(told, StoreError) else repr(told)))
        asyncio.get_running_loop().call_later(_AGAIN, self.again, [unit.id])
        return [Placed(delivery, "", due=False) for delivery in unit.deliveries]

    def _finished(self, program: Program, item: Item, done: Processed, now: float) -> Finished:
        deliveries = self._new(program, item.id, done.deliveries) if done.deliveries else ()
        return Finished(
            id=item.id,
            channel=program.channel,
            revision=program.revision,
            state=done.state,
            at=now,
            step=done.step,
            location=done.location,
            reason=done.reason,
            deliveries=deliveries,
        )

    def _new(self, program: Program, message: int, rendered: Sequence[Rendered]) -> tuple[NewDelivery, ...]:
        """Return the deliveries: a place in the channel for each destination, and so on for every further patient.

        One that stands by for destinations that get nothing is left out.
        """
        count = len(program.routes)
        places = {one.place for one in rendered}
        lanes = {name: self._sealer.lane(name) for name in {one.lane for one in rendered}}  # mostly one for all
        deliveries = []
        for one in rendered:
            place = one.place % count
            first = one.place - place  # of this patient
            stands_by = program.instead[place]
            instead = tuple(message + 1 + first + other for other in stands_by if first + other in places)
            if stands_by and not instead:
                continue
            follows = program.after[place]
            before = first + follows if follows is not None and first + follows in places else None
            deliveries.append(
                NewDelivery(
                    id=message + 1 + one.place,
                    route=program.routes[place],
                    lane=lanes[one.lane],
                    after=None if before is None else message + 1 + before,
                    eager=not stands_by and before is None and self._room(program.routes[place]),
                    request=one.request,
                    instead=instead,
                    other_lane=None if one.other_lane is None else self._sealer.lane(one.other_lane),
                )
            )
        return tuple(deliveries)

    def _tell(self, finished: Sequence[Finished], seconds: float) -> None:
        states = [unit.state for unit in finished]
        for unit in finished:
            if unit.state == "failed":
                self._notify(
                    MessageFailed(
                        channel=self.program.name,
                        message=unit.id,
                        step=unit.step or "",
                        location=unit.location or "",
                        reason=unit.reason or "",
                    )
                )
        self._notify(
            MessagesProcessed(
                channel=self.program.name,
                processed=states.count("processed"),
                filtered=states.count("filtered"),
                failed=states.count("failed"),
                seconds=seconds,
            )
        )

    def _tell_warnings(self, processed: Sequence[Processed]) -> None:
        counts = Counter[int]()
        for done in processed:
            if done.warned:
                counts.update(dict(done.warned))
        for code, count in counts.items():
            self._notify(ValidationWarned(channel=self.program.name, code=code, count=count))
