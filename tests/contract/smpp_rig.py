"""This module holds what tests of the SMPP gateway share: a destination with its door, and an SMSC that misbehaves."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import orjson

from broker.delivery import Delivery, Outcome, Report
from broker.message import Inbound, Receipt
from broker.parts import Tools
from broker.wire import smpp
from broker.wire.smpp import Decoder, Pdu
from config.gateways import SmppSpec
from dispatch.sms import SmsSpec, Texts
from tests.intake import NoIntake

if TYPE_CHECKING:
    from broker.notices import Notice


class Kept(NoIntake):
    """The engine's door, as far as a gateway knows it."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.messages: list[Inbound] = []
        self.refusal: Exception | None = None
        self.changed = asyncio.Event()

    def _done(self, value: Any) -> "asyncio.Future[Any]":
        promise: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.refusal is not None:
            promise.set_exception(self.refusal)
        else:
            promise.set_result(value)
        self.changed.set()
        return promise

    def report(self, report: Report) -> "asyncio.Future[None]":
        self.reports += [report] if self.refusal is None else []
        return self._done(None)

    def accept(self, inbound: Inbound) -> "asyncio.Future[Receipt]":
        if inbound.channel == "gone":
            raise KeyError(inbound.channel)
        self.messages += [inbound] if self.refusal is None else []
        return self._done(Receipt(message_id=1))


class Rig:
    """One destination that sends through an SMSC."""

    def __init__(self, port: int, patients: str, **options: Any) -> None:
        self.kept = Kept()
        self.notices: list[Notice] = []
        declared = {
            "kind": "smpp",
            "endpoint": f"127.0.0.1:{port}",
            "account": "clinic",
            "password": "${env:SMPP_TEST_PASSWORD}",
            "from": "+12025550100",
            "plain": "loopback",
            "replies": "replies",
            "suppress": [0x40A],
            **options,
        }
        spec = SmppSpec.model_validate_json(orjson.dumps(declared), strict=True)
        settings = SimpleNamespace(gateways={"smsc": spec}, patients=patients)
        tools = Tools("adt", cast("Any", self.kept), self.notices.append, settings)
        sms = SmsSpec.model_validate({"gateway": "smsc", "to": "x", "text": "x", "timeout": "300ms"})
        self.destination = cast("Texts", sms.build(tools))

    async def send(self, to: str = "+12025550123", text: str = "Welcome, Okafor", key: str = "k") -> Outcome:
        async with asyncio.timeout(10):
            request = orjson.dumps({"to": to, "text": text})
            (outcome,) = await self.destination.send([Delivery(id=1, route=1, key=key, request=request)])
        assert not [secret for secret in ("2025550123", "Okafor", "pw") if secret in repr(outcome)]
        return outcome

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 - on what a peer does
                await asyncio.sleep(0.01)


Start = Callable[..., Awaitable[Rig]]


@contextlib.asynccontextmanager
async def rigs(patients: str) -> AsyncIterator[Start]:
    """Give a function that opens a destination for a port; all of them are closed in the end."""
    opened: list[Rig] = []

    async def begin(port: int, **options: Any) -> Rig:
        rig = Rig(port, patients, **options)
        await rig.destination.open()
        opened.append(rig)
        return rig

    yield begin
    for rig in opened:
        await rig.destination.close()


Act = Callable[["Session", Pdu], Awaitable[None]]


class Session:
    """One connection to the misbehaving SMSC."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.pdus: list[Pdu] = []

    def send(self, pdu: Pdu) -> None:
        self.writer.write(pdu.encode())


class Misbehaving:
    """An SMSC that does with each command what it is told to."""

    def __init__(self) -> None:
        self.acts: dict[int, Act] = {}
        self.sessions: list[Session] = []
        self.port = 0

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End it, and every session."""
        self._server.close()
        for session in self.sessions:
            session.writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session, decoder = Session(writer), Decoder()
        self.sessions.append(session)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                for pdu in decoder.feed(data):
                    session.pdus.append(pdu)
                    await self.acts.get(pdu.command, accept)(session, pdu)

    def told(self, command: int) -> list[Pdu]:
        return [pdu for session in self.sessions for pdu in session.pdus if pdu.command == command]


async def accept(session: Session, pdu: Pdu) -> None:
    if not pdu.is_answer:
        session.send(pdu.answer(0, b"m1\0" if pdu.command == smpp.SUBMIT_SM else b"smsc\0"))


async def silence(_session: Session, _pdu: Pdu) -> None:
    pass


def answer(status: int, body: bytes = b"") -> Act:
    async def act(session: Session, pdu: Pdu) -> None:
        session.send(pdu.answer(status, body))

    return act


async def nack(session: Session, pdu: Pdu) -> None:
    session.send(Pdu(smpp.GENERIC_NACK, 0x03, pdu.sequence))


async def nonsense(session: Session, _pdu: Pdu) -> None:
    session.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def reset(session: Session, _pdu: Pdu) -> None:
    connection = session.writer.get_extra_info("socket")
    connection.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER: reset instead of an end
    session.writer.transport.abort()


async def say_goodbye(session: Session, _pdu: Pdu) -> None:
    session.send(Pdu(smpp.UNBIND, 0, 77))
