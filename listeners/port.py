"""This module is a TCP port of ours, or of a peer that we dial: who may connect, how fast, and under which TLS."""

import asyncio
import socket
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, model_validator
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from broker.bridge import as_future
from broker.errors import NotReady
from broker.hosts import Network, is_loopback, is_within, networks
from broker.keepalive import keep_alive
from broker.notices import CertificateTrouble, ConnectionRefused, ListenerStarted, PeerRefused
from broker.parts import Tools
from broker.spec import Endpoint, ListenerSpec, Seconds
from listeners.connection import PortConnection
from listeners.pace import Pace
from listeners.peer import Peer
from listeners.tls import Certificates, TlsFactory, TlsSpec

_BACKLOG: Final = 512
_STOP_WITHIN: Final = 10.0  # seconds for what was accepted before a stop to be committed and answered


class PortSpec(ListenerSpec):
    """What every listener on a TCP port has in common."""

    endpoint: Endpoint = Field(description="Address and port to listen on, such as 127.0.0.1:2575; port 0 takes any.")
    role: Literal["server", "client"] = Field(
        "server", description="`server` lets peers connect to us; `client` connects to `endpoint` and receives there."
    )
    tls: TlsSpec | None = Field(None, description="TLS, and by what certificates the two ends know each other.")
    unprotected: str = Field(
        "",
        description="Why it is safe to let other machines in without TLS, such as `a VPN ends on this host`; without "
        "`tls` and without a reason a listener takes loopback addresses only.",
    )
    allow: list[Network] = Field(
        [], description="Addresses and networks that may connect, such as 10.1.0.0/16; empty lets any."
    )
    rate: float | None = Field(
        None, gt=0, description="Messages a second of one peer; what is faster is read more slowly, and never lost."
    )
    connections: int = Field(1000, ge=1, description="Most connections at a time; further ones are turned away.")
    keepalive: Seconds = Field(60.0, description="Idle time after which TCP asks whether the peer lives; 0 never asks.")

    @model_validator(mode="after")
    def _is_protected(self) -> "PortSpec":
        if self.role == "client" or self.tls is not None:
            if self.tls is not None and self.role == "server" and self.tls.certificate is None:
                raise ValueError("tls of a listener needs certificate and key")
        elif not self.unprotected and not is_loopback(self.endpoint.rpartition(":")[0].strip("[]")):
            text = (
                f"{self.endpoint} lets other machines in without TLS: add `tls`, or say in `unprotected` why it is safe"
            )
            raise ValueError(text)
        return self


