"""This module is an MLLP listener without sockets: a transport, a clock and an intake that a test moves by hand."""

import asyncio
import re
from types import SimpleNamespace
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock

from broker.message import Inbound, Receipt
from broker.notices import Notice
from broker.parts import Tools
from broker.wire.er7 import Message
from broker.wire.mllp import Decoder, Frame
from listeners.mllp import MllpListener, MllpSpec
from listeners.mllp_connection import Connection

PEER = IPv4Address("TCP", "192.0.2.7", 40000)


def message(number: int, version: str = "2.5.1", wishes: str = "|", body: str = "PID|1||0012\r") -> bytes:
    return f"MSH|^~\\&|EPIC|MERCY|HANDOFF|PRM|20260101||ADT^A01|M{number}|P|{version}|||{wishes}\r{body}".encode()


class Wire:
    """A transport that keeps what is written, and takes the calls that a real one takes."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.half_closed = self.aborted = self.disconnecting = self.paused = False
        self.options: dict[str, Any] = {}

    def value(self) -> bytes:
        return b"".join(self.writes)

    def is_paused(self) -> bool:
        return self.paused

    def is_closing(self) -> bool:
        return self.disconnecting

    def is_half_closed(self) -> bool:
        return self.half_closed

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
        self.disconnecting = True

    def loseWriteConnection(self) -> None:  # noqa: N802 - Twisted's name
        self.half_closed = True

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        self.aborted = True

    def registerProducer(self, producer: object, streaming: bool) -> None:  # noqa: N802 - Twisted's name
        assert IPushProducer.providedBy(producer)
        assert streaming

    def unregisterProducer(self) -> None:  # noqa: N802 - Twisted's name
        self.options["unregistered"] = True

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.paused = True

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.paused = False

    def setTcpNoDelay(self, on: bool) -> None:  # noqa: N802 - Twisted's name
        self.options["no delay"] = on

    def setTcpKeepAlive(self, on: bool) -> None:  # noqa: N802 - Twisted's name
        self.options["keep alive"] = on

    def getHandle(self) -> object:  # noqa: N802 - Twisted's name
        return self


class Bench:
    """A listener with an intake that promises and waits for the test to keep the promise."""

    def __init__(self, **options: Any) -> None:
        self.notices: list[Notice] = []
        self.inbound: list[Inbound] = []
        self.promises: list[asyncio.Future[Receipt]] = []
        self.kept: list[tuple[str, bytes]] = []
        self.clock = Clock()
        self.clock.advance(1000.0)
        intake: Any = SimpleNamespace(accept=self._accept, quarantine=self._quarantine)
        tools = Tools(channel="adt", intake=intake, notify=self.notices.append, settings=None)
        spec = MllpSpec.model_validate({"endpoint": "127.0.0.1:2575", **options})
        self.listener = MllpListener(spec, tools, self.clock)

    def _accept(self, inbound: Inbound) -> "asyncio.Future[Receipt]":
        self.inbound.append(inbound)
        promise: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self.promises.append(promise)
        return promise

    def _quarantine(self, channel: str, peer: str, reason: str, data: bytes) -> None:
        assert (channel, peer) == ("adt", "192.0.2.7:40000")
        self.kept.append((reason, data))

    def connect(self) -> tuple[Connection, Wire]:
        connection = self.listener.buildProtocol(PEER)
        assert isinstance(connection, Connection)
        wire = Wire()
        connection.transport = wire
        connection.connectionMade()
        return connection, wire

    async def keep(self, *numbers: int) -> None:
        for number in numbers:
            self.promises[number].set_result(Receipt(message_id=number))
        await turn()

    async def refuse(self, number: int, error: Exception) -> None:
        self.promises[number].set_exception(error)
        await turn()

    def of(self, kind: type[Notice]) -> list[Any]:
        return [notice for notice in self.notices if isinstance(notice, kind)]


async def turn() -> None:
    """Let the loop run what is ready."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def answers(wire: Wire) -> list[tuple[str | None, str | None]]:
    """Return MSA-1 and MSA-2 of what was written."""
    items = Decoder(1 << 20).feed(wire.value())
    read = [Message.parse(item.payload) for item in items if isinstance(item, Frame)]
    assert len(read) == len(items)
    return [(answer.get("MSA-1"), answer.get("MSA-2")) for answer in read]


def frames(wire: Wire) -> list[bytes]:
    """Return the payloads of what was written."""
    return [item.payload for item in Decoder(1 << 24).feed(wire.value()) if isinstance(item, Frame)]


def codes(payload: bytes) -> list[tuple[str, str]]:
    """Return MSA-1 and MSA-2 of every acknowledgment in a payload."""
    return [(found[1].decode(), found[2].decode()) for found in re.finditer(rb"\rMSA\|(\w+)\|([^|\r]*)", payload)]


async def kept(bench: Bench) -> None:
    """Keep every promise, also those that are only made when others are kept."""
    while numbers := [number for number, promise in enumerate(bench.promises) if not promise.done()]:
        await bench.keep(*numbers)
        for _ in range(3):
            await turn()
