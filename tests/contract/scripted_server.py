"""This module holds an HTTP server on a real socket that answers, or fails to, exactly as a script says."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]

_REASONS = {200: "OK", 201: "Created", 302: "Found", 400: "Bad Request", 429: "Too Many Requests"}


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def head(status: int, headers: dict[str, str], length: int) -> bytes:
    """Return a status line and headers."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Whatever')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def reply(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Answer properly; header names are given with ``_`` for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(head(status, named, len(body)) + body)
        await writer.drain()

    return answer


def slow(seconds: float, then: Behaviour) -> Behaviour:
    """Take a while, then go on."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await then(writer)

    return answer


async def hang(_writer: asyncio.StreamWriter) -> None:
    """Take the whole request and never answer."""
    await asyncio.Event().wait()


async def hang_after_headers(writer: asyncio.StreamWriter) -> None:
    """Begin a success and never finish it."""
    writer.write(head(201, {"Content-Type": "application/json"}, 400) + b'{"sid":')
    await writer.drain()
    await asyncio.Event().wait()


async def reset(writer: asyncio.StreamWriter) -> None:
    """Take the whole request, then reset the connection."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Take the whole request, then close without a word."""
    writer.close()


async def truncated(writer: asyncio.StreamWriter) -> None:
    """Announce more body than is sent, then close."""
    writer.write(head(201, {"Content-Type": "application/json"}, 400) + b'{"sid":"SM00000000000000')
    await writer.drain()
    writer.close()


async def nonsense(writer: asyncio.StreamWriter) -> None:
    """Answer with something that is not HTTP."""
    writer.write(b"\x0bMSH|^~\\&|\x1c\r" * 4)
    await writer.drain()
    writer.close()


async def endless(writer: asyncio.StreamWriter) -> None:
    """Answer with more than anybody should read."""
    writer.write(head(200, {"Content-Type": "application/json"}, 64 * 1024 * 1024))
    with contextlib.suppress(ConnectionError):
        for _ in range(1024):
            writer.write(b" " * 65536)
            await writer.drain()


@dataclass
class ScriptedServer:
    """Answers each method by its own script; the last behaviour of a script repeats."""

    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    scripts: dict[str, list[Behaviour]] = field(default_factory=lambda: defaultdict(list))
    base: str = ""
    context: ssl.SSLContext | None = None  # TLS, where it speaks that
    callers: list[str] = field(default_factory=list)  # common names of the certificates that were shown, by connection
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def on(self, method: str, *behaviours: Behaviour) -> None:
        """Set what a method is answered with, one behaviour after the other."""
        self.scripts[method] = list(behaviours)

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.base = f"http{'s' if self.context else ''}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Close the port and drop whatever still hangs."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def choose(self, request: Request) -> Behaviour:
        """Return how a request is answered."""
        script = self.scripts[request.method]
        return script.pop(0) if len(script) > 1 else script[0]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        shown = writer.get_extra_info("peercert") or {}
        self.callers += [value for each in shown.get("subject", ()) for name, value in each if name == "commonName"]
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                await self.choose(request)(writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        top = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *rest = top.decode("latin-1").rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)


def closed_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def full_port() -> Iterator[int]:
    """Give a port whose backlog is full: the connection is never made, so nothing can have been sent."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = int(full.getsockname()[1])
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        yield port
