"""This module sends: it takes the heads of free lanes of one destination, attempts them, and records what came of it.

A delivery that is safe to try again (the other side can tell) may be born in state ``sending`` and goes from memory,
and some are claimed ahead of their turn; everything else is claimed from the store just before it is sent. Nothing else
is held in memory, so what waits behind a dead destination costs disk only. When to send, `broker.gate` says; what waits
in memory when the gate shuts goes back to the store.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple

from broker.acts import Interrupted, unsend
from broker.channel import RoutePlan
from broker.crash import crash_point
from broker.delivery import Delivered, Delivery, Outcome, Unknown
from broker.errors import StoreError, StoreFatal
from broker.gate import Gate
from broker.notices import Bug, CircuitProbed, DeliveriesExpired, Notice
from broker.seal import Sealer
from broker.store import Store
from broker.telling import change_told, ends_told
from broker.units import Claim, Claimed, Claims, Commit, Placed, Recorded
from broker.verdict import plain, recorded

_READY: Final = 1024  # deliveries of a destination that may wait in memory
_AHEAD: Final = 128  # of them that are claimed ahead, where a crash meanwhile costs an attempt and no more
_UNRECORDED: Final = 256  # deliveries that may have been sent and not been recorded yet
_LOOK: Final = 5.0  # seconds after which the store is asked again, whatever the clock did
_AGAIN: Final = 1.0  # seconds after which the store is given again what it refused
_SOON: Final = 0.5  # seconds that what is in memory may wait for the gate; it is marked as sending


class _End(NamedTuple):
    """How a send ended: its records, what commits some of them (by delivery), and the seconds that it took."""

    records: Sequence[Recorded]
    commits: Mapping[int, Commit]
    seconds: float


def _commits(records: Sequence[Recorded], outcomes: Sequence[Outcome]) -> dict[int, Commit]:
    return {
        unit.id: outcome.commit
        for unit, outcome in zip(records, outcomes, strict=True)
        if isinstance(outcome, Delivered) and outcome.commit is not None
    }


class Dispatcher:
    """Drives one destination of one channel."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        channel: str,
        number: int,
        route: int,
        plan: RoutePlan,
        notify: Callable[[Notice], None],
        woken: Callable[[frozenset[int]], None],
        concluded: Callable[[Recorded], None],
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._channel = channel
        self._number = number  # of the channel in the store
        self.route = route
        self.plan = plan
        self._send = f"send {channel}/{plan.name}"  # what its tasks are called
        self._notify = notify
        self._woken = woken
        self._concluded = concluded
        self._gate = Gate(plan.breaker, plan.rate, time.monotonic(), held=plan.held)
        self._ready: deque[Claimed] = deque()
        self._reserved = 0
        self._tasks: set[asyncio.Task[None]] = set()  # sends
        self._chores: set[asyncio.Task[None]] = set()  # what the store is told
        self._ends: list[_End] = []  # sends that ended in this turn of the loop
        self._unrecorded = 0  # deliveries whose end the store has not committed
        self._claim: asyncio.Future[Claims] | None = None  # that the store has not answered
        self._due: float | None = 0.0  # when the store has work next (POSIX); None: it has none
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0  # loop time
        self._is_running = False

    async def start(self) -> None:
        """Open the destination and begin to send."""
        self._loop = asyncio.get_running_loop()
        await self.plan.destination.open()
        self._is_running = True
        self.wake()

    async def stop(self, seconds: float) -> None:
        """Finish what is on the wire, within ``seconds``, and put back what was not begun."""
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()
        if self._claim is not None:
            await asyncio.wait([self._claim], timeout=seconds)  # what it brings is marked as sending, and goes back too
            await asyncio.sleep(0)
        self._put_back()
        until = time.monotonic() + seconds
        while (left := [*self._tasks, *self._chores]) and time.monotonic() < until:
            await asyncio.wait(left, timeout=until - time.monotonic())
        for chore in self._chores:
            chore.cancel()
        await self.plan.destination.close()

    def pause(self) -> None:
        """Send nothing more; what is on the wire ends, everything else waits in the store."""
        self._gate.is_paused = True
        self._put_back()

    def resume(self) -> None:
        """Go on."""
        self._gate.is_paused = False
        self.due()

    @property
    def state(self) -> str:
        """How it is: running, paused (by an operator), held (by its file), quiet, open, half_open, or busy."""
        now = time.monotonic()
        self._look_at_clock(now)
        return self._gate.state(now)

    def _look_at_clock(self, now: float) -> None:
        if self.plan.quiet is not None:
            left = self.plan.quiet.active_for(time.time())
            self._gate.quiet_until = now + left if left else 0.0

    def take(self) -> bool:
        """Say whether a new delivery may be born sending, and keep a place for it if so."""
        if self.plan.unknown != "retry" or self.plan.quiet or not self._gate.is_clear or not self._is_running:
            return False
        if len(self._ready) + self._reserved >= _READY:
            return False
        self._reserved += 1
        return True

    def offer(self, placed: Placed) -> None:
        """Take a new delivery on; call `wake` after the last one."""
        new = placed.delivery
        self._reserved -= new.eager
        if placed.state == "sending":
            now = time.time()
            delivery = Delivery(
                id=new.id, route=new.route, key=self._sealer.delivery_key(new.id), request=new.request, first_at=now
            )
            self._ready.append(Claimed(delivery, new.lane, 1))
        elif placed.due:
            self._due = 0.0

    def due(self) -> None:
        """Note that the store has work."""
        self._due = 0.0
        self.wake()

    def wake(self) -> None:
        """Begin whatever can begin now."""
        if not self._is_running:
            self._put_back()
            return
        now, wait = time.monotonic(), 0.0
        self._look_at_clock(now)
        while self._ready and len(self._tasks) < self.plan.concurrency and self._unrecorded < _UNRECORDED:
            wait = self._gate.wait(now, len(self._tasks))
            if wait > 0:
                break
            most = 1 if self._gate.begin(now) else self.plan.batch
            self._spawn(self._attempt([self._ready.popleft() for _ in range(min(most, len(self._ready)))]))
        if wait > _SOON:
            self._put_back()
        elif wait > 0:
            self._sleep(wait)
        if self._wants_more(now):
            self._spawn_claim(now)

    def _wants_more(self, now: float) -> bool:
        if self._due is None or self._claim is not None or self._room(now) <= 0 or self._unrecorded >= _UNRECORDED:
            return False
        wait = max(self._due - time.time(), self._gate.wait_to_claim(now, len(self._tasks)))
        if 0 < wait < float("inf"):
            self._sleep(min(wait, _LOOK))
        return wait <= 0

    def _room(self, now: float) -> int:
        """Return how many deliveries may be claimed."""
        free = self.plan.concurrency - len(self._tasks)
        if self.plan.unknown == "retry" and self._gate.is_clear:
            ahead = max(_AHEAD, self.plan.batch)
            return 0 if len(self._ready) > ahead // 2 else max(free, 0) * self.plan.batch + ahead - len(self._ready)
        if self._ready or free <= 0:
            return 0
        return 1 if self._gate.is_probing else self._gate.room(now, free) * self.plan.batch

    def _sleep(self, seconds: float) -> None:
        at = self._loop.time() + seconds
        if self._timer is not None:
            if self._rings_at <= at:
                return
            self._timer.cancel()
        self._rings_at = at  # a timer of uvloop's that is due at once does not say when it is
        self._timer = self._loop.call_at(at, self._rung)

    def _rung(self) -> None:
        self._timer = None
        self.wake()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work, name=self._send)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._notify(Bug(where=self._send, error=type(error).__name__))
        self.wake()

    def _spawn_claim(self, now: float) -> None:
        self._claim = self._store.claim(
            Claim(
                channel=self._number,
                route=self.route,
                limit=self._room(now),
                now=time.time(),
                expire=self.plan.policy.expire,
            )
        )
        self._claim.add_done_callback(self._claimed)

    def _claimed(self, future: "asyncio.Future[Claims]") -> None:
        self._claim = None
        try:
            claims = future.result()
        except StoreFatal:
            return  # the engine stops, and says why
        except StoreError as error:
            self._notify(Bug(where=f"claim {self._channel}/{self.plan.name}", error=str(error)))
            self._due = time.time() + 1.0
        else:
            self._due = claims.next_due
            self._ready.extend(claims.claimed)
            if claims.expired:
                said = DeliveriesExpired(channel=self._channel, destination=self.plan.name, count=claims.expired)
                self._notify(said)
            if claims.routes:
                self._woken(claims.routes)
        self.wake()

    def _put_back(self) -> None:
        """Let the store have again what was not begun."""
        left = [claimed.delivery.id for claimed in self._ready]
        self._ready.clear()
        if left:
            self._do(self._unsend(left))

    async def _unsend(self, left: Sequence[int]) -> None:
        try:
            await self._store.call(unsend, left, time.time())
        except StoreFatal:
            return  # the engine stops, and says why
        except StoreError as error:
            self._notify(Bug(where=f"put back {self._channel}/{self.plan.name}", error=str(error)))
            await asyncio.sleep(_AGAIN)
            await self._unsend(left)
        else:
            self.due()

    def _do(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(chore, name=f"chore {self._channel}/{self.plan.name}")
        self._chores.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._chores.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._notify(Bug(where=f"chore {self._channel}/{self.plan.name}", error=type(error).__name__))
        self.wake()

    async def _attempt(self, batch: Sequence[Claimed]) -> None:
        if self._gate.is_probing:
            self._notify(CircuitProbed(channel=self._channel, destination=self.plan.name))
        crash_point("send.begun")
        started = time.time()
        try:
            outcomes = await self.plan.destination.send([claimed.delivery for claimed in batch])
        except Exception as error:  # noqa: BLE001 - a destination's mistake must not stop the others
            name = type(error).__name__
            self._notify(Bug(where=f"destination {self._channel}/{self.plan.name}", error=name))
            outcomes = [Unknown(f"the destination raised {name}")] * len(batch)
        crash_point("send.returned")
        ended = time.time()
        records = [
            recorded(self.plan, self._number, self.route, claimed, outcome, started, ended)
            for claimed, outcome in zip(batch, outcomes, strict=True)
        ]
        self._judge(outcomes)
        end = _End(records, _commits(records, outcomes), ended - started)
        if self.plan.batch > 1:
            await self._conclude([end])  # meanwhile the next batch gathers: fewer and larger ones cost less
        else:
            self._conclude_later(end)  # the concurrency limits what is on the wire, not what waits for the disk

    def _conclude_later(self, end: "_End") -> None:
        """Let what ends in the same turn of the loop go to the store together."""
        if not self._ends:
            self._loop.call_soon(self._conclude_ends)
        self._ends.append(end)
        self._unrecorded += len(end.records)

    def _conclude_ends(self) -> None:
        ends, self._ends = self._ends, []
        self._do(self._conclude(ends, waited_for=sum(len(end.records) for end in ends)))

    async def _conclude(self, ends: Sequence["_End"], waited_for: int = 0) -> None:
        commits = {unit: commit for end in ends for unit, commit in end.commits.items()}
        try:
            await self._record([unit for end in ends for unit in end.records], commits)
        finally:
            self._unrecorded -= waited_for
        told = [(end.records, end.seconds) for end in ends]
        for notice in ends_told(told, self._channel, self.plan.name):
            self._notify(notice)

    async def _record(self, records: Sequence[Recorded], commits: Mapping[int, Commit]) -> None:
        routes: set[int] = set()
        for unit, told in await self._committed(records, commits):
            if not isinstance(told, Exception):
                self._concluded(unit)
                routes |= self._settle(unit, told)
            elif not isinstance(told, StoreFatal):  # then the engine stops, and says why
                error = str(told) if isinstance(told, StoreError) else type(told).__name__
                self._notify(Bug(where=f"record {unit.id}", error=error))
                self._unrecorded += 1
                self._do(self._record_again(unit, commits))
        if routes:
            self._woken(frozenset(routes))

    async def _committed(
        self, records: Sequence[Recorded], commits: Mapping[int, Commit]
    ) -> Sequence[tuple[Recorded, Sequence[int] | Exception]]:
        if not commits:
            return list(zip(records, await self._store.record(records), strict=True))
        joined = [commits[unit.id](unit) for unit in records if unit.id in commits]
        alone = [unit for unit in records if unit.id not in commits]
        told = await self._store.record(alone)
        return [*zip(alone, told, strict=True), *await asyncio.gather(*joined)]

    async def _record_again(self, unit: Recorded, commits: Mapping[int, Commit]) -> None:
        """Give the store once more what it refused, without what the other side said: the state must come true."""
        try:
            await asyncio.sleep(_AGAIN)
            await self._record([plain(unit)], commits)
        finally:
            self._unrecorded -= 1

    def _settle(self, unit: Recorded, told: Sequence[int]) -> set[int]:
        if unit.due_at is None:
            return set(told)
        self._due = min(self._due, unit.due_at) if self._due is not None else unit.due_at
        return {route for route in told if route != self.route}

    def _judge(self, outcomes: Sequence[Outcome]) -> None:
        for change in self._gate.judge(outcomes, time.monotonic()):
            self._notify(change_told(change, self._channel, self.plan.name))

    async def recover(self, interrupted: Sequence[Interrupted]) -> None:
        """Record as unknown what an earlier run left on the wire; nobody can say whether it took effect."""
        now = time.time()
        records = []
        for found in interrupted:
            delivery = Delivery(
                id=found.id, route=self.route, key="", request=b"", attempt=found.number, first_at=found.first_at
            )
            outcome = Unknown("the engine stopped while this was being sent")
            claimed = Claimed(delivery, found.lane, found.spent, found.away)
            records.append(recorded(self.plan, self._number, self.route, claimed, outcome, found.sent_at, now))
        for told in await self._store.record(records):
            if isinstance(told, Exception):
                raise told
            self._woken(frozenset(told))
