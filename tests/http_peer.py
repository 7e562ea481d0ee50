"""This module is a peer over HTTP for tests: a running listener, and raw or proper requests to it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp

from broker.delivery import Report
from broker.errors import MessageError, NotAccepted, StoreError, refused
from broker.formats.cda import Cda
from broker.formats.hl7 import Hl7
from broker.formats.reading import Format, Index, no_index
from broker.formats.text import Text
from broker.formats.tree import Json
from broker.message import Conclusion, Ended, Inbound, Receipt
from broker.parts import Tools
from broker.spec import ListenerSpec
from config.callers import CallerSpec
from tests.intake import NoIntake

if TYPE_CHECKING:
    from broker.notices import Notice

FORMATS: Mapping[str, Format] = {
    "json": Json(),
    "fhir": Json(fhir=True),
    "hl7": Hl7(),
    "text": Text(),
    "cda": Cda(),
}


class Kept(NoIntake):
    """An intake that keeps messages in memory a little later, reads them as the engine does, and knows them again."""

    def __init__(self, form: Format) -> None:
        self.form = form
        self.messages: list[Inbound] = []
        self.quarantined: list[bytes] = []
        self.reports: list[Report] = []
        self.full = False
        self.notices: list[Notice] = []
        self.refusal: NotAccepted | None = None
        self.delay = 0.0
        self.ended: Ended | None = None  # how the steps of those end that wait for it with their receipt
        self.concluded: dict[str, Conclusion] = {}  # by destination; the steps' own under no name
        self.index: Index = no_index
        self._known: dict[tuple[bytes, ...], int] = {}

    @property
    def bodies(self) -> list[bytes]:
        """What was kept, in order."""
        return [inbound.body for inbound in self.messages]

    def accept(self, inbound: Inbound) -> "asyncio.Future[Receipt]":
        """Keep it later, or refuse it."""
        promise: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        try:
            if self.refusal is not None:
                raise self.refusal
            key = self.form.read(inbound, self.index).key
        except MessageError as error:
            promise.set_exception(refused(error))
        except NotAccepted as error:
            promise.set_exception(error)
        else:
            asyncio.get_running_loop().call_later(self.delay, self._keep, inbound, key, promise)
        return promise

    def _keep(self, inbound: Inbound, key: tuple[bytes, ...], promise: "asyncio.Future[Receipt]") -> None:
        full = (*key, b"" if inbound.key_decides else inbound.body) if key else ()
        if full in self._known and full:
            promise.set_result(Receipt(message_id=self._known[full], duplicate=True))
            return
        self.messages.append(inbound)
        self._known[full] = len(self.messages)
        ended = self.ended if inbound.waits else None
        promise.set_result(Receipt(message_id=len(self.messages), ended=ended))

    async def conclude(self, _channel: str, message: int, destination: str = "") -> Conclusion:
        """Say how it ended, or never."""
        assert message <= len(self.messages), "only what is committed may be asked about"
        if destination not in self.concluded:
            await asyncio.Event().wait()
        return self.concluded[destination]

    def report(self, report: Report) -> "asyncio.Future[None]":
        """Keep a report, or fail where there is no space."""
        promise: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.full:
            promise.set_exception(StoreError("the store is full"))
        else:
            self.reports.append(report)
            promise.set_result(None)
        return promise

    def quarantine(self, _channel: str, _peer: str, _reason: str, data: bytes) -> None:
        """Keep bytes that are no message."""
        self.quarantined.append(data)


class World:
    """A running listener and what it was lent."""

    def __init__(
        self,
        spec: type[ListenerSpec],
        form: str,
        callers: Mapping[str, Any],
        root: Path,
        gateways: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.kept = Kept(FORMATS[form])
        known = {name: CallerSpec.model_validate(value) for name, value in callers.items()}
        settings = SimpleNamespace(root=root, callers=known, gateways=gateways or {})
        self.tools = Tools("web", self.kept, self.kept.notices.append, settings, FORMATS[form])
        given = {"endpoint": "127.0.0.1:0", "callers": list(callers), **options}
        self.listener: Any = spec.model_validate(given).build(self.tools)
        self.scheme = "https" if options.get("tls") else "http"

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"{self.scheme}://127.0.0.1:{self.listener.port}{path}"

    async def ask(
        self, method: str, path: str, *, tls: ssl.SSLContext | None = None, **options: Any
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Send a proper request; return status, body and headers."""
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url(path), ssl=tls or True, allow_redirects=False, **options) as answer,
        ):
            return answer.status, await answer.read(), answer.headers

    async def raw(self, data: bytes, seconds: float = 10) -> bytes:
        """Send bytes as they are; return everything that comes until the other side closes, or the time is up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port)
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
        found = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(seconds):
                while piece := await reader.read(65536):
                    found += piece
        writer.close()
        return found


@contextlib.asynccontextmanager
async def serving(
    spec: type[ListenerSpec],
    form: str = "json",
    callers: Mapping[str, Any] | None = None,
    root: Path = Path(),
    gateways: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[World]:
    """Run a listener on a free port."""
    world = World(spec, form, callers or {}, root, gateways, **options)
    await world.listener.start()
    try:
        yield world
    finally:
        await world.listener.stop()
