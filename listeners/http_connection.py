"""This module is one connection over HTTP: uvicorn's parser within our bounds on size, time and number.

What a proxy may take otherwise than we do ends the connection with 400: a length given twice, a length beside chunks,
names with blanks, lines without CR (RFC 9112, 6.3 and 11.2).
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from typing import Protocol as Shape

import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from asyncio import TimerHandle

LARGEST_HEAD: Final = 32 * 1024  # bytes of a request's first line and headers
MOST_HEADERS: Final = 100
_LINGER: Final = 2.0  # seconds in which a peer may read an answer that came before its body had ended
_LEFT_OVER: Final = 1024**2  # bytes of such a body that are passed over
_OVERHEAD: Final = 4  # bytes on the wire for each byte of a body: chunks of one byte cost six


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection may take: seconds for a head, and seconds of silence between requests."""

    head: float
    idle: float


class Home(Shape):
    """What a connection needs of its port."""

    bounds: Bounds

    @property
    def largest(self) -> int:
        """The most bytes that a body may have."""

    def admits(self, connection: "Connection") -> bool:
        """Count a connection, or say that it is turned away."""

    def closed(self, connection: "Connection") -> None:
        """Count a connection no more."""

    def complain(self, peer: str, status: int, reason: str) -> None:
        """Tell of a request that could not be read."""


class Connection(HttpToolsProtocol):
    """One connection of one peer."""

    # uvicorn gives these a type before it gives them a value.
    cycle: Any
    transport: Any
    client: Any

    def __init__(self, home: Home, config: Config, state: ServerState) -> None:
        super().__init__(config, state, {"connection": self})
        self._home = home
        self._raw = 0  # bytes since the present request began
        self._in_head = True
        self._timer: TimerHandle | None = None
        self._ended = False

    @property
    def peer(self) -> str:
        """Who is at the other end, as host:port."""
        return "{}:{}".format(*(self.client or ("?", 0)))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or turn the peer away."""
        super().connection_made(transport)
        if not self._home.admits(self):
            self._ended = True
            transport.abort()
            return
        self._within(self._home.bounds.head, 408, "the head of a request did not come in time")

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        self._stop_timer()
        self._ended = True
        self._home.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what was read, and see that it stays within bounds."""
        if self._ended:
            return
        self._raw += len(data)
        if self._in_head and self._raw == len(data):
            self._within(self._home.bounds.head, 408, "the head of a request did not come in time")
        super().data_received(data)
        if self._is_over():
            return
        if self._in_head and self._raw > LARGEST_HEAD:
            self.refuse(431, f"the head of a request has more than {LARGEST_HEAD} bytes")
        elif self._raw > self._most():
            self.refuse(413, "a request takes more bytes than its body may have")

    def _is_over(self) -> bool:
        return self._ended

    def _most(self) -> int:
        if self.cycle is not None and self.cycle.response_complete and self.cycle.more_body:
            return _LEFT_OVER
        return LARGEST_HEAD * 2 + self._home.largest * _OVERHEAD

    def on_headers_complete(self) -> None:
        """Let the request begin."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that a request has come whole."""
        self._in_head, self._raw = True, 0
        self._stop_timer()
        super().on_message_complete()
        self.cycle.more_body = False

    def on_response_complete(self) -> None:
        """Wait for the next request; where the answer came before the body's end, not for long."""
        super().on_response_complete()
        if not self.transport.is_closing() and self.cycle.more_body:
            self._stop_timer()
            self._timer = self.loop.call_later(_LINGER, self.transport.close)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words; the reason is ours
        """Answer what is no HTTP, or could be read in two ways."""
        self.refuse(400, "this is no HTTP request that has one meaning")

    def refuse(self, status: int, reason: str) -> None:
        """Answer once, and close."""
        if self._ended or self.transport is None or self.transport.is_closing():
            return
        self._ended = True
        self._stop_timer()
        self._home.complain(self.peer, status, reason)
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = orjson.dumps({"status": status, "detail": reason})
            head = b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head % len(body) + body)
        self.transport.close()

    def _within(self, seconds: float, status: int, reason: str) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.refuse, status, reason)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def certificate(self) -> bytes:
        """The certificate (DER) that the peer showed, or nothing."""
        tls: Any = self.transport.get_extra_info("ssl_object")
        return (tls.getpeercert(binary_form=True) or b"") if tls is not None else b""

    def abort(self) -> None:
        """Cut the connection off."""
        if self.transport is not None:
            self.transport.abort()
