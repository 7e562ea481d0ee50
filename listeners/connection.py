"""This module is what every connection on a port of ours does alike: who is there, how fast it is read, and its end."""

from typing import Any, Final
from typing import Protocol as Shape

from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.handshake import LATE
from broker.notices import ConnectionClosed, ConnectionOpened, HandshakeFailed
from broker.parts import Tools
from listeners.pace import Pace
from listeners.tls import Certificates, why_no_tls
from listeners.watch import Limits, State, Watch

_LINGER: Final = 3.0  # seconds in which a peer may read our last answer before the connection is cut


class Home(Shape):
    """What a connection needs of its listener."""

    tools: Tools
    limits: Limits
    reactor: Any
    certificates: Certificates | None  # where peers speak TLS with us
    pace: Pace | None  # to which each peer is kept

    def opened(self, connection: "PortConnection") -> None:
        """Count a connection, and set its socket up."""

    def agreed(self) -> None:
        """Note that a peer is connected, and that TLS is agreed on where there is any."""

    def closed(self, connection: "PortConnection") -> None:
        """Count a connection no more."""


@implementer(IPushProducer, IHandshakeListener)
class PortConnection(Protocol):
    """One connection of one peer; what comes over it, and what is answered, is its own class's."""

    transport: Any

    def __init__(self, home: Home, peer: str) -> None:
        self._home = home
        self._tools = home.tools
        self.peer = peer
        self._deaf = False  # the peer does not read our answers
        self._fast = False  # the peer is ahead of the pace that it is kept to
        self._pressed = False  # the engine holds as much in memory as it may
        self._half = 0  # bytes of an open message that are counted
        self._ending = ""  # why nothing more is taken
        self._closing = False
        self._gone = False
        self._agreed = home.certificates is None  # on TLS, where there is any
        self._doubt: int | None = None  # what is wrong with the peer's certificate
        self._watch = Watch(home.reactor, home.limits, self._state, self.finish)

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Set the connection up."""
        self._home.opened(self)
        # As a producer we are told when the peer does not read what we write.
        self.transport.registerProducer(self, True)  # noqa: FBT003 - Twisted's signature
        self._watch.begin(handshake=self._home.certificates is not None)
        self._tools.notify(ConnectionOpened(channel=self._tools.channel, peer=self.peer))
        if self._agreed:
            self._home.agreed()

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        """Note that TLS is agreed on."""
        self._agreed = True
        self._watch.agreed()
        self._home.agreed()

    def doubted(self, doubt: int) -> None:
        """Note what is wrong with the certificate that the peer shows (X509_V_ERR_…)."""
        self._doubt = doubt

    def finish(self, reason: str, *, linger: bool = False) -> None:
        """Take nothing more, write the answers that are due, then close."""
        raise NotImplementedError

    def abort(self) -> None:
        """Cut the connection off."""
        self.transport.abortConnection()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Stop reading: the peer does not read our answers."""
        self._deaf = True
        self._read_or_not()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Read again: the peer reads our answers."""
        self._deaf = False
        self._read_or_not()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Do nothing: connectionLost follows."""

    def _state(self) -> State:
        raise NotImplementedError

    def _read_or_not(self) -> None:
        """Read unless something speaks against it; an open message's time does not run while nothing is read."""
        raise NotImplementedError

    def _keep_pace(self, messages: int) -> None:
        """Count messages; read nothing for a while where the peer is ahead of its pace."""
        if self._home.pace is None or not messages:
            return
        seconds = self._home.pace.spend(self.peer.rpartition(":")[0], messages)
        if seconds and not self._fast:
            self._fast = True
            self._read_or_not()
            self._home.reactor.callLater(seconds, self._slowed)

    def _slowed(self) -> None:
        self._fast = False
        self._read_or_not()

    def _weigh(self, pending: int) -> None:
        """Count what is open; read nothing while too much waits, and end where this is what is too much."""
        pressure = self._tools.pressure
        if pending or self._half:
            half, self._half = self._half, pending
            if not pressure.hold(half, pending):
                self.finish("too much of unfinished messages is held for all peers together (intake.unfinished)")
        if pressure.is_high and not (self._pressed or self._gone):
            self._pressed = True
            pressure.when_low(self._eased)
            self._read_or_not()

    def _eased(self) -> None:
        self._pressed = False
        self._read_or_not()

    def _close(self) -> None:
        """Close once, and cut the connection off where the peer does not let it end."""
        if self._closing:
            return
        self._closing = True
        self.transport.unregisterProducer()
        self._watch.cut_after(_LINGER, self.abort)
        self._hang_up()

    def _hang_up(self) -> None:
        self.transport.loseConnection()

    def _ended(self, reason: Failure) -> None:
        """Tell that the connection has ended, and who ended it."""
        self._tools.pressure.forget(self._eased)
        self._tools.pressure.hold(self._half, 0)
        self._half = 0
        self._home.closed(self)
        if no_tls := self._why_no_tls(reason):
            self._tools.notify(HandshakeFailed(channel=self._tools.channel, peer=self.peer, reason=no_tls))
        why = self._ending or f"the peer closed it ({reason.type.__name__ if reason.type else 'unknown'})"
        self._tools.notify(ConnectionClosed(channel=self._tools.channel, peer=self.peer, reason=why))

    def _why_no_tls(self, reason: Failure) -> str:
        if self._home.certificates is None:
            return ""
        if self._ending == LATE:
            return LATE
        return why_no_tls(reason.value, self._doubt, agreed=self._agreed)
