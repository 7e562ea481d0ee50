"""This module is a console over a real store and an engine that only pretends to have channels, for tests."""

import asyncio
import contextlib
import io
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from broker import acts
from broker.engine import DestinationStatus
from broker.migrate import migrate
from broker.notices import ConfigurationRefused, ConfigurationReloaded
from broker.pressure import Pressure
from broker.store import Store
from broker.units import Act, Pause
from config.serving import ConsoleTls
from console.report import Report
from console.web.access import make_token
from console.web.server import Console
from tests.filling import SEALER, Filling


@dataclass
class Status:
    """How the one channel runs."""

    channel: str = "adt"
    revision: str = "digest-1"
    endpoints: Sequence[str] = ("127.0.0.1:2575",)
    connections: int = 2
    state: str = "running"
    destinations: Sequence[DestinationStatus] = (
        DestinationStatus("prm", "running"),
        DestinationStatus("ehr", "running"),
    )
    reason: str = ""


@dataclass
class PracticeEngine:
    """Reads and acts on a real store."""

    store: Store
    started_at: float = field(default_factory=time.time)
    state: Status = field(default_factory=Status)
    acts: list[Act] = field(default_factory=list)
    pressure: Pressure = field(default_factory=Pressure)
    reloaded: ConfigurationRefused | ConfigurationReloaded = field(
        default_factory=lambda: ConfigurationReloaded(channels=1)
    )

    def status(self) -> list[Status]:
        """Return the one channel."""
        return [self.state]

    async def read(self, function: Callable[..., Any], *args: Any) -> Any:
        """Read from the store."""
        return await self.store.read(function, SEALER, *args)

    async def act(self, act: Act) -> int:
        """Note the act and do it."""
        self.acts.append(act)
        return (await self.store.act(act)).count

    async def pause(self, asked: Pause) -> bool:
        """Do it to the store."""
        return bool(await self.store.call(acts.pause, asked))

    async def resume(self, asked: Pause) -> bool:
        """Do it to the store."""
        return bool(await self.store.call(acts.resume, asked))

    async def reload(self) -> ConfigurationRefused | ConfigurationReloaded:
        """Answer what the test wants."""
        return self.reloaded


@dataclass
class Practice:
    """A running console, and everything behind it."""

    console: Console
    engine: PracticeEngine
    filling: Filling
    report: Report
    settings: Any
    token: str

    @property
    def url(self) -> str:
        """Where the console is."""
        return self.console.address.rstrip("/")


@contextlib.asynccontextmanager
async def serving(data: Path, tls: ConsoleTls | None = None) -> AsyncIterator[Practice]:
    """Serve a console over an empty store in ``data``."""
    url = f"sqlite:///{data}/handoff.db"
    await asyncio.to_thread(migrate, url)
    store = Store(url, SEALER, lambda _notice: None, inside=True)
    await store.open()
    registered = await store.register(
        "adt", "digest-1", '{"channel": {"steps": [{"filter": "x"}, {"set": {}}]}}', ["prm", "ehr"]
    )
    settings = SimpleNamespace(
        data=data,
        patients=f"sqlite:///{data}/patients.db",
        root=data,
        console=SimpleNamespace(endpoint="127.0.0.1:0", tls=tls),
        sandbox=SimpleNamespace(endpoint="127.0.0.1:8090", enabled=True),
    )
    report, engine, token = Report(stream=io.StringIO()), PracticeEngine(store), make_token(data)
    console = Console(engine, settings, token, report, engine.reload)
    await console.start()
    try:
        yield Practice(console, engine, Filling(store, registered), report, settings, token)
    finally:
        await console.stop()
        await store.close()


class Aside:
    """The same on a loop in a thread of its own, for tests that block: the command line and the browser."""

    def __init__(self, practice: Practice, loop: asyncio.AbstractEventLoop) -> None:
        self.practice = practice
        self._loop = loop

    def do(self, work: Any) -> Any:
        """Run a coroutine on the console's loop; return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


@contextlib.contextmanager
def serving_aside(data: Path, tls: ConsoleTls | None = None) -> Iterator[Aside]:
    """Serve a console from another thread."""
    begun, ended = threading.Event(), asyncio.Event()
    found: list[Aside] = []

    async def serve() -> None:
        async with serving(data, tls) as practice:
            found.append(Aside(practice, asyncio.get_running_loop()))
            begun.set()
            await ended.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert begun.wait(20), "the console did not start"
        yield found[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(20)
        loop.close()
