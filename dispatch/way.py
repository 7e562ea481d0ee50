"""This module watches which connection an exchange gets: whether it has one, and who is at its other end.

aiohttp tells neither to whoever asks for a URL, and lets go of the connection together with the last byte. So its
connector notes both, the moment it hands a connection out, for the task that asked.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from broker.delivery import Via

if TYPE_CHECKING:
    import aiohttp

_LONGEST: Final = 512  # characters of a certificate's subject that are kept


@dataclass(slots=True)
class Way:
    """How far an exchange came; once it is connected, bytes of the request may have left us."""

    is_connected: bool = False
    via: Via | None = None


CURRENT: Final[ContextVar[Way | None]] = ContextVar("way", default=None)


def make_connector(*, limit: int, force_close: bool) -> "aiohttp.TCPConnector":
    """Return a connector that notes in `CURRENT` what it hands out."""
    return _connector()(limit=limit, force_close=force_close)


@lru_cache(maxsize=1)
def _connector() -> "type[aiohttp.TCPConnector]":
    import aiohttp  # noqa: PLC0415 - costs 200 ms, which reading a channel file must not

    class Connector(aiohttp.TCPConnector):
        async def connect(
            self,
            req: "aiohttp.ClientRequest",
            traces: Any,
            timeout: "aiohttp.ClientTimeout",  # noqa: ASYNC109 - aiohttp's signature
        ) -> "aiohttp.connector.Connection":
            connection = await super().connect(req, traces, timeout)
            way = CURRENT.get()
            if way is not None:
                way.is_connected = True
                way.via = via_of(connection.transport)
            return connection

    return Connector


def via_of(transport: Any) -> Via | None:
    """Return who is at the other end of a transport of asyncio; None when it is gone or does not say."""
    peer = transport.get_extra_info("peername") if transport is not None else None
    if not isinstance(peer, tuple):
        return None
    host = f"[{peer[0]}]" if ":" in str(peer[0]) else peer[0]
    address = f"{host}:{peer[1]}"
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        return Via(address)
    certificate = tls.getpeercert(binary_form=True)
    subject, digest = _of_certificate(certificate) if certificate else ("", "")
    return Via(address, str(tls.version() or ""), subject, digest)


@lru_cache(maxsize=256)
def _of_certificate(data: bytes) -> tuple[str, str]:
    """Return subject and fingerprint of a certificate (DER); the same few are shown again and again."""
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415 - only where TLS is used

    try:
        subject = load_der_x509_certificate(data).subject.rfc4514_string()
    except ValueError:  # TLS took it, whatever it holds; the fingerprint says which it was
        subject = ""
    return subject[:_LONGEST], sha256(data).hexdigest()
