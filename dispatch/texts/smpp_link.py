"""This module keeps one connection to an SMSC: bound, watched, and with a bounded number of requests under way."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from broker.errors import MessageError
from broker.handshake import not_connected
from broker.tls import Tls
from broker.wire import smpp
from broker.wire.smpp import Decoder, Pdu, next_sequence, status_name
from dispatch.way import note_via, via_of

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0  # that a bind or an enquire_link may take
_READ: Final = 65_536
_DELIVERIES: Final = 32  # deliver_sm under way at a time; then nothing more is read
_UNBIND_SECONDS: Final = 2.0

# Takes the deliver_sm that an SMSC brings; returns the command_status to answer with.
Take = Callable[[Pdu], Awaitable[int]]


class NotBound(Exception):
    """There is no bound connection, so nothing was sent; the text says why, without a secret."""


class LinkLost(Exception):
    """The connection ended, or no answer came in time, after a request was on its way; the text says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How an SMSC is reached; times in seconds."""

    host: str
    port: int
    system_id: str
    password: Any = field(repr=False)  # anything with `reveal()`
    system_type: str = ""
    tls: Tls | None = field(default=None, repr=False, compare=False)
    window: int = 10  # requests that may wait for their answer
    enquire: float = 30.0  # of silence, after which we ask whether somebody is there


class Link:
    """One bound connection, from `bind` to its end."""

    def __init__(self, access: Access, take: Take) -> None:
        self._access = access
        self._take = take
        self._sequence = 0
        self._pending: dict[int, asyncio.Future[Pdu]] = {}
        self._window = asyncio.Semaphore(access.window)
        self._heard = 0.0  # when something came last, in loop time
        self._tasks: set[asyncio.Task[None]] = set()
        self._taking: set[asyncio.Task[None]] = set()  # those that commit what came
        self._room = asyncio.Semaphore(_DELIVERIES)
        self._broken = ""  # why the connection is of no use any more
        self.is_bound = False

    async def bind(self, password: str) -> None:
        """Connect and bind as transceiver; raise `NotBound` where either is refused or takes too long."""
        access = self._access
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                self._reader, self._writer = await asyncio.open_connection(
                    access.host,
                    access.port,
                    ssl=access.tls.context() if access.tls is not None else None,
                    server_hostname=(access.tls.server_name or access.host) if access.tls is not None else None,
                )
        except (OSError, TimeoutError) as error:
            raise NotBound(not_connected(error)) from None
        self._via = via_of(self._writer.transport)
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._spawn(self._read())
        body = smpp.bind(access.system_id, password, access.system_type)
        try:
            answer = await self._ask(smpp.BIND_TRANSCEIVER, body, ANSWER_SECONDS)
        except LinkLost as error:
            await self.close()
            raise NotBound(f"{error} (while binding)") from None
        if answer.status:
            await self.close()
            raise NotBound(f"the bind was refused ({status_name(answer.status)})")
        self.is_bound = True
        self._spawn(self._watch())

    async def request(self, command: int, body: bytes, timeout: float) -> Pdu:  # noqa: ASYNC109 - the SMSC's time, not ours
        """Send a request and return its answer.

        Raises `NotBound` while nothing was sent, also where no place in the window came free in ``timeout`` seconds,
        and `LinkLost` where no answer will come.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._window.acquire()
        except TimeoutError:
            raise NotBound("too many texts wait for their answers") from None
        try:
            return await self._ask(command, body, timeout)
        finally:
            self._window.release()

    async def _ask(self, command: int, body: bytes, timeout: float) -> Pdu:  # noqa: ASYNC109 - as above
        if self._broken:
            raise NotBound(self._broken)
        self._sequence = number = next_sequence(self._sequence)
        future: asyncio.Future[Pdu] = self._loop.create_future()
        self._pending[number] = future
        note_via(self._via)
        self._writer.write(Pdu(command, 0, number, body).encode())
        try:
            async with asyncio.timeout(timeout):
                await self._writer.drain()
                return await future
        except TimeoutError:
            raise LinkLost("no answer within the time allowed") from None
        except OSError:
            raise LinkLost("the connection was reset") from None
        finally:
            self._pending.pop(number, None)

    async def _read(self) -> None:
        decoder = Decoder()
        reason = "the connection ended"
        try:
            while data := await self._reader.read(_READ):
                self._heard = self._loop.time()
                for pdu in decoder.feed(data):
                    await self._handle(pdu)
        except MessageError:
            reason = "what came is no SMPP"
        except OSError:
            reason = "the connection was reset"
        self._break(reason)

    async def _handle(self, pdu: Pdu) -> None:
        if pdu.is_answer:
            future = self._pending.get(pdu.sequence)
            if future is not None and not future.done():
                future.set_result(pdu)
        elif pdu.command == smpp.DELIVER_SM:
            await self._room.acquire()
            task = self._spawn(self._deliver(pdu))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)
        elif pdu.command == smpp.ENQUIRE_LINK:
            self._writer.write(pdu.answer().encode())
        elif pdu.command == smpp.UNBIND:
            self._writer.write(pdu.answer().encode())
            self._break("the gateway ended the session")
        else:
            self._writer.write(Pdu(smpp.GENERIC_NACK, 0x03, pdu.sequence).encode())  # ESME_RINVCMDID

    async def _deliver(self, pdu: Pdu) -> None:
        """Answer a deliver_sm once what it brings is committed, so that the SMSC brings again what was not."""
        try:
            status = await self._take(pdu)
            if not self._broken:
                # deliver_sm_resp has a message_id, which is empty (4.6.2).
                self._writer.write(pdu.answer(status, b"\0").encode())
        finally:
            self._room.release()

    async def _watch(self) -> None:
        """Ask after each silence whether somebody is there, and end the connection where nobody is."""
        while not self._broken:
            silence = self._loop.time() - self._heard
            if silence < self._access.enquire:
                await asyncio.sleep(self._access.enquire - silence)
                continue
            try:
                await self._ask(smpp.ENQUIRE_LINK, b"", ANSWER_SECONDS)
            except (LinkLost, NotBound):
                self._break("the gateway does not answer any more")

    def _break(self, reason: str) -> None:
        """Note that the connection is of no use; whatever waits for an answer is told."""
        if self._broken:
            return
        self._broken, self.is_bound = reason, False
        for future in self._pending.values():
            if not future.done():
                future.set_exception(LinkLost(reason))
        self._writer.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work, name="smpp")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Unbind and end the connection; what it has brought is committed and answered first."""
        if self._taking:
            await asyncio.wait(self._taking, timeout=_UNBIND_SECONDS)
        if self.is_bound:
            with contextlib.suppress(LinkLost, NotBound):
                await self._ask(smpp.UNBIND, b"", _UNBIND_SECONDS)
        self._break("the session was closed")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
