"""This module gives the tests of credentials a token endpoint, a client, and secrets in the environment."""

from collections.abc import AsyncIterator

import pytest

from dispatch.http import Exchange
from tests.contract.asking import PEER
from tests.contract.token_server import SECRET, TokenServer


@pytest.fixture
async def tokens() -> AsyncIterator[TokenServer]:
    """A token endpoint."""
    server = TokenServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def http() -> AsyncIterator[Exchange]:
    """The connections of a destination."""
    exchange = Exchange(PEER, timeout=2)
    await exchange.open()
    yield exchange
    await exchange.close()


@pytest.fixture
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", SECRET)
    monkeypatch.setenv("REFRESH", "refresh-0")
    monkeypatch.setenv("TOKEN", "s3cret")
