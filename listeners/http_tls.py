"""This module is TLS for listeners over HTTP: as `listeners.tls` has it, with a context that asyncio takes."""

import ssl
from typing import Any, Final

from listeners.tls import Certificates

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


class HttpCertificates(Certificates):
    """Our certificate, key, and those who vouch for peers; read again when a file has changed."""

    def context(self) -> ssl.SSLContext:
        """Read the files, and return what takes connections in. Raises `NotReady` when they cannot be used."""
        self.load()
        context: ssl.SSLContext = self._context
        # It is called for every handshake, whether the peer names a host or not.
        context.sni_callback = self._choose
        return context

    def _choose(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._fresh()

    def _made(self) -> ssl.SSLContext:
        spec = self._spec
        self._look_at_files()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        context.set_ciphers(_CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        try:
            if spec.certificate is not None and spec.key is not None:
                context.load_cert_chain(spec.certificate, spec.key)
            if spec.ca is not None:
                context.load_verify_locations(spec.ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except ssl.SSLError:
            raise self._unusable() from None
        return context
