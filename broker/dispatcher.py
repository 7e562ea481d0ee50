"""This module sends: it takes the heads of free lanes of one destination, attempts them, and records what came of it.

A delivery that is safe to try again (the other side can tell) may be born in state ``sending`` and goes from memory;
everything else is claimed from the store just before it is sent. Nothing else is held in memory, so what waits behind a
dead destination costs disk only. A destination that fails again and again is left alone for a while and then tried
with one delivery.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from broker.acts import Interrupted, unsend
from broker.channel import RoutePlan
from broker.crash import crash_point
from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown
from broker.errors import StoreError, StoreFatal
from broker.ids import EPOCH_MS, message_of
from broker.notices import Bug, DeliveriesEnded, DeliveryFailed, DestinationPaused, DestinationResumed, Notice
from broker.seal import Sealer
from broker.store import Store
from broker.units import Claim, Claimed, Claims, Placed, Recorded

_READY: Final = 1024  # deliveries of a destination that may wait in memory
_FAILURES: Final = 5  # in a row, before a destination is left alone
_LONGEST_PAUSE: Final = 60.0
_LOOK: Final = 5.0  # seconds after which the store is asked again, whatever the clock did


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
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._channel = channel
        self._number = number  # of the channel in the store
        self.route = route
        self.plan = plan
        self._notify = notify
        self._woken = woken
        self._ready: deque[Claimed] = deque()
        self._reserved = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._claim: asyncio.Future[Claims] | None = None  # that the store has not answered
        self._due: float | None = 0.0  # when the store has work next (POSIX); None: it has none
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0
        self._paused_until = 0.0  # monotonic
        self._stopping = False

    async def start(self) -> None:
        """Open the destination and begin to send."""
        self._loop = asyncio.get_running_loop()
        await self.plan.destination.open()
        self.wake()

    async def stop(self, seconds: float) -> None:
        """Finish what is on the wire, within ``seconds``, and put back what was not begun."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._claim is not None:
            await asyncio.wait([self._claim], timeout=seconds)  # what it brings is marked as sending, and goes back too
        left = [claimed.delivery.id for claimed in self._ready]
        self._ready.clear()
        if left:
            await asyncio.wait([self._store.call(unsend, left, time.time())], timeout=seconds)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        await self.plan.destination.close()

    def take(self) -> bool:
        """Say whether a new delivery may be born sending, and keep a place for it if so."""
        if self.plan.unknown != "retry" or self._failures or self._stopping:
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
        if self._stopping:
            return
        while self._ready and len(self._tasks) < self.plan.concurrency and not self._is_paused():
            batch = [self._ready.popleft() for _ in range(min(self.plan.batch, len(self._ready)))]
            self._spawn(self._attempt(batch))
        if self._ready and self._is_paused() and not self._tasks:
            self._sleep(max(self._paused_until - time.monotonic(), 0.01))
        if self._wants_more():
            self._spawn_claim()

    def _is_paused(self) -> bool:
        return self._paused_until > time.monotonic() or (bool(self._paused_until) and bool(self._tasks))

    def _wants_more(self) -> bool:
        if self._claim is not None or self._ready or self._due is None or len(self._tasks) >= self.plan.concurrency:
            return False
        wait = max(self._due - time.time(), self._paused_until - time.monotonic())
        if wait > 0:
            self._sleep(min(wait, _LOOK))
            return False
        return not self._is_paused()

    def _sleep(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.wake)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"send {self._channel}/{self.plan.name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._notify(Bug(where=f"send {self._channel}/{self.plan.name}", error=type(error).__name__))
        self.wake()

    def _spawn_claim(self) -> None:
        free = self.plan.concurrency - len(self._tasks)
        limit = 1 if self._paused_until else free * self.plan.batch
        now = time.time()
        # What arrived before this has used up its time without one attempt.
        oldest = max(0, (int((now - self.plan.policy.expire) * 1000) - EPOCH_MS) << 22)
        self._claim = self._store.claim(
            Claim(channel=self._number, route=self.route, limit=limit, now=now, oldest=oldest)
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
        self.wake()

    async def _attempt(self, batch: Sequence[Claimed]) -> None:
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
            self._recorded(claimed, outcome, started, ended) for claimed, outcome in zip(batch, outcomes, strict=True)
        ]
        self._judge(outcomes)
        routes = {
            route
            for unit, told in zip(records, await self._store.record(records), strict=True)
            for route in self._settle(unit, told)
        }
        if routes:
            self._woken(frozenset(routes))
        self._tell(records, ended - started)

    def _settle(self, unit: Recorded, told: Sequence[int] | Exception) -> Sequence[int]:
        if isinstance(told, Exception):
            if not isinstance(told, StoreFatal):  # then the engine stops, and says why
                error = str(told) if isinstance(told, StoreError) else type(told).__name__
                self._notify(Bug(where=f"record {unit.id}", error=error))
            return ()
        if unit.due_at is not None:
            self._due = min(self._due, unit.due_at) if self._due is not None else unit.due_at
            return [route for route in told if route != self.route]
        return told

    def _recorded(self, claimed: Claimed, outcome: Outcome, started: float, ended: float) -> Recorded:
        state, due = self._next(claimed, outcome, ended)
        delivery = claimed.delivery
        return Recorded(
            id=delivery.id,
            channel=self._number,
            route=self.route,
            lane=claimed.lane,
            number=delivery.attempt,
            started_at=started,
            ended_at=ended,
            outcome=type(outcome).__name__.lower(),
            state=state,
            open=state == "waiting" or (state in {"held", "dead"} and self.plan.on_dead == "block"),
            due_at=due,
            reason=None if isinstance(outcome, Delivered) else outcome.reason,
            location=outcome.location or None if isinstance(outcome, Rejected) else None,
            detail=_detail(outcome),
            via=tuple(outcome.via) if outcome.via is not None else None,
        )

    def _next(self, claimed: Claimed, outcome: Outcome, now: float) -> tuple[str, float | None]:
        """Say which state follows from an outcome, and when a waiting delivery is due."""
        if isinstance(outcome, Delivered):
            return "delivered", None
        if isinstance(outcome, Rejected):
            return "dead", None
        if isinstance(outcome, Unknown) and self.plan.unknown == "hold":
            return "held", None
        arrived = ((message_of(claimed.delivery.id) >> 22) + EPOCH_MS) / 1000
        # A replay began a new budget: its age counts from its own first attempt.
        age = now - (arrived if claimed.spent == claimed.delivery.attempt else claimed.delivery.first_at)
        if self.plan.policy.is_spent(claimed.spent, age):
            return "dead", None
        asked = outcome.after if isinstance(outcome, Retry) else None
        return "waiting", now + self.plan.policy.wait(claimed.spent, asked)

    def _judge(self, outcomes: Sequence[Outcome]) -> None:
        """Leave the destination alone for a while if it only fails, and resume when it answers."""
        if any(isinstance(outcome, Delivered | Rejected) for outcome in outcomes):
            if self._paused_until:
                self._notify(DestinationResumed(channel=self._channel, destination=self.plan.name))
            self._failures, self._paused_until = 0, 0.0
            return
        self._failures += 1
        if self._failures >= _FAILURES:
            pause = min(self.plan.policy.first * 2.0 ** (self._failures - _FAILURES), _LONGEST_PAUSE)
            self._paused_until = time.monotonic() + pause
            if self._failures == _FAILURES:
                self._notify(
                    DestinationPaused(channel=self._channel, destination=self.plan.name, seconds=round(pause, 3))
                )

    def _tell(self, records: Sequence[Recorded], seconds: float) -> None:
        states: dict[str, int] = {}
        for unit in records:
            states[unit.state] = states.get(unit.state, 0) + 1
            if unit.state != "delivered":
                self._notify(
                    DeliveryFailed(
                        channel=self._channel,
                        destination=self.plan.name,
                        delivery=unit.id,
                        attempt=unit.number,
                        state=unit.state,
                        reason=unit.reason or "",
                    )
                )
        for state, count in states.items():
            self._notify(
                DeliveriesEnded(
                    channel=self._channel, destination=self.plan.name, state=state, count=count, seconds=seconds
                )
            )

    async def recover(self, interrupted: Sequence[Interrupted]) -> None:
        """Record as unknown what an earlier run left on the wire; nobody can say whether it took effect."""
        now = time.time()
        records = []
        for found in interrupted:
            delivery = Delivery(
                id=found.id, route=self.route, key="", request=b"", attempt=found.number, first_at=found.first_at
            )
            outcome = Unknown("the engine stopped while this was being sent")
            records.append(self._recorded(Claimed(delivery, found.lane, found.spent), outcome, found.sent_at, now))
        for told in await self._store.record(records):
            if isinstance(told, Exception):
                raise told


def _detail(outcome: Outcome) -> bytes:
    """Return what the other side said, as it is sealed with the attempt: a reference, a blank line, the response."""
    reference = outcome.reference.encode() if isinstance(outcome, Delivered) else b""
    return reference + b"\n\n" + outcome.response if reference or outcome.response else b""
