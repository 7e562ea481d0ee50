"""This module sends HL7 v2 messages to one partner over MLLP, over connections that stay.

On a connection one message is under way at a time, and the next goes only after the answer to the last. After a
time-out the connection is closed, so that an answer that comes late can never be taken for the next one's.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol

from broker.delivery import Delivered, Delivery, Outcome, Retry, Unknown
from broker.errors import NotReady
from broker.handshake import TlsServer
from broker.notices import HandshakeFailed, Notice
from broker.tls import Tls
from broker.wire.mllp import COMMITTED, NOT_COMMITTED
from dispatch.http import failure
from dispatch.mllp_answer import Table, control_id_of, outcome, read_answer
from dispatch.mllp_link import Ended, Garbled, Link

WaitFor = Literal["answer", "application", "nothing"]
_BACKLOG: Final = 16


class Lines(Protocol):
    """Where connections to a partner come from."""

    async def open(self) -> None:
        """Get ready; nothing need be connected yet."""

    async def take(self) -> Link:
        """Return a connection for the caller alone; raise OSError or TimeoutError when there is none."""

    def give(self, link: Link) -> None:
        """Take a connection back, for the next one."""

    async def close(self) -> None:
        """Close all connections."""


@dataclass(slots=True)
class Dialled:
    """Connections that we make: the one that was used last goes first, so that those not needed can be seen to idle."""

    host: str
    port: int
    connect: float  # seconds
    keepalive: float
    tls: Tls | None = None
    _idle: list[Link] = field(default_factory=list)

    async def open(self) -> None:
        """Get ready."""

    async def take(self) -> Link:
        """Return one that stands, or make one."""
        while self._idle:
            link = self._idle.pop()
            if await link.is_usable():
                return link
        async with asyncio.timeout(self.connect):
            _, link = await asyncio.get_running_loop().create_connection(
                lambda: Link(self.keepalive, _nothing),
                self.host,
                self.port,
                ssl=self.tls.context() if self.tls is not None else None,
                server_hostname=(self.tls.server_name or self.host) if self.tls is not None else None,
            )
        return link

    def give(self, link: Link) -> None:
        """Keep it."""
        self._idle.append(link)

    async def close(self) -> None:
        """Close all that are kept."""
        for link in self._idle:
            link.close()
        self._idle.clear()


@dataclass(slots=True)
class Awaited:
    """Connections that the partner makes to a port of ours."""

    host: str
    port: int
    connect: float  # seconds to wait for one
    keepalive: float
    most: int
    channel: str
    notify: Callable[[Notice], None]
    tls: ssl.SSLContext | None = None
    _server: asyncio.Server | TlsServer | None = None
    _is_open: bool = False
    _links: set[Link] = field(default_factory=set)
    _idle: list[Link] = field(default_factory=list)
    _come: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def endpoint(self) -> str:
        """Where it really listens, as ``host:port``; nothing while closed."""
        return f"{self.host}:{self._server.sockets[0].getsockname()[1]}" if self._server else ""

    async def open(self) -> None:
        """Take the port; raise `NotReady` when that is not possible."""
        self._is_open = True
        try:
            await self._listen()
        except OSError as error:
            why = (error.strerror or "the address cannot be used").lower()
            text = (
                f"channel {self.channel}: cannot listen on {self.host}:{self.port} for a partner ({why}); "
                "end the program that has it, or change mllp.listen"
            )
            raise NotReady(text) from None

    async def _listen(self) -> None:
        if self.tls is not None:
            self._server = TlsServer(self.tls, self._link, self._failed)
            await self._server.open(self.host, self.port, _BACKLOG)
        else:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._link, self.host, self.port, backlog=_BACKLOG)

    def _link(self) -> Link:
        return Link(self.keepalive, self._welcome)

    def _failed(self, peer: str, reason: str) -> None:
        self.notify(HandshakeFailed(channel=self.channel, peer=peer, reason=reason))

    def _welcome(self, link: Link) -> None:
        self._links = {known for known in self._links if known.is_open}
        if len(self._links) >= self.most or not self._is_open:
            link.abort()
            return
        self._links.add(link)
        self.give(link)

    async def take(self) -> Link:
        """Return one that stands, or wait for one."""
        async with asyncio.timeout(self.connect):
            while True:
                while self._idle:
                    link = self._idle.pop()
                    if await link.is_usable():
                        return link
                self._come.clear()
                await self._come.wait()

    def give(self, link: Link) -> None:
        """Keep it."""
        self._idle.append(link)
        self._come.set()

    async def close(self) -> None:
        """Give the port back, and close all connections."""
        server, self._server = self._server, None
        self._is_open = False
        if server is not None:
            server.close()
        for link in self._links:
            link.close()
        self._links.clear()
        self._idle.clear()


def _nothing(_link: Link) -> None:
    """Do nothing when a connection stands: whoever made it has it."""


@dataclass(slots=True)
class Partner:
    """The sending half; see `broker.parts.Destination`. ``peer`` is how reasons call the partner."""

    peer: str
    lines: Lines
    table: Table
    connections: int = 1
    timeout: float = 30.0  # seconds
    wait_for: WaitFor = "answer"
    check_control_id: bool = True
    _turns: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        """Allow as many messages under way as there are connections."""
        self._turns = asyncio.Semaphore(self.connections)

    async def open(self) -> None:
        """Get ready to send."""
        await self.lines.open()

    async def close(self) -> None:
        """Let go of connections."""
        await self.lines.close()

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Send one message after the other."""
        return [await self._send(delivery) for delivery in deliveries]

    async def _send(self, delivery: Delivery) -> Outcome:
        async with self._turns:
            try:
                link = await self.lines.take()
            except (OSError, TimeoutError) as error:
                return failure(error, self.peer, started=False)
            keep = False
            try:
                ending, keep = await self._exchange(link, delivery.request)
            finally:
                if keep:
                    self.lines.give(link)
                else:
                    link.abort()
            return replace(ending, via=link.via)

    async def _exchange(self, link: Link, request: bytes) -> tuple[Outcome, bool]:
        """Send a message and read what comes back; return the outcome, and whether the connection can be used again."""
        wanted = control_id_of(request)
        kept: list[bytes] = []  # the commit acknowledgment, where the application's own is awaited
        link.write(request)
        try:
            async with asyncio.timeout(self.timeout) as patience:
                if self.wait_for == "nothing":
                    await link.drain()
                    return Delivered(reference="written"), True
                return await self._answered(link, wanted, patience, kept)
        except TimeoutError:
            why = "kept it (CA), and its application gave no answer" if kept else "no answer"
            return Unknown(f"{self.peer}: {why} within the time allowed", response=b"".join(kept)), False
        except Garbled:
            return Unknown(f"{self.peer}: answered with something that is no MLLP frame"), False
        except Ended as end:
            if not end.let_in:
                reason = f"{self.peer}: TLS could not be set up (the partner refused our certificate)"
                return Retry(reason, is_away=True), False
            return Unknown(f"{self.peer}: the connection ended before the answer was complete"), False

    async def _answered(
        self, link: Link, wanted: str, patience: asyncio.Timeout, kept: list[bytes]
    ) -> tuple[Outcome, bool]:
        while True:
            payload = await link.next()
            if payload == COMMITTED:  # release 2 of MLLP: the frame was kept; what is in it is answered by HL7
                continue
            if payload == NOT_COMMITTED:
                return Retry(f"{self.peer}: did not keep the message (MLLP release 2)"), True
            answer = read_answer(payload)
            if answer is None:
                return Unknown(f"{self.peer}: answered with something that is no acknowledgment", payload), False
            if self.check_control_id and answer.control_id != wanted:
                if answer.control_id in link.settled:
                    continue
                reason = f"{self.peer}: answered under another control id (MSA-2) than that of the message"
                return Unknown(reason, payload), False
            if answer.code == "CA" and self.wait_for == "application" and not kept:
                kept.append(payload)
                patience.reschedule(asyncio.get_running_loop().time() + self.timeout)
                continue
            link.settled.append(wanted)
            return outcome(answer, self.table, self.peer, payload), True
