"""This module runs polls of a database against an intake that knows what it has taken."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

from broker.formats.tree import Json
from broker.message import Inbound, Receipt
from broker.notices import Notice
from broker.parts import Marks, Tools
from listeners.database import DatabaseInSpec, DatabaseListener
from tests.contract.test_database_contract import run
from tests.intake import NoIntake

TABLE = """CREATE TABLE visit (id integer PRIMARY KEY, changed timestamp, ward varchar(20), weight numeric(6,2),
    born date, photo {blob}, taken integer DEFAULT 0)"""
WATERMARK: dict[str, Any] = {"watermark": {"column": "id", "start": 0}}
CHANGED: dict[str, Any] = {"watermark": {"column": "changed", "start": "2026-03-01 00:00:00"}}
OUTBOX: dict[str, Any] = {
    "query": "SELECT * FROM visit WHERE taken = 0 ORDER BY id",
    "outbox": {"mark": "UPDATE visit SET taken = 1 WHERE id = :id"},
}


class Kept(NoIntake):
    """An intake that knows messages by key and bytes, as the engine's does, and fails when told to."""

    def __init__(self) -> None:
        self.messages: dict[tuple[bytes, bytes], Inbound] = {}
        self.notices: list[Notice] = []
        self.refusals: list[Exception] = []
        self.quarantined: list[bytes] = []
        self.tries = 0
        self.on_accept: Callable[[], None] = lambda: None

    def accept(self, inbound: Inbound) -> "asyncio.Future[Receipt]":
        self.tries += 1
        promise: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        if self.refusals:
            promise.set_exception(self.refusals.pop(0))
            return promise
        known = (inbound.key, b"" if inbound.key_decides else inbound.body)
        is_known = known in self.messages
        self.messages.setdefault(known, inbound)
        promise.set_result(Receipt(message_id=1, duplicate=is_known))
        self.on_accept()
        return promise

    def quarantine(self, _channel: str, _peer: str, _reason: str, data: bytes) -> None:
        self.quarantined.append(data)

    def ids(self) -> list[int]:
        return [orjson.loads(message.body)["id"] for message in self.messages.values()]

    def told(self, kind: type[Notice]) -> list[Any]:
        return [notice for notice in self.notices if isinstance(notice, kind)]


class Remembered:
    """Marks in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def read(self, name: str) -> bytes | None:
        return self.kept.get(name)

    async def write(self, name: str, value: bytes) -> None:
        self.kept[name] = value


def build(url: str, kept: Kept, marks: Marks | None = None, **options: Any) -> DatabaseListener:
    settings = SimpleNamespace(root=Path("/"), databases={"ward": SimpleNamespace(url=url, password=None)})
    tools = Tools("visits", kept, kept.notices.append, settings, Json(), marks=marks)
    given = {
        "database": "ward",
        "schedule": {"every": "1s"},
        "query": "SELECT * FROM visit",
        "key": ["id"],
        "batch": 3,
        "timeout": "5s",
        **options,
    }
    return DatabaseInSpec.model_validate(given).build(tools)


@asynccontextmanager
async def polling(url: str, kept: Kept, marks: Marks | None = None, **options: Any) -> AsyncIterator[DatabaseListener]:
    listener = build(url, kept, marks, **options)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop()


async def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def insert(url: str, *ids: int, changed: str = "2026-03-18 14:15:00") -> None:
    rows = ", ".join(f"({each}, '{changed}', 'W{each}')" for each in ids)
    run(url, f"INSERT INTO visit (id, changed, ward) VALUES {rows}")


def taken(url: str) -> list[int]:
    return [int(row[0]) for row in run(url, "SELECT id FROM visit WHERE taken = 1 ORDER BY id")]
