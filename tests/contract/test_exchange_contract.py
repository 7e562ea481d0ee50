"""This module shows what an exchange over HTTP sends, at the socket of a server that breaks off, and what it keeps."""

import io

import pytest

from broker.delivery import Unknown
from dispatch.http import Answer, Exchange, Into
from tests.contract.scripted_server import Behaviour, ScriptedServer, hang_up, reply, reset, truncated

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
