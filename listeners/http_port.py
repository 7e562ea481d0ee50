"""This module is a TCP port that speaks HTTP: channels share it by their paths, and the last one to stop closes it."""

import asyncio
import logging
import socket
from asyncio import Server, Task
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from cryptography import x509
from uvicorn.config import Config
from uvicorn.server import ServerState

from broker.errors import NotReady
from broker.handshake import TlsServer
from broker.notices import Bug, CertificateTrouble, ConnectionRefused, HandshakeFailed, Notice, PeerRefused
from listeners.http_connection import LARGEST_HEAD, MOST_HEADERS, Bounds, Connection
from listeners.http_request import RETRY_AFTER, Answer, Refusal, Request, problem
from listeners.http_tls import HttpCertificates
from listeners.tls import TlsSpec, names_of

_BACKLOG: Final = 512
_STOP_WITHIN: Final = 10.0  # seconds for what was accepted before a stop to be committed and answered
_BUFFERED: Final = 64 * 1024**2  # bytes of bodies that one port holds at a time
_STREAMED: Final = frozenset({"host", "content-type", "content-length", "authorization", "transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PortOptions:
    """What all channels of one port must say alike."""

    endpoint: str
    tls: TlsSpec | None
    connections: int
    bounds: Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What one channel serves on a port: everything below ``path``, or the path alone."""

    channel: str
    path: str
    below: bool
    largest: int  # bytes of a body
    where: str  # the place in the configuration: channel adt: listen.http
    notify: Callable[[Notice], None]
    serve: Callable[[Request], Awaitable[Answer]]


class HttpPort:
    """One port, with the channels on it."""

    def __init__(self, options: PortOptions) -> None:
        self.bounds = options.bounds
        self.options = options
        self.routes: dict[str, Route] = {}
        self.open: set[Connection] = set()
        self._buffered = 0
        self._server: Server | TlsServer | None = None
        self._tasks: set[Task[None]] = set()
        self._state = ServerState()
        self._state.tasks = self._tasks
        self._config = Config(
            self._answer,
            lifespan="off",
            http="httptools",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who calls is who is connected
            interface="asgi3",
            timeout_keep_alive=int(max(options.bounds.idle, 1)),
        )

    @property
    def largest(self) -> int:
        """The most bytes that a body may have at any path."""
        return max((route.largest for route in self.routes.values()), default=0)

    @property
    def address(self) -> str:
        """Where it really listens, as host:port; nothing while it does not."""
        if self._server is None or not self._server.sockets:
            return ""
        return f"{self.options.endpoint.rpartition(':')[0]}:{self._server.sockets[0].getsockname()[1]}"

    async def start(self, route: Route) -> None:
        """Take the port. Raises `NotReady` when that is not possible."""
        # What goes wrong in a request is reported as a notice; a traceback in a log could show patient data.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        host, _, port = self.options.endpoint.rpartition(":")
        tls = self._tls(route)
        self._config.load()
        try:
            await self._listen(host.strip("[]"), int(port), tls)
        except OSError as error:
            why = (error.strerror or "the address cannot be used").lower()
            text = f"{route.where}: cannot listen on {self.options.endpoint} ({why})"
            raise NotReady(f"{text}; end the program that has it, or change the endpoint") from None

    async def _listen(self, host: str, port: int, tls: Any) -> None:
        if tls is not None:
            self._server = TlsServer(tls, self._connection, self._no_tls)
            await self._server.open(host, port, _BACKLOG)
        else:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._connection, host, port, backlog=_BACKLOG)

    def _connection(self) -> Connection:
        return Connection(self, self._config, self._state)

    def _no_tls(self, peer: str, reason: str) -> None:
        for route in list(self.routes.values())[:1]:
            route.notify(HandshakeFailed(channel=route.channel, peer=peer, reason=reason))

    def _tls(self, route: Route) -> Any:
        if self.options.tls is None:
            return None

        def trouble(reason: str) -> None:
            route.notify(CertificateTrouble(channel=route.channel, reason=reason))

        return HttpCertificates(self.options.tls, f"{route.where}.tls", trouble).context()

    async def stop(self) -> None:
        """Take nothing more, answer what was begun, and close; at most 10 seconds."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in list(self.open):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_WITHIN):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        for connection in list(self.open):
            connection.abort()

    def admits(self, connection: Connection) -> bool:
        """Count a connection, or say that it is turned away: the listener stops, or there are as many as may be."""
        route = next(iter(self.routes.values()), None)
        if self._server is None or route is None:
            return False
        if len(self.open) >= self.options.connections:
            limit = self.options.connections
            route.notify(ConnectionRefused(channel=route.channel, peer=connection.peer, limit=limit))
            return False
        self.open.add(connection)
        sock = connection.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return True

    def closed(self, connection: Connection) -> None:
        """Count a connection no more."""
        self.open.discard(connection)

    def complain(self, peer: str, status: int, reason: str) -> None:
        """Tell of a request that could not be read, and so belongs to no channel more than to another."""
        for route in list(self.routes.values())[:1]:
            route.notify(PeerRefused(channel=route.channel, peer=peer, reason=f"{reason} ({status})"))

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        held = _Held(self)
        try:
            answer = await self._served(scope, receive, held)
        except _Gone:
            return
        finally:
            self._buffered -= held.size
        headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
        if answer.body:
            headers.append((b"content-type", answer.content_type.encode()))
        if answer.status != 204:  # noqa: PLR2004 - No Content has no length either (RFC 9110, 8.6)
            headers.append((b"content-length", str(len(answer.body)).encode()))
        headers += [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    async def _served(self, scope: Any, receive: Any, held: "_Held") -> Answer:
        connection: Connection = scope["state"]["connection"]
        route: Route | None = None
        try:
            headers = _headers(scope["headers"])
            route = self._route(scope["path"])
            request = Request(
                method=scope["method"],
                path=scope["path"],
                rest=scope["path"][len(route.path) :],
                query=scope["query_string"].decode("latin-1"),
                headers=headers,
                peer=connection.peer,
                certificate=_names(connection.certificate),
                read=lambda largest, seconds: held.read(receive, largest, seconds),
            )
            return await route.serve(request)
        except Refusal as refusal:
            self.complain(connection.peer, refusal.status, str(refusal))
            return problem(refusal)
        except (_Gone, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - the last resort of every request; its text may hold patient data
            told = route or next(iter(self.routes.values()))
            told.notify(Bug(where=told.where, error=type(error).__name__))
            failed = "we failed on this request; the engine's log names the error"
            return problem(Refusal(500, failed, headers={"retry-after": RETRY_AFTER}))

    def _route(self, path: str) -> Route:
        """Return what serves a path: the longest that fits. Raises `Refusal` (404)."""
        fits = [
            route
            for route in self.routes.values()
            if path == route.path or (route.below and path.startswith(route.path.rstrip("/") + "/"))
        ]
        if not fits:
            raise Refusal(404, "nothing is served at this path; compare it with the path of the channel")
        return max(fits, key=lambda route: len(route.path))

    def hold(self, size: int) -> None:
        """Count bytes of bodies; raise `Refusal` (503) where they are too many at a time."""
        if self._buffered + size > _BUFFERED:
            text = "too many large requests at a time; send it again later"
            raise Refusal(503, text, headers={"retry-after": RETRY_AFTER})
        self._buffered += size


class _Gone(Exception):
    """The peer went away before its request was whole."""


class _Held:
    """What one request holds of the memory for bodies."""

    def __init__(self, port: HttpPort) -> None:
        self._port = port
        self.size = 0

    async def read(self, receive: Any, largest: int, seconds: float) -> bytes:
        """Return the body; see `Request.body`."""
        data, more = bytearray(), True
        try:
            async with asyncio.timeout(seconds):
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _Gone
                    piece = message["body"]
                    if len(data) + len(piece) > largest:
                        raise Refusal(413, f"the body has more than {largest} bytes; send it in parts")
                    self._port.hold(len(piece))
                    self.size += len(piece)
                    data += piece
                    more = message["more_body"]
        except TimeoutError:
            text = f"the body did not come within {seconds:g} seconds; send it again"
            raise Refusal(408, text, headers={"connection": "close"}) from None
        return bytes(data)


def _headers(given: list[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Return the headers by name; raise `Refusal` for what two readers could take in two ways."""
    size = sum(len(name) + len(value) for name, value in given)
    if size > LARGEST_HEAD or len(given) > MOST_HEADERS:
        raise Refusal(431, "the headers are too many or too large")
    found: dict[str, str] = {}
    for raw, value in given:
        name = raw.decode("latin-1")
        if name in found and name in _STREAMED:
            raise Refusal(400, f"the header {name} is there twice", headers={"connection": "close"})
        text = value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    if "transfer-encoding" in found and ("content-length" in found or found["transfer-encoding"].lower() != "chunked"):
        raise Refusal(400, "the length of the body is not clear", headers={"connection": "close"})
    return found


@lru_cache(maxsize=256)
def _names(der: bytes) -> tuple[str, ...]:
    """Return the names in a peer's certificate, which is the same with each of its requests."""
    return names_of(x509.load_der_x509_certificate(der)) if der else ()


# A port belongs to the process, and so does the table of those that are open: channels of the same endpoint share one.
_OPEN: Final[dict[str, HttpPort]] = {}
_LOCK: Final = asyncio.Lock()


async def join(options: PortOptions, route: Route) -> HttpPort:
    """Serve a route on the port of its endpoint, which is opened where it is not yet.

    Raises `NotReady` where the port cannot be had, or has the path or other options already.
    """
    async with _LOCK:
        port = _OPEN.get(options.endpoint)
        if port is None:
            port = HttpPort(options)
            port.routes[route.path] = route
            await port.start(route)
            if not options.endpoint.endswith(":0"):
                _OPEN[options.endpoint] = port
            return port
        if port.options != options:
            text = (
                f"{route.where}: another channel on {options.endpoint} says otherwise in tls, connections, or deadlines"
            )
            raise NotReady(f"{text}; let them say the same, or choose another port")
        if route.path in port.routes:
            text = f"{route.where}.path: channel {port.routes[route.path].channel} serves {route.path} there already"
            raise NotReady(f"{text}; choose another path")
        port.routes[route.path] = route
        return port


async def leave(port: HttpPort, route: Route) -> None:
    """Serve a route no more; the last one closes the port."""
    async with _LOCK:
        if len(port.routes) > 1:
            port.routes.pop(route.path, None)
            return
        _OPEN.pop(port.options.endpoint, None)
        await port.stop()
        port.routes.clear()
