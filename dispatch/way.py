"""This module notes whom an attempt reaches: whether there is a connection, and who is at its other end.

aiohttp tells neither to whoever asks for a URL, and lets go of the connection together with the last byte. So its
connector notes both, the moment it hands a connection out, for the task that asked.
"""

from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from broker.delivery import Outcome, Via

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


def note_via(via: Via | None) -> None:
    """Note whom an attempt has reached, for who watches it."""
    way = CURRENT.get()
    if way is not None and via is not None:
        way.via = via


def address_of(peer: Any) -> str:
    """Return the name of a socket's other end as people write it; nothing where it is no host and port."""
    if not isinstance(peer, tuple):
        return ""
    host = f"[{peer[0]}]" if ":" in str(peer[0]) else peer[0]
    return f"{host}:{peer[1]}"


def via_of(transport: Any) -> Via | None:
    """Return who is at the other end of a transport of asyncio; None when it is gone or does not say."""
    address = address_of(transport.get_extra_info("peername") if transport is not None else None)
    if not address:
        return None
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


async def witnessed(work: Awaitable[Outcome]) -> Outcome:
    """Await an outcome, and add whom the last exchange on the way to it reached, unless it says so itself.

    For a destination that needs several exchanges for one delivery, or classes answers by rules of its own.
    """

    async def only() -> Sequence[Outcome]:
        return [await work]

    return (await witnessed_all(only()))[0]


async def witnessed_all(work: Awaitable[Sequence[Outcome]]) -> Sequence[Outcome]:
    """Do the same for the outcomes of deliveries that went together."""
    way = Way()
    token = CURRENT.set(way)
    try:
        outcomes = await work
    finally:
        CURRENT.reset(token)
    via = way.via
    return [replace(each, via=via) if each.via is None and via is not None else each for each in outcomes]
