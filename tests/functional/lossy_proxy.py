"""This module passes HTTP requests on to a server and loses answers: the worst that can happen to a write."""

import asyncio
import contextlib
from typing import Self

_END = b"\r\n\r\n"


class LossyProxy:
    """Takes one request a connection; of a method in ``loses`` the server's answer is read and thrown away."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self.loses: dict[str, int] = {}
        self.base = ""
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the port."""
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._pass_on(reader, writer)
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(_END)
        first, *lines = head.removesuffix(_END).split(b"\r\n")
        kept = [line for line in lines if not line.lower().startswith(b"connection:")]
        lengths = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")]
        body = await reader.readexactly(lengths[0] if lengths else 0)
        theirs, ours = await asyncio.open_connection(*self._target)
        ours.write(b"\r\n".join([first, *kept, b"Connection: close"]) + _END + body)
        answer = await theirs.read(-1)  # the server has done it now
        ours.close()
        method = first.split(b" ")[0].decode()
        if self.loses.get(method, 0):
            self.loses[method] -= 1
            return
        writer.write(answer)
        await writer.drain()
