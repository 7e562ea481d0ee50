"""This module is the loop's end of a connection to a process of ours that works synchronously (`broker.line`).

Whoever writes to a database works in a process of its own: in a thread it would wait for Python's lock after every
statement, and the loop after every system call, which cost both more time than their work. The process ends when the
engine does, however that ends.
"""

import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from broker.line import BUFFER, Line, cut, pack, work


class Link(asyncio.Protocol):
    """The loop's end. ``on_frame`` takes what comes; ``on_end`` is called once, when the other end has gone."""

    def __init__(self, on_frame: Callable[[Any], None], on_end: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_end = on_end
        self._rest = bytearray()
        self._transport: Any = None
        self._process: asyncio.subprocess.Process | None = None
        self._thread: threading.Thread | None = None
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, target: str, *, inside: bool = False) -> None:
        """Start ``module:function``, called with its `Line`: in a process, or ``inside`` this one in a thread."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * BUFFER)
        ours.setblocking(False)  # noqa: FBT003 - as it is spelt
        if inside:
            self._thread = threading.Thread(target=work, args=(target, Line(theirs)), name=target, daemon=True)
            self._thread.start()
        else:
            with theirs:
                command = (sys.executable, "-P", "-m", "broker.line", target, str(theirs.fileno()))
                self._process = await asyncio.create_subprocess_exec(*command, pass_fds=(theirs.fileno(),))
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take bytes from the other end."""
        self._rest += data
        for value in cut(self._rest):
            self._on_frame(value)

    def connection_lost(self, _error: Exception | None) -> None:
        """Note that the other end has gone."""
        if not self._gone.done():
            self._gone.set_result(None)
            self._on_end()

    def send(self, value: Any) -> None:
        """Write one frame; after the end it is dropped, and ``on_end`` was called."""
        self._transport.write(pack(value))

    async def close(self) -> None:
        """Let the other end finish what was sent, and wait until it has gone."""
        if self._transport is not None:
            if not self._gone.done() and self._transport.can_write_eof():
                with contextlib.suppress(OSError, RuntimeError):
                    self._transport.write_eof()
            await self._gone
            self._transport.close()
        if self._process is not None:
            await self._process.wait()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
