"""This module is the life of the engine's process: it opens what is needed and runs until it is told to stop."""

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from broker import space
from broker.acts import read_setting, write_setting
from broker.engine import Engine
from broker.errors import HandoffError, NotReady, StoreError
from broker.lock import lock_folder
from broker.migrate import migrate
from broker.notices import ConfigurationRefused, ConfigurationReloaded
from broker.pressure import Pressure
from broker.seal import Sealer, load_key
from broker.sql import connect
from broker.store import Store
from config.build import build_channels
from config.channel import ChannelPlan
from config.serving import sandbox_accounts
from config.settings import Settings
from config.workers import make_worker
from console.ending import Ending
from console.report import Report
from console.sandbox import ACCOUNTS
from console.web.access import make_token
from console.web.server import Console

# Reads the channel files again: the channels, or the report of what is wrong with them and how many findings it has.
Recheck = Callable[[], "tuple[Sequence[ChannelPlan], str, int]"]

_KEY_FILE: Final = "handoff.key"
_KEY_CHECK: Final = "key check"
_KNOWN_TEXT: Final = b"handoff"


@dataclass(frozen=True, slots=True)
class Started:
    """What a start tells: where the console is, and where every channel's listener is."""

    console: str
    sandbox: str
    endpoints: dict[str, Sequence[str]]


async def serve(
    settings: Settings,
    channels: Sequence[ChannelPlan],
    recheck: Recheck,
    report: Report,
    on_started: Callable[[Started], None],
) -> int:
    """Run the engine until SIGTERM or SIGINT; return the exit code. Raises `NotReady` when it cannot start."""
    os.umask(0o077)  # what we write is for us alone, also where the data folder was made by somebody else
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = lock_folder(settings.data)
    migrate(settings.store)
    sealer = _open_seal(settings)
    engine = Engine(
        Store(settings.store, sealer, report),
        sealer,
        [make_worker(settings, report) for _ in range(settings.workers)],
        report,
        Pressure(settings.intake.limits(), report),
    )
    process = _Process(engine, settings, report, recheck)
    try:
        return await process.run(channels, on_started)
    finally:
        os.close(lock)


class _Process:
    """One engine, its console and its sandbox, from start to stop."""

    def __init__(self, engine: Engine, settings: Settings, report: Report, recheck: Recheck) -> None:
        self._engine = engine
        self._settings = settings
        self._report = report
        self._recheck = recheck
        self._told = asyncio.Event()
        self._sandbox: asyncio.subprocess.Process | None = None
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[Any]] = set()

    async def run(self, channels: Sequence[ChannelPlan], on_started: Callable[[Started], None]) -> int:
        ending = Ending(self._told, self._report)
        engine = self._engine
        token = make_token(self._settings.data)
        console = Console(engine, self._settings, token, self._report, self.reload)
        watching = [
            asyncio.create_task(space.watch(engine.pressure, space.folder_of(self._settings.store))),
            asyncio.create_task(self._report.watch()),
        ]
        try:
            console.open()  # before anybody is let in: a port that is taken keeps the engine from starting
            found = await engine.open()
            await self._start_sandbox()
            await engine.start(self._build(channels), found)
            await console.start()
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload_soon)
            on_started(self._started(console.address, await self._sandbox_address()))
            _calm_collector()
            return await self._wait()
        finally:
            was_told = self._told.is_set()
            ending.begin()
            for task in watching:
                task.cancel()
            await asyncio.gather(console.stop(), self._stop_sandbox())
            with contextlib.suppress(StoreError):
                await engine.stop("stopped by signal" if was_told else "stopped")
            self._report.settle(all_of_it=True)

    async def _wait(self) -> int:
        failed = self._engine.failed
        failed.add_done_callback(lambda _failed: self._told.set())
        await self._told.wait()
        if failed.done():
            raise NotReady(str(failed.result()))
        return 0

    def _build(self, channels: Sequence[ChannelPlan]) -> list[Any]:
        engine = self._engine
        return build_channels(channels, self._settings, engine.intake, self._report, engine.pressure, engine.marks)

    def _started(self, console: str, sandbox: str) -> Started:
        return Started(console, sandbox, {one.channel: one.endpoints for one in self._engine.status()})

    def _reload_soon(self) -> None:
        task = asyncio.create_task(self.reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def reload(self) -> ConfigurationReloaded | ConfigurationRefused:
        """Let the channel files as they are now take effect, or keep what runs and say all that is wrong."""
        async with self._reloading:
            channels, text, count = await asyncio.get_running_loop().run_in_executor(None, self._recheck)
            notice: ConfigurationReloaded | ConfigurationRefused
            if count:
                notice = ConfigurationRefused(findings=count, report=text)
            else:
                try:
                    await self._engine.reload(self._build(channels))
                    notice = ConfigurationReloaded(channels=len(channels))
                except HandoffError as error:
                    notice = ConfigurationRefused(findings=1, report=str(error))
            self._report(notice)
            return notice

    async def _start_sandbox(self) -> None:
        sandbox = self._settings.sandbox
        if not sandbox.enabled:
            return
        command = [sys.executable, "-P", "-m", "console.sandbox", sandbox.endpoint, str(self._settings.data)]
        # It ends when its standard input does, and so with us, however we end.
        accounts = json.dumps(sandbox_accounts(sandbox, self._settings.gateways))
        self._sandbox = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {ACCOUNTS: accounts},
        )

    async def _sandbox_address(self) -> str:
        if self._sandbox is None or self._sandbox.stdout is None:
            return ""
        address = (await self._sandbox.stdout.readline()).decode().strip()
        if not address:
            message = f"sandbox: cannot listen on {self._settings.sandbox.endpoint}; set sandbox.endpoint to a free one"
            raise NotReady(message)
        return address

    async def _stop_sandbox(self) -> None:
        if self._sandbox is not None:
            with contextlib.suppress(ProcessLookupError):
                self._sandbox.terminate()
            await self._sandbox.wait()


def _calm_collector() -> None:
    # What was built at the start stays, so the collector need not walk it again; and a message makes a few hundred
    # objects that die with it, so looking after every 700 finds nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def _open_seal(settings: Settings) -> Sealer:
    """Return the sealer, after making sure that its key is the one that the store was sealed with."""
    path = settings.data / _KEY_FILE
    connection = connect(settings.store)
    try:
        sealed = read_setting(connection, _KEY_CHECK)
        sealer = Sealer(load_key(path, may_make=sealed is None))
        if sealed is None:
            write_setting(connection, _KEY_CHECK, sealer.seal("setting", 0, _KNOWN_TEXT))
        else:
            _check_key(sealer, sealed, path)
        return sealer
    finally:
        connection.close()


def _check_key(sealer: Sealer, sealed: bytes, path: Path) -> None:
    try:
        sealer.open("setting", 0, sealed)
    except StoreError:
        message = f"{path}: this is not the key that the store was sealed with; put the right file back"
        raise NotReady(message) from None
