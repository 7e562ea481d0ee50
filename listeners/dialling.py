"""This module speaks TLS with a peer that we dial: which certificate it must show, and which is ours."""

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL, crypto
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import alsoProvides, implementer

from broker.handshake import OTHER_NAME
from listeners.tls import Certificates, TlsSpec


@implementer(IOpenSSLClientConnectionCreator)
class Dialling(Certificates):
    """Whom we trust, and our own certificate where there is one; the peer's name or address is checked (RFC 9525)."""

    def __init__(self, spec: TlsSpec, host: str, where: str, on_trouble: Callable[[str], None]) -> None:
        super().__init__(spec, where, on_trouble)
        self._identity: DNS_ID | IPAddress_ID
        try:
            self._identity = IPAddress_ID(host)
            self._sni = b""  # which is for names alone (RFC 6066, 3)
        except ValueError:
            self._identity = DNS_ID(host)
            self._sni = host.encode("idna")

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N802 - Twisted's
        """Return TLS for one new connection that we made."""
        connection = SSL.Connection(self._fresh(), None)
        if self._sni:
            connection.set_tlsext_host_name(self._sni)
        wrapped: Any = protocol.wrappedProtocol
        # Twisted's ClientService stands between us and the connection, and does not say that it listens.
        alsoProvides(wrapped, IHandshakeListener)

        def verify(_connection: SSL.Connection, shown: crypto.X509, doubt: int, depth: int, ok: int) -> bool:
            if ok and depth == 0 and not self._is_named(shown):
                doubt, ok = OTHER_NAME, 0
            if not ok:
                wrapped.doubted(doubt)
            return bool(ok)

        connection.set_verify(SSL.VERIFY_PEER, verify)
        return connection

    def _is_named(self, shown: crypto.X509) -> bool:
        try:
            return bool(verify_service_identity(extract_patterns(shown.to_cryptography()), [self._identity], []))
        except Exception:  # noqa: BLE001 - whatever is wrong with the names in a certificate, they are not the peer's
            return False

    def _made(self) -> Any:
        self._look_at_files()
        context = self._context_of(SSL.TLS_CLIENT_METHOD)
        if self._spec.ca is None:
            context.set_default_verify_paths()
        return context
