"""This module holds every way of authorising to one contract, against a token endpoint that checks what it is given."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from broker.errors import ConfigError
from config.auth import AuthSpec
from dispatch.auth import build_credentials, with_query
from dispatch.http import Exchange
from dispatch.token import TokenCredentials
from tests.contract.asking import PEER, Clock, given, refused, spec
from tests.contract.scripted_server import closed_port
from tests.contract.token_server import CLIENT, TokenServer

pytestmark = pytest.mark.usefixtures("_secrets")


def by_secret(tokens: TokenServer, **options: Any) -> AuthSpec:
    given = {"token_url": tokens.url, "client_id": CLIENT, "client_secret": "${env:CLIENT_SECRET}", **options}
    return spec(client_credentials=given)


# ------------------------------------------------------------------------------------------------ what does not change


@pytest.mark.parametrize(
    ("auth", "headers", "query"),
    [
        ({"bearer": {"token": "${env:TOKEN}"}}, {"Authorization": "Bearer s3cret"}, {}),
        (
            {"basic": {"username": "a/token", "password": "${env:TOKEN}"}},
            {"Authorization": "Basic YS90b2tlbjpzM2NyZXQ="},
            {},
        ),
        ({"api_key": {"header": "Api-Key", "secret": "${env:TOKEN}"}}, {"Api-Key": "s3cret"}, {}),
        (
            {"api_key": {"header": "Authorization", "prefix": "Token token=", "secret": "${env:TOKEN}"}},
            {"Authorization": "Token token=s3cret"},
            {},
        ),
        ({"api_key": {"query": "key", "secret": "${env:TOKEN}"}}, {}, {"key": "s3cret"}),
    ],
)
async def test_what_is_configured_is_sent(
    http: Exchange, auth: dict[str, Any], headers: dict[str, str], query: dict[str, str]
) -> None:
    credentials = build_credentials(spec(**auth), PEER, http)
    assert (await given(credentials), credentials.query, credentials.base) == (headers, query, "")
    credentials.refuse()
    assert await given(credentials) == headers
    assert not credentials.renewable
    assert "s3cret" not in repr(credentials)


async def test_no_auth_sends_nothing(http: Exchange) -> None:
    assert await given(build_credentials(None, PEER, http)) == {}


def test_query_is_added_to_what_is_there() -> None:
    assert with_query("http://h/x", {}) == "http://h/x"
    assert with_query("http://h/x", {"k": "a b"}) == "http://h/x?k=a%20b"
    assert with_query("http://h/x?y=1", {"k": "&"}) == "http://h/x?y=1&k=%26"


async def test_secret_that_no_header_can_hold_is_found_at_once(http: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret\nX-Evil: 1")
    with pytest.raises(ConfigError, match="no header can hold") as caught:
        build_credentials(spec(bearer={"token": "${env:TOKEN}"}), PEER, http)
    assert "s3cret" not in str(caught.value)


# ------------------------------------------------------------------------------------------------- client credentials


@pytest.mark.parametrize("place", ["basic", "body"])
async def test_client_credentials(tokens: TokenServer, http: Exchange, place: str) -> None:
    auth = by_secret(tokens, secret_in=place, scope="a b", audience="x", resource="y", fields={"soid": "1"})
    credentials = build_credentials(auth, PEER, http)
    assert await given(credentials) == {"Authorization": "Bearer token-1"}
    (form,) = tokens.forms
    assert {key: form[key] for key in form if not key.startswith("client")} == {
        "grant_type": "client_credentials",
        "scope": "a b",
        "audience": "x",
        "resource": "y",
        "soid": "1",
    }
    assert ("client_secret" in form) == (place == "body")


async def test_fields_may_name_a_grant_of_the_vendors_own(tokens: TokenServer, http: Exchange) -> None:
    """Zoom calls it account_credentials."""
    auth = by_secret(tokens, fields={"grant_type": "account_credentials", "account_id": "1"}, scheme="Zoho-oauthtoken")
    assert await given(build_credentials(auth, PEER, http)) == {"Authorization": "Zoho-oauthtoken token-1"}
    assert tokens.forms[0]["grant_type"] == "account_credentials"


async def test_address_comes_with_the_token(tokens: TokenServer, http: Exchange) -> None:
    tokens.extra = {"instance_url": "https://acme.my.salesforce.com/"}
    credentials = build_credentials(by_secret(tokens, base_from="instance_url"), PEER, http)
    assert credentials.base == ""
    await given(credentials)
    assert credentials.base == "https://acme.my.salesforce.com"


async def test_address_that_is_none_is_refused(tokens: TokenServer, http: Exchange) -> None:
    tokens.extra = {"instance_url": "javascript:alert(1)"}
    outcome = await refused(build_credentials(by_secret(tokens, base_from="instance_url"), PEER, http))
    assert "no address in instance_url" in outcome.reason


# ----------------------------------------------------------------------------------------------------- keeping a token


def timed(tokens: TokenServer, http: Exchange, clock: Clock) -> TokenCredentials:
    credentials = build_credentials(by_secret(tokens), PEER, http)
    assert isinstance(credentials, TokenCredentials)
    credentials._clock = clock
    return credentials


async def test_token_is_fetched_once_for_all_who_wait(tokens: TokenServer, http: Exchange) -> None:
    credentials = build_credentials(by_secret(tokens), PEER, http)
    found = await asyncio.gather(*(given(credentials) for _ in range(20)))
    assert found == [{"Authorization": "Bearer token-1"}] * 20
    assert tokens.tokens == 1


@pytest.mark.parametrize(("lifetime", "used"), [(300, 240), (100, 80), ("3600", 3540), (None, 10**9), (0, 10**9)])
async def test_token_is_used_until_shortly_before_its_end(
    tokens: TokenServer, http: Exchange, lifetime: Any, used: int
) -> None:
    tokens.expires_in, clock = lifetime, Clock()
    credentials = timed(tokens, http, clock)
    await given(credentials)
    clock.now += used - 1
    assert await given(credentials) == {"Authorization": "Bearer token-1"}
    clock.now += 2
    await given(credentials)
    assert tokens.tokens == (1 if used == 10**9 else 2)


async def test_token_that_was_refused_is_fetched_again_and_once(tokens: TokenServer, http: Exchange) -> None:
    credentials = build_credentials(by_secret(tokens), PEER, http)
    first = await given(credentials)
    credentials.refuse(first)
    second = await given(credentials)
    credentials.refuse(first)  # another task, whose request was under way with the old one
    assert await given(credentials) == second == {"Authorization": "Bearer token-2"}
    credentials.refuse()
    assert await given(credentials) == {"Authorization": "Bearer token-3"}
    assert credentials.renewable


async def test_endpoint_that_refuses_is_asked_once_a_minute(tokens: TokenServer, http: Exchange) -> None:
    clock = Clock()
    credentials = timed(tokens, http, clock)
    tokens.answer = said({"error": "invalid_client", "error_description": "Okafor s3cret"}, 401)
    outcome = await refused(credentials)
    assert "refused: HTTP 401, invalid_client" in outcome.reason
    assert outcome.after == 60
    clock.now += 30
    assert (await refused(credentials)).after == pytest.approx(30)
    assert len(tokens.forms) == 1
    tokens.answer = None
    clock.now += 31
    assert await given(credentials) == {"Authorization": "Bearer token-1"}


def said(body: Any, status: int = 200, **headers: str) -> Any:
    async def answer(_request: web.Request) -> web.StreamResponse:
        text = body if isinstance(body, str) else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(text=text, status=status, content_type="application/json", headers=named)

    return answer


@pytest.mark.parametrize(
    ("answer", "words", "after"),
    [
        (said({"error": "invalid_code"}), "refused: HTTP 200, invalid_code", 60),
        (said({"error": {"Okafor": 1}}), "refused: HTTP 200, an error that is no code", 60),
        (said({"error": "unauthorized_client"}, 400), "refused: HTTP 400, unauthorized_client", 60),
        (said("<html>Okafor</html>"), "answered 200 without a token", 60),
        (said([]), "answered 200 without a token", 60),
        (said({"access_token": "a\nb"}), "answered 200 without a token", 60),
        (said("", 302, Location="https://evil.example/"), "refused: HTTP 302", 60),
        (said("", 500), "cannot answer now: HTTP 500", 5),
        (said({"error": "temporarily_unavailable"}, 400), "cannot answer now: HTTP 400, temporarily_unavailable", 5),
        (said("", 429, Retry_After="17"), "cannot answer now: HTTP 429", 17),
    ],
)
async def test_endpoint_without_a_token_lets_deliveries_wait(
    tokens: TokenServer, http: Exchange, answer: Any, words: str, after: float
) -> None:
    tokens.answer = answer
    outcome = await refused(build_credentials(by_secret(tokens), PEER, http))
    assert words in outcome.reason
    assert outcome.after == after


async def test_endpoint_that_cannot_be_reached_lets_deliveries_wait(tokens: TokenServer, http: Exchange) -> None:
    auth = by_secret(tokens, token_url=f"http://127.0.0.1:{closed_port()}/token")
    assert "no token (the connection was refused)" in (await refused(build_credentials(auth, PEER, http))).reason


async def test_endpoint_that_hangs_lets_deliveries_wait(tokens: TokenServer) -> None:
    async def hang(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    tokens.answer = hang
    exchange = Exchange(PEER, timeout=0.1)
    await exchange.open()
    outcome = await refused(build_credentials(by_secret(tokens), PEER, exchange))
    await exchange.close()
    assert "no complete answer" in outcome.reason
