"""This module keeps a connection to a peer that we dial, and says when the peer is away, why, and when it is back."""

from collections.abc import Callable
from typing import Any, Final

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet import error
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.handshake import NO_SUCH_HOST
from broker.notices import Notice
from broker.notices_dialling import PeerAway, PeerReached

_AGAIN: Final = (0.5, 30.0, 2.0)  # seconds until we dial again: the first, the longest, and by how much it grows
_WHY: Final = (
    (error.ConnectionRefusedError, "the connection was refused"),
    (error.DNSLookupError, NO_SUCH_HOST),
    ((error.TCPTimedOutError, error.TimeoutError), "there is no answer"),
    (error.NoRouteError, "no way leads there"),
)


@implementer(IStreamClientEndpoint)
class _Heard:
    """An endpoint of which every attempt that fails is heard."""

    def __init__(self, endpoint: Any, on_failed: Callable[[Failure], Failure]) -> None:
        self._endpoint = endpoint
        self._on_failed = on_failed

    def connect(self, factory: IProtocolFactory) -> Any:
        return self._endpoint.connect(factory).addErrback(self._on_failed)


class Peer:
    """A peer at ``address`` (``host:port``) that is dialled: whenever the connection ends, another one is tried."""

    def __init__(self, channel: str, address: str, notify: Callable[[Notice], None], reactor: Any) -> None:
        self._channel = channel
        self._address = address
        self._notify = notify
        self._reactor = reactor
        self._service: ClientService | None = None
        self._told = ""  # why it is away, as far as that was told
        self._connected = False

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where it is, and that it is dialled; nothing while stopped."""
        return (f"{self._address} (dialled)",) if self._service is not None else ()

    @property
    def away(self) -> str:
        """Why nothing can come from it now; empty while it is connected, and while nobody dials."""
        if self._connected or self._service is None:
            return ""
        return f"{self._address} is dialled: {self._told or 'it is not connected'}"

    def start(self, factory: Factory, wrap: Callable[[Any], Any] | None = None) -> None:
        """Begin to dial; ``wrap`` adds TLS to an endpoint."""
        host, _, port = self._address.rpartition(":")
        endpoint: Any = HostnameEndpoint(self._reactor, host.strip("[]"), int(port))
        if wrap is not None:
            endpoint = wrap(endpoint)
        again = backoffPolicy(*_AGAIN)
        self._service = ClientService(_Heard(endpoint, self._failed), factory, again, self._reactor)
        self._service.startService()

    def stop(self) -> None:
        """Dial no more; a connection that there is begins to close."""
        service, self._service = self._service, None
        if service is not None:
            service.stopService()
        self._told = ""

    def reached(self) -> None:
        """Note that it is connected, and that TLS is agreed on where there is any."""
        self._connected = True
        if self._told:
            self._told = ""
            self._notify(PeerReached(channel=self._channel, peer=self._address))

    def lost(self) -> None:
        """Note that the connection has ended."""
        self._connected = False

    def _failed(self, failure: Failure) -> Failure:
        if self._service is not None:  # else it is our own stop that made it fail
            kind = failure.type or type(failure.value)
            reason = next((words for known, words in _WHY if issubclass(kind, known)), f"it failed ({kind.__name__})")
            if reason != self._told:
                self._told = reason
                self._notify(PeerAway(channel=self._channel, peer=self._address, reason=reason))
        return failure
