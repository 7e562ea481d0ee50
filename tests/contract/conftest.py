"""This module gives contract tests a token endpoint, a client, secrets in the environment, and a store to fill."""

from collections.abc import AsyncIterator

import pytest

from broker.store import Store
from dispatch.http import Exchange
from tests.contract.asking import PEER
from tests.contract.token_server import SECRET, TokenServer
from tests.filling import SEALER, Filling


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


@pytest.fixture
async def filling(laid_urls: str) -> AsyncIterator[Filling]:
    """An open store on each database."""
    store = Store(laid_urls, SEALER, lambda _notice: None)
    await store.open()
    try:
        yield Filling(store, await store.register("adt", "digest-1", "{}", ["prm", "ehr"]))
    finally:
        await store.close()
