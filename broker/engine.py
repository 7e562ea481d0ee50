"""This module starts the engine's parts in order and stops them in reverse; it does nothing else."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker import acts
from broker.channel import Channel
from broker.dispatcher import Dispatcher
from broker.errors import HandoffError, NotFound, StoreError
from broker.ids import Ids
from broker.intake import Door, StoreIntake
from broker.marks import StoreMarks
from broker.notices import (
    Cancelled,
    Discarded,
    EngineFailed,
    EngineStarted,
    EngineStopping,
    Notice,
    Paused,
    Recovered,
    Replayed,
    Resumed,
)
from broker.parts import Listener, Reaching
from broker.pressure import Pressure
from broker.processes import WorkerProcess
from broker.pump import Program, Pump
from broker.seal import Sealer
from broker.store import Store
from broker.units import Act, Done, Pause, Placed

_FINISH: Final = 10.0  # seconds that a stop waits for what is on the wire


@dataclass(slots=True)
class Running:
    """One channel as it runs."""

    channel: Channel
    listener: Listener  # of an earlier revision, where it stayed the same
    number: int
    pump: Pump
    dispatchers: list[Dispatcher]


@dataclass(frozen=True, slots=True)
class DestinationStatus:
    """How one destination is: running, paused (by an operator), held (by its file), open, half_open, or busy."""

    destination: str
    state: str


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """How one channel runs now.

    ``state`` is running, away (it runs, and what it reads from cannot be reached; ``reason`` says why), paused (by an
    operator) or stopped.
    """

    channel: str
    revision: str
    endpoints: Sequence[str]
    connections: int
    state: str
    destinations: Sequence[DestinationStatus] = ()
    reason: str = ""


class Engine:
    """Everything that runs, held together."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        workers: Sequence[WorkerProcess],
        notify: Callable[[Notice], None],
        pressure: Pressure | None = None,
    ) -> None:
        self.store = store
        self.sealer = sealer
        self.notify = notify
        self.ids = Ids()
        self.pressure = pressure or Pressure()
        self.intake = StoreIntake(store, sealer, self.ids, notify, self.pressure)
        self.marks = StoreMarks(store, sealer)
        self.running: dict[str, Running] = {}
        self.started_at = 0.0
        self._workers = list(workers)
        self._routes: dict[int, Dispatcher] = {}
        self._interrupted: list[acts.Interrupted] = []
        self._pauses: dict[tuple[str, str | None], Pause] = {}
        self.failed: asyncio.Future[HandoffError] = asyncio.get_running_loop().create_future()
        store.on_fatal = self.fail

    def fail(self, error: StoreError) -> None:
        """Note that the engine must stop; `failed` resolves."""
        if not self.failed.done():
            self.notify(EngineFailed(reason=str(error)))
            self.failed.set_result(error)

    async def open(self) -> acts.Found:
        """Open the store and read what an earlier run left. The worker processes start meanwhile."""
        for worker in self._workers:
            worker.start()
        await self.store.open()
        found: acts.Found = await self.store.read(acts.find)
        self.ids = Ids(found.last_id)
        self.intake.count_from(self.ids)
        self._interrupted = list(found.interrupted)
        for pause in await self.store.read(acts.read_pauses, self.sealer):
            self._pauses[pause.channel, pause.destination] = pause
            self._tell(Paused, pause)
        return found

    async def start(self, channels: Sequence[Channel], found: acts.Found) -> None:
        """Start channels: first the ways out, then the middle, then the ways in. Raises `NotReady`."""
        for channel in channels:
            await self._add(channel)
        if found.received or found.waiting:
            self.notify(Recovered(messages=found.received, deliveries=found.waiting, sending=len(found.interrupted)))
        for running in self.running.values():
            await self._start_middle(running)
        for running in self.running.values():
            await self._start_listener(running)
        self.started_at = time.time()
        self.notify(EngineStarted(channels=len(self.running), store=self.store.dialect))

    async def _add(self, channel: Channel) -> None:
        registered = await self.store.register(
            channel.name, channel.revision, channel.content, [plan.name for plan in channel.routes]
        )
        worker = self._workers[registered.channel % len(self._workers)]
        program = self._program(channel, registered)
        worker.load(program.key, channel.content)
        ended = self.intake.endings.tell
        pump = Pump(self.store, self.sealer, worker, program, self.notify, self._offer, self._take, ended)
        dispatchers = [
            Dispatcher(
                self.store,
                self.sealer,
                channel.name,
                registered.channel,
                registered.routes[plan.name],
                plan,
                self.notify,
                self._wake,
                self.intake.conclusions.tell,
            )
            for plan in channel.routes
        ]
        for dispatcher in dispatchers:
            if (channel.name, dispatcher.plan.name) in self._pauses:
                dispatcher.pause()
        self._routes |= {registered.routes[d.plan.name]: d for d in dispatchers}
        self.running[channel.name] = Running(channel, channel.listener, registered.channel, pump, dispatchers)
        self._open_door(channel, registered.channel, pump)

    def _open_door(self, channel: Channel, number: int, pump: Pump) -> None:
        self.intake.admit(
            Door(
                number=number,
                name=channel.name,
                format=channel.format,
                index=channel.index,
                hand_over=pump.hand_over,
                places={plan.name: place for place, plan in enumerate(channel.routes)},
            )
        )

    def _program(self, channel: Channel, registered: acts.Registered) -> Program:
        places = {plan.name: place for place, plan in enumerate(channel.routes)}
        return Program(
            channel=registered.channel,
            revision=registered.revision,
            name=channel.name,
            key=f"{channel.name} {channel.revision}",
            routes=tuple(registered.routes[plan.name] for plan in channel.routes),
            after=tuple(places[plan.after] if plan.after else None for plan in channel.routes),
            instead=tuple(
                tuple(places[other.name] for other in channel.routes if other.fallback == plan.name)
                for plan in channel.routes
            ),
        )

    async def _start_middle(self, running: Running) -> None:
        for dispatcher in running.dispatchers:
            route = dispatcher.route
            await dispatcher.recover([found for found in self._interrupted if found.route == route])
            await dispatcher.start()
        running.pump.start()

    async def _start_listener(self, running: Running) -> None:
        if (running.channel.name, None) not in self._pauses:
            await running.listener.start()

    async def reload(self, channels: Sequence[Channel]) -> None:
        """Let new revisions of channels take effect; a listener whose declaration is the same keeps its sockets."""
        for channel in channels:
            await self._replace(channel)

    async def _replace(self, channel: Channel) -> None:
        old = self.running.get(channel.name)
        if old is None:
            await self._add(channel)
            await self._start_middle(self.running[channel.name])
            await self._start_listener(self.running[channel.name])
            return
        if old.channel.revision == channel.revision:
            return
        kept = old.listener
        if old.channel.listens != channel.listens:
            await kept.stop()
            kept = old.listener = channel.listener
            await self._start_listener(old)
        await old.pump.stop(_FINISH)
        for dispatcher in old.dispatchers:
            await dispatcher.stop(_FINISH)
        self._interrupted = []
        await self._add(channel)
        fresh = self.running[channel.name]
        fresh.listener = kept
        await self._start_middle(fresh)

    async def stop(self, reason: str) -> None:
        """Refuse new work, finish what is on the wire, and close; what is left waits in the store."""
        self.notify(EngineStopping(reason=reason))
        await asyncio.gather(*(running.listener.stop() for running in self.running.values()))
        for running in self.running.values():
            await running.pump.stop(_FINISH)
        await asyncio.gather(*(dispatcher.stop(_FINISH) for dispatcher in self._routes.values()))
        for worker in self._workers:
            await worker.stop()
        await self.store.close()

    async def act(self, act: Act) -> int:
        """Do what an operator wants with dead letters; return how many it changed."""
        done: Done = await self.store.act(act)
        self.notify(_TOLD[act.act](count=done.count, actor=act.actor))
        for running in self.running.values():
            running.pump.again(done.messages)
        self._wake(done.routes)
        return done.count

    async def pause(self, asked: Pause) -> bool:
        """Stop what goes to a destination, or what comes into a channel, until it is resumed; it outlives a restart.

        Returns whether that changed something. Raises `NotFound` for a channel or a destination that does not run.
        """
        running, dispatcher = self._find(asked)
        changed: bool = await self.store.call(acts.pause, asked)
        if changed:
            self._pauses[asked.channel, asked.destination] = asked
            if dispatcher is not None:
                dispatcher.pause()
            else:
                await running.listener.stop()
            self._tell(Paused, asked)
        return changed

    async def resume(self, asked: Pause) -> bool:
        """Let it go on; return whether it was paused. Raises `NotFound` as `pause` does, and `NotReady`."""
        running, dispatcher = self._find(asked)
        changed: bool = await self.store.call(acts.resume, asked)
        if changed:
            self._pauses.pop((asked.channel, asked.destination), None)
            if dispatcher is not None:
                dispatcher.resume()
            else:
                await running.listener.start()
            self._tell(Resumed, asked)
        return changed

    def _find(self, asked: Pause) -> tuple[Running, Dispatcher | None]:
        running = self.running.get(asked.channel)
        if running is None:
            raise NotFound(f"no channel is called {asked.channel!r}; there: {', '.join(sorted(self.running))}")
        if asked.destination is None:
            return running, None
        found = {dispatcher.plan.name: dispatcher for dispatcher in running.dispatchers}
        if asked.destination not in found:
            names = ", ".join(found) or "none"
            raise NotFound(f"channel {asked.channel} has no destination {asked.destination!r}; there: {names}")
        return running, found[asked.destination]

    def _tell(self, kind: type[Paused | Resumed], asked: Pause) -> None:
        self.notify(kind(channel=asked.channel, destination=asked.destination or "", actor=asked.actor))

    async def read(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a query of `broker.queries` beside the writer: ``function(connection, sealer, *args)``."""
        return await self.store.read(function, self.sealer, *args)

    def status(self) -> list[ChannelStatus]:
        """Return how every channel runs now."""
        return [
            _status(running, is_paused=(running.channel.name, None) in self._pauses)
            for running in self.running.values()
        ]

    def _take(self, route: int) -> bool:
        return self._routes[route].take()

    def _offer(self, placed: list[Placed]) -> None:
        routes = set()
        for one in placed:
            self._routes[one.delivery.route].offer(one)
            routes.add(one.delivery.route)
        for route in routes:
            self._routes[route].wake()

    def _wake(self, routes: frozenset[int]) -> None:
        for route in routes:
            if dispatcher := self._routes.get(route):
                dispatcher.due()


def _status(running: Running, *, is_paused: bool) -> ChannelStatus:
    listener = running.listener
    endpoints = list(listener.endpoints)
    away = listener.away if endpoints and isinstance(listener, Reaching) else ""
    state = "away" if away else "running" if endpoints else "paused" if is_paused else "stopped"
    destinations = [DestinationStatus(each.plan.name, each.state) for each in running.dispatchers]
    name, revision = running.channel.name, running.channel.revision
    return ChannelStatus(name, revision, endpoints, listener.connections, state, destinations, away)


_TOLD: Final = {"replay": Replayed, "discard": Discarded, "cancel": Cancelled}