class Port(Factory):
    """Listens on one port for one channel; see `broker.parts.Listener`. ``word`` is the listener's, in channels."""

    noisy = False

    def __init__(self, spec: PortSpec, tools: Tools, word: str, reactor: Any = None) -> None:
        self.tools = tools
        self.reactor = reactor
        self._spec = spec
        self._word = word
        self._connections: set[PortConnection] = set()
        self._tls = spec.tls.below(getattr(tools.settings, "root", Path())) if spec.tls is not None else None
        self.certificates: Certificates | None = None
        self.pace = Pace(spec.rate, self.clock) if spec.rate is not None else None
        self._allowed = networks(spec.allow)
        self._listening: Any = None  # an IListeningPort
        self._peer: Peer | None = None  # whom we dial
        self._stopping = False
        self._all_closed: asyncio.Event | None = None

    @property
    def port(self) -> int:
        """The port that is really listened on (0 before the start)."""
        return int(self._listening.getHost().port) if self._listening else 0

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where it really listens, as ``host:port``, or whom it dials; nothing before the start."""
        if self._peer is not None:
            return self._peer.endpoints
        host = self._spec.endpoint.rpartition(":")[0]
        return (f"{host}:{self.port}",) if self._listening else ()

    @property
    def connections(self) -> int:
        """How many peers are connected."""
        return len(self._connections)

    @property
    def away(self) -> str:
        """Why nothing can come from a peer that we dial; see `broker.parts.Reaching`."""
        return self._peer.away if self._peer is not None else ""

    async def start(self) -> None:
        """Take the port, or begin to connect; raise `NotReady` when that is not possible."""
        self._stopping = False
        if self._spec.role == "client":
            self._dial()
        else:
            self._listen()

    def _listen(self) -> None:
        host, _, port = self._spec.endpoint.rpartition(":")
        factory: Any = self
        if self._tls is not None:
            self.certificates = Certificates(self._tls, self._where("tls"), self._trouble)
            self.certificates.load()
            factory = TlsFactory(self.certificates, isClient=False, wrappedFactory=self)
        try:
            self._listening = self._reactor().listenTCP(int(port), factory, _BACKLOG, host.strip("[]"))
        except CannotListenError as error:
            why = getattr(error.socketError, "strerror", None) or "the address cannot be used"
            text = (
                f"channel {self.tools.channel}: cannot listen on {self._spec.endpoint} ({why.lower()}); "
                f"end the program that has it, or change listen.{self._word}.endpoint"
            )
            raise NotReady(text) from None
        self.tools.notify(ListenerStarted(channel=self.tools.channel, endpoint=f"{host}:{self.port}"))

    def _dial(self) -> None:
        """Keep a connection to the peer: whenever it ends, another one is tried, at growing intervals."""
        self._peer = Peer(self.tools.channel, self._spec.endpoint, self.tools.notify, self._reactor())
        wrap: Any = None
        if self._tls is not None:
            from listeners.dialling import Dialling  # noqa: PLC0415 - loads what servers do not need

            host = self._spec.endpoint.rpartition(":")[0].strip("[]")
            self.certificates = creator = Dialling(self._tls, host, self._where("tls"), self._trouble)
            creator.load()
            wrap = partial(wrapClientTLS, creator)
        self.tools.notify(ListenerStarted(channel=self.tools.channel, endpoint=self._spec.endpoint))
        self._peer.start(self, wrap)

    def _where(self, option: str) -> str:
        return f"channel {self.tools.channel}: listen.{self._word}.{option}"

    def _trouble(self, reason: str) -> None:
        self.tools.notify(CertificateTrouble(channel=self.tools.channel, reason=reason))

    async def stop(self) -> None:
        """Give the port back, read nothing more, answer what was accepted, and close; at most 10 seconds."""
        self._stopping = True
        if self._peer is not None:
            self._peer.stop()  # closes what there is, too: its end is waited for below
        listening, self._listening = self._listening, None
        if listening is not None:
            stopped = listening.stopListening()
            if stopped is not None:
                await as_future(stopped)
        self._all_closed = asyncio.Event()
        for connection in list(self._connections):
            connection.finish("the listener stops")
        if self._connections:
            try:
                await asyncio.wait_for(self._all_closed.wait(), _STOP_WITHIN)
            except TimeoutError:
                for connection in list(self._connections):
                    connection.abort()

    def buildProtocol(self, addr: IAddress | None) -> PortConnection | None:  # noqa: N802 - Twisted's name
        """Take a connection in, or turn it away when there are as many as may be."""
        peer = f"{getattr(addr, 'host', '?')}:{getattr(addr, 'port', 0)}"
        if self._stopping:
            return None
        if self._allowed and not is_within(getattr(addr, "host", ""), self._allowed):
            reason = f"its address is not in listen.{self._word}.allow"
            self.tools.notify(PeerRefused(channel=self.tools.channel, peer=peer, reason=reason))
            return None
        if len(self._connections) >= self._spec.connections:
            self.tools.notify(ConnectionRefused(channel=self.tools.channel, peer=peer, limit=self._spec.connections))
            return None
        return self.connection(peer)

    def connection(self, peer: str) -> PortConnection:
        """Make the protocol of one connection."""
        raise NotImplementedError

    def opened(self, connection: PortConnection) -> None:
        """Count a connection, and set its socket up."""
        self._connections.add(connection)
        # Under TLS lies the transport of TCP.
        transport: Any = getattr(connection.transport, "transport", connection.transport)
        transport.setTcpNoDelay(True)
        if self._spec.keepalive:
            transport.setTcpKeepAlive(True)
            handle = transport.getHandle()
            if isinstance(handle, socket.socket):
                keep_alive(handle, self._spec.keepalive)

    def agreed(self) -> None:
        """Note that a peer is connected, and that TLS is agreed on where there is any."""
        if self._peer is not None:
            self._peer.reached()

    def closed(self, connection: PortConnection) -> None:
        """Count a connection no more."""
        if self._peer is not None:
            self._peer.lost()
        self._connections.discard(connection)
        if self._all_closed is not None and not self._connections:
            self._all_closed.set()

    def clock(self) -> float:
        """Return the reactor's time in seconds."""
        return float(self._reactor().seconds())

    def _reactor(self) -> Any:
        if self.reactor is None:
            # By now it is installed; at the top of the file, importing it would install another.
            from twisted.internet import reactor  # noqa: PLC0415

            self.reactor = reactor
        return self.reactor
