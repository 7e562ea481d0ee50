"""This module shows what an exchange over HTTP sends, at the socket of a server that breaks off."""

import pytest

from broker.delivery import Unknown
from dispatch.http import Answer, Exchange
from tests.contract.scripted_server import Behaviour, ScriptedServer, hang_up, reply, reset

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
