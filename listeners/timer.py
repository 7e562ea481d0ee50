"""This module makes a message of its own at each due time of a schedule, once for each, also across a crash."""

import asyncio
import contextlib
import datetime as dt
import time
from typing import ClassVar, Final
from zoneinfo import ZoneInfo

import orjson
from pydantic import Field, field_validator

from broker.errors import NotAccepted
from broker.message import Inbound
from broker.notices import Bug, ListenerStarted, MessageRefused
from broker.parts import Tools
from broker.schedule import LOOK, ScheduleSpec
from broker.spec import ListenerSpec, Seconds

_AGAIN: Final = 1.0  # seconds until a message is made again that the store could not take
_DUE: Final = "due"


class TimerSpec(ListenerSpec):
    """A message of our own at each due time: `message.due`, and the `values` that are written here."""

    formats: ClassVar[frozenset[str]] = frozenset({"json"})

    schedule: ScheduleSpec = Field(description="When a message is made.")
    values: dict[str, str | int | float | bool | None] = Field(
        default={}, description="What the message holds besides `due`: names and values."
    )
    catch_up: Seconds = Field(
        default=300.0,
        le=86_400,
        description="How late a due time may be made up for that passed while we were stopped; of several, the last.",
    )

    @field_validator("values")
    @classmethod
    def _no_due(cls, values: dict[str, object]) -> dict[str, object]:
        if _DUE in values:
            raise ValueError("`due` is the due time; call the value something else")
        return values

    def build(self, tools: Tools) -> "TimerListener":
        """Build the listener."""
        return TimerListener(self, tools)


class TimerListener:
    """Watches the clock for one channel; see `broker.parts.Listener`."""

    def __init__(self, spec: TimerSpec, tools: Tools) -> None:
        self._spec = spec
        self._tools = tools
        self._schedule = spec.schedule.schedule()
        self._zone = ZoneInfo(spec.schedule.zone)
        self._endpoint = f"cron {spec.schedule.cron}" if spec.schedule.cron else f"every {spec.schedule.every:g}s"
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The schedule; nothing while stopped."""
        return (self._endpoint,) if self._task is not None else ()

    @property
    def connections(self) -> int:
        """None: nobody connects."""
        return 0

    async def start(self) -> None:
        """Begin to watch the clock."""
        self._stopping.clear()
        self._task = asyncio.create_task(self._live(), name=f"timer {self._tools.channel}")
        self._tools.notify(ListenerStarted(channel=self._tools.channel, endpoint=self._endpoint))

    async def stop(self) -> None:
        """Make no other message, and return once the one under way is committed or given up."""
        task, self._task = self._task, None
        if task is not None:
            self._stopping.set()
            await task

    async def _live(self) -> None:
        looked = time.time() - self._spec.catch_up
        while not self._stopping.is_set():
            try:
                looked = await self._look(looked, time.time())
            except Exception as error:  # noqa: BLE001 - the next look may do better, and a silent end would lose messages
                self._tools.notify(Bug(where=f"timer {self._tools.channel}", error=type(error).__name__))
                await self._pause(_AGAIN)
            else:
                await self._pause(self._schedule.wait(looked, time.time()))

    async def _look(self, looked: float, now: float) -> float:
        """Make the message that became due since ``looked``; return up to when everything is done.

        A clock that was set back brings due times again, which the intake knows as duplicates; one that was set
        forward, or a machine that slept, brings many at once, of which the last counts.
        """
        due = self._schedule.latest(max(min(looked, now), now - max(self._spec.catch_up, 2 * LOOK)), now)
        if due is not None and not await self._make(due):
            return looked
        return now

    async def _make(self, due: float) -> bool:
        """Hand the message of a due time over until the store takes it; return False when a stop came first."""
        inbound = Inbound(
            channel=self._tools.channel,
            body=self._body(due),
            peer="timer",
            received_at=time.time(),
            # The intake takes one with the same key and the same bytes once: `received_at` may differ, the body not.
            key=f"timer {due:.3f}".encode(),
        )
        while True:
            try:
                await self._tools.intake.accept(inbound)
            except NotAccepted as refusal:
                if not refusal.is_ours:
                    self._refuse(refusal)
                    return True
                await self._pause(_AGAIN)
                if self._stopping.is_set():
                    return False
            else:
                return True

    def _body(self, due: float) -> bytes:
        at = dt.datetime.fromtimestamp(due, self._zone).isoformat()
        return orjson.dumps({_DUE: at, **self._spec.values})

    def _refuse(self, refusal: NotAccepted) -> None:
        self._tools.notify(
            MessageRefused(
                channel=self._tools.channel, peer="timer", code="AR", condition=refusal.condition, reason=str(refusal)
            )
        )

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
