"""This module shows what an exchange over HTTP sends, at the socket of a server that breaks off, and what it keeps."""

import io
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from broker.delivery import Unknown
from dispatch.http import Answer, Exchange, Into
from tests.contract.scripted_server import (
    Behaviour,
    ScriptedServer,
    hang,
    hang_after_headers,
    hang_up,
    reply,
    reset,
    slow,
    truncated,
)

METHODS = ["GET", "PUT", "DELETE", "POST", "PATCH"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("broken", [hang_up, reset])
async def test_request_is_sent_once_when_a_kept_connection_breaks(method: str, broken: Behaviour) -> None:
    server = ScriptedServer()
    await server.start()
    server.on(method, reply(200), broken, reply(200))
    exchange = Exchange("system test", timeout=2, reuse=True)
    await exchange.open()
    try:
        first = await exchange.exchange(method, server.base)
        assert isinstance(first, Answer)
        broke = await exchange.exchange(method, server.base, body=b"" if method == "GET" else b"x")
        assert len(server.requests) == 2, "a request that no attempt tells of"
        assert isinstance(broke, Unknown)
        assert server.connections == 1
        third = await exchange.exchange(method, server.base)
        assert isinstance(third, Answer)
    finally:
        await exchange.close()
        await server.stop()


async def test_each_request_has_its_own_time_and_its_connection_goes_with_it() -> None:
    server = ScriptedServer()
    await server.start()
    server.on("GET", hang, hang_after_headers, slow(0.15, reply(200)), reply(200))
    exchange = Exchange("system test", timeout=0.3, reuse=True)
    await exchange.open()
    try:
        for _ in range(2):
            over = await exchange.exchange("GET", server.base)
            assert isinstance(over, Unknown)
            assert over.reason == "system test: no complete answer within the time allowed"
            assert over.via is not None
        for _ in range(2):  # the timer of those before must not end these
            assert isinstance(await exchange.exchange("GET", server.base), Answer)
        assert server.connections == 3
    finally:
        await exchange.close()
        await server.stop()


async def test_body_goes_into_a_file_where_that_is_asked_for() -> None:
    server = ScriptedServer()
    await server.start()
    server.on("GET", reply(200, b"x" * 100_000), reply(404, b"no"), reply(200, b"x" * 6), truncated)
    exchange = Exchange("system test", timeout=2, cap=10)
    await exchange.open()
    try:
        file = io.BytesIO()
        whole = await exchange.exchange("GET", server.base, into=Into(file, 100_000))
        assert (isinstance(whole, Answer) and whole.body, file.getvalue()) == (b"", b"x" * 100_000)
        refused = await exchange.exchange("GET", server.base, into=Into(file, 5))
        assert isinstance(refused, Answer)
        assert refused.body == b"no"
        large = await exchange.exchange("GET", server.base, into=Into(file, 5))
        assert isinstance(large, Unknown)
        assert "more than 5 bytes" in large.reason
        broken = await exchange.exchange("GET", server.base, into=Into(file, 5000))
        assert isinstance(broken, Unknown)
        assert len(file.getvalue()) < 100_100
    finally:
        await exchange.close()
        await server.stop()


class ClosingServer(threading.Thread):
    """Answers one request on each connection, beside the loop, and closes that when it is told to."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.base = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.closes = threading.Event()
        self.connections = 0

    def run(self) -> None:
        """Serve two connections."""
        for _ in range(2):
            connection, _ = self._listening.accept()
            self.connections += 1
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                self.closes.wait(5)

    def stop(self) -> None:
        """End."""
        self.closes.set()
        self.join(5)
        self._listening.close()


@pytest.fixture
def closing() -> Iterator[ClosingServer]:
    """A server that closes a kept connection while the loop is busy."""
    server = ClosingServer()
    server.start()
    yield server
    server.stop()


async def test_connection_that_was_closed_while_the_loop_was_busy_is_not_used(closing: ClosingServer) -> None:
    exchange = Exchange("system test", timeout=2, reuse=True)
    await exchange.open()
    try:
        assert isinstance(await exchange.exchange("GET", closing.base), Answer)
        closing.closes.set()
        time.sleep(0.1)  # noqa: ASYNC251 - the loop must not see the end
        assert isinstance(await exchange.exchange("GET", closing.base), Answer)
        assert closing.connections == 2
    finally:
        await exchange.close()
