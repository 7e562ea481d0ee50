"""This module notes whom an attempt reaches: whether there is a connection, and who is at its other end.

aiohttp tells neither to whoever asks for a URL, and lets go of the connection together with the last byte. So its
connector notes both, the moment it hands a connection out, for the task that asked.
"""

import asyncio
import select
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakKeyDictionary

from broker.delivery import Outcome, Via

if TYPE_CHECKING:
    import aiohttp

_LONGEST: Final = 512  # characters of a certificate's subject that are kept


@dataclass(slots=True)
class Way:
    """How far an exchange came; once it is connected, bytes of the request may have left us.

    Inside ``with`` it is the one in `CURRENT`: what goes on there is noted in it.
    """

    is_connected: bool = False
    via: Via | None = None
    _token: "Token[Way | None] | None" = field(default=None, init=False, repr=False)

    def __enter__(self) -> Self:
        """Let what is reached from now on be noted here."""
        self._token = CURRENT.set(self)
        return self

    def __exit__(self, *_error: object) -> None:
        """Let it be noted where it was before."""
        if self._token is not None:
            CURRENT.reset(self._token)


CURRENT: Final[ContextVar[Way | None]] = ContextVar("way", default=None)


def make_connector(*, limit: int, force_close: bool) -> "aiohttp.TCPConnector":
    """Return a connector that notes in `CURRENT` what it hands out.

    A kept connection that the other side has closed is not handed out, even if the loop has not seen that yet.
    """
    return _connector()(limit=limit, force_close=force_close)


@lru_cache(maxsize=1)
def _connector() -> "type[aiohttp.TCPConnector]":
    import aiohttp  # noqa: PLC0415 - costs 200 ms, which reading a channel file must not

    class Connector(aiohttp.TCPConnector):
        def __init__(self, *, limit: int, force_close: bool) -> None:
            super().__init__(limit=limit, force_close=force_close)
            # What is asked of a connection for each request does not change, and asking costs more than keeping it.
            self._known: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()

        async def connect(
            self,
            req: "aiohttp.ClientRequest",
            traces: Any,
            timeout: "aiohttp.ClientTimeout",  # noqa: ASYNC109 - aiohttp's signature
        ) -> "aiohttp.connector.Connection":
            connection = await super().connect(req, traces, timeout)
            while (known := self._known.get(connection.protocol)) is not None:  # it was kept
                if not known.may_have_news() or await _outlives_news(connection):
                    break
                connection = await super().connect(req, traces, timeout)
            else:
                known = self._known[connection.protocol] = _Known(connection.transport)
            way = CURRENT.get()
            if way is not None:
                way.is_connected = True
                way.via = known.via
            return connection

    return Connector


class _Known:
    """What is known of a connection: whom it reaches, and where to look for what nobody has read yet."""

    __slots__ = ("_look", "via")

    def __init__(self, transport: Any) -> None:
        self.via = via_of(transport)
        socket = transport.get_extra_info("socket") if transport is not None else None
        self._look = select.poll()
        if socket is not None:
            self._look.register(socket.fileno(), select.POLLIN)

    def may_have_news(self) -> bool:
        """Say whether something came, or its end, that nobody has acted on.

        TLS may have read its end already and not told it, so there one cannot know.
        """
        return bool((self.via is not None and self.via.tls) or self._look.poll(0))


async def _outlives_news(connection: "aiohttp.connector.Connection") -> bool:
    """Let the loop take what came on a connection, mostly its end; say whether it is still there, else close it."""
    try:
        await asyncio.sleep(0)  # one turn to read that …
        await asyncio.sleep(0)  # … and one to act on it
    except BaseException:
        connection.close()
        raise
    if connection.protocol is not None and connection.protocol.is_connected():
        return True
    connection.close()
    return False


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
    with Way() as way:
        outcome = await work
    return _told(outcome, way.via)


async def witnessed_all(work: Awaitable[Sequence[Outcome]]) -> Sequence[Outcome]:
    """Do the same for the outcomes of deliveries that went together."""
    with Way() as way:
        outcomes = await work
    return [_told(each, way.via) for each in outcomes]


def _told(outcome: Outcome, via: Via | None) -> Outcome:
    return outcome if via is None or outcome.via is not None else replace(outcome, via=via)
