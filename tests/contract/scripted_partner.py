"""This module holds an MLLP partner on a real socket that answers, or fails to, exactly as a script says."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from broker.wire.er7 import Message
from broker.wire.mllp import Decoder, Frame, frame

Behaviour = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]
HANG: Final = 30.0


def acknowledgment(code: str, request: bytes, *segments: str, control_id: str | None = None) -> bytes:
    """Return an acknowledgment of a message, with further segments."""
    wanted = Message.parse(request).get("MSH-10") if control_id is None else control_id
    lines = ["MSH|^~\\&|EHR|MERCY|HANDOFF|MERCY|20261128||ACK|A1|P|2.5.1", f"MSA|{code}|{wanted}", *segments, ""]
    return "\r".join(lines).encode()


def answer(code: str, *segments: str, control_id: str | None = None) -> Behaviour:
    """Answer properly."""

    async def behave(writer: asyncio.StreamWriter, request: bytes) -> None:
        writer.write(frame(acknowledgment(code, request, *segments, control_id=control_id)))

    return behave


def raw(data: bytes) -> Behaviour:
    """Answer with bytes as they are."""

    async def behave(writer: asyncio.StreamWriter, _request: bytes) -> None:
        writer.write(data)

    return behave


def both(*behaviours: Behaviour, pause: float = 0.0) -> Behaviour:
    """Do one thing after the other."""

    async def behave(writer: asyncio.StreamWriter, request: bytes) -> None:
        for each in behaviours:
            await each(writer, request)
            await asyncio.sleep(pause)

    return behave


def slow(seconds: float, then: Behaviour) -> Behaviour:
    """Take a while, then go on."""

    async def behave(writer: asyncio.StreamWriter, request: bytes) -> None:
        await asyncio.sleep(seconds)
        await then(writer, request)

    return behave


async def hang(_writer: asyncio.StreamWriter, _request: bytes) -> None:
    """Take the whole message and never answer."""
    await asyncio.sleep(HANG)


async def hang_up(writer: asyncio.StreamWriter, _request: bytes) -> None:
    """Take the whole message, then close without a word."""
    writer.close()


async def reset(writer: asyncio.StreamWriter, _request: bytes) -> None:
    """Take the whole message, then reset the connection."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def truncate(writer: asyncio.StreamWriter, request: bytes) -> None:
    """Begin an answer and end in the middle of it."""
    writer.write(frame(acknowledgment("AA", request))[:-9])
    await writer.drain()
    writer.close()


@dataclass
class ScriptedPartner:
    """Behaves by its script, message by message; the last behaviour repeats."""

    script: list[Behaviour]
    requests: list[bytes] = field(default_factory=list)
    at_once: int = 0  # most messages under way at a time
    connections: int = 0
    port: int = 0
    context: ssl.SSLContext | None = None
    _under_way: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1."""
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", port, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and drop whatever still hangs."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, whoever made it."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        decoder = Decoder(1 << 20)
        try:
            while data := await reader.read(65536):
                for item in decoder.feed(data):
                    if isinstance(item, Frame):
                        await self._take(writer, item.payload)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _take(self, writer: asyncio.StreamWriter, request: bytes) -> None:
        self.requests.append(request)
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)
        try:
            await (self.script.pop(0) if len(self.script) > 1 else self.script[0])(writer, request)
            await writer.drain()
        finally:
            self._under_way -= 1
