"""This module holds every way of authorising to one contract, against a token endpoint that checks what it is given."""

import asyncio
import json
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from broker.delivery import Retry
from broker.errors import ConfigError
from config.auth import AuthSpec
from dispatch import key_folder
from dispatch.auth import Credentials, build_credentials, with_query
from dispatch.http import Exchange
from dispatch.signing import make_key
from dispatch.token import TokenCredentials
from tests.contract.scripted_server import closed_port
from tests.contract.token_server import CLIENT, SECRET, TokenServer

PEER = "server ehr"
TOLD = ("s3cret", "Okafor", "token-", "refresh-0", CLIENT)  # what no reason may repeat


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    server = TokenServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def http() -> AsyncIterator[Exchange]:
    exchange = Exchange(PEER, timeout=2)
    await exchange.open()
    yield exchange
    await exchange.close()


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", SECRET)
    monkeypatch.setenv("REFRESH", "refresh-0")
    monkeypatch.setenv("TOKEN", "s3cret")


def spec(**auth: Any) -> AuthSpec:
    return AuthSpec.model_validate_json(json.dumps(auth), strict=True)


def by_secret(server: TokenServer, **options: Any) -> AuthSpec:
    given = {"token_url": server.url, "client_id": CLIENT, "client_secret": "${env:CLIENT_SECRET}", **options}
    return spec(client_credentials=given)


def refreshing(server: TokenServer, **options: Any) -> AuthSpec:
    given = {"token_url": server.url, "client_id": CLIENT, "client_secret": "${env:CLIENT_SECRET}"}
    return spec(refresh_token={**given, "token": "${env:REFRESH}", **options})


async def given(credentials: Credentials) -> dict[str, str]:
    headers = await credentials.headers()
    assert not isinstance(headers, Retry), headers
    return dict(headers)  # type: ignore[arg-type]  # an Unknown would fail here


async def refused(credentials: Credentials) -> Retry:
    found = await credentials.headers()
    assert isinstance(found, Retry)
    assert not [told for told in TOLD if told in found.reason]
    assert found.reason.startswith(f"{PEER}: ")
    return found


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
async def test_client_credentials(server: TokenServer, http: Exchange, place: str) -> None:
    auth = by_secret(server, secret_in=place, scope="a b", audience="x", resource="y", fields={"soid": "1"})
    credentials = build_credentials(auth, PEER, http)
    assert await given(credentials) == {"Authorization": "Bearer token-1"}
    (form,) = server.forms
    assert {key: form[key] for key in form if not key.startswith("client")} == {
        "grant_type": "client_credentials",
        "scope": "a b",
        "audience": "x",
        "resource": "y",
        "soid": "1",
    }
    assert ("client_secret" in form) == (place == "body")


async def test_fields_may_name_a_grant_of_the_vendors_own(server: TokenServer, http: Exchange) -> None:
    """Zoom calls it account_credentials."""
    auth = by_secret(server, fields={"grant_type": "account_credentials", "account_id": "1"}, scheme="Zoho-oauthtoken")
    assert await given(build_credentials(auth, PEER, http)) == {"Authorization": "Zoho-oauthtoken token-1"}
    assert server.forms[0]["grant_type"] == "account_credentials"


async def test_address_comes_with_the_token(server: TokenServer, http: Exchange) -> None:
    server.extra = {"instance_url": "https://acme.my.salesforce.com/"}
    credentials = build_credentials(by_secret(server, base_from="instance_url"), PEER, http)
    assert credentials.base == ""
    await given(credentials)
    assert credentials.base == "https://acme.my.salesforce.com"


async def test_address_that_is_none_is_refused(server: TokenServer, http: Exchange) -> None:
    server.extra = {"instance_url": "javascript:alert(1)"}
    outcome = await refused(build_credentials(by_secret(server, base_from="instance_url"), PEER, http))
    assert "no address in instance_url" in outcome.reason


# ----------------------------------------------------------------------------------------------------- keeping a token


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def timed(server: TokenServer, http: Exchange, clock: Clock) -> TokenCredentials:
    credentials = build_credentials(by_secret(server), PEER, http)
    assert isinstance(credentials, TokenCredentials)
    credentials._clock = clock
    return credentials


async def test_token_is_fetched_once_for_all_who_wait(server: TokenServer, http: Exchange) -> None:
    credentials = build_credentials(by_secret(server), PEER, http)
    found = await asyncio.gather(*(given(credentials) for _ in range(20)))
    assert found == [{"Authorization": "Bearer token-1"}] * 20
    assert server.tokens == 1


@pytest.mark.parametrize(("lifetime", "used"), [(300, 240), (100, 80), ("3600", 3540), (None, 10**9), (0, 10**9)])
async def test_token_is_used_until_shortly_before_its_end(
    server: TokenServer, http: Exchange, lifetime: Any, used: int
) -> None:
    server.expires_in, clock = lifetime, Clock()
    credentials = timed(server, http, clock)
    await given(credentials)
    clock.now += used - 1
    assert await given(credentials) == {"Authorization": "Bearer token-1"}
    clock.now += 2
    await given(credentials)
    assert server.tokens == (1 if used == 10**9 else 2)


async def test_token_that_was_refused_is_fetched_again_and_once(server: TokenServer, http: Exchange) -> None:
    credentials = build_credentials(by_secret(server), PEER, http)
    first = await given(credentials)
    credentials.refuse(first)
    second = await given(credentials)
    credentials.refuse(first)  # another task, whose request was under way with the old one
    assert await given(credentials) == second == {"Authorization": "Bearer token-2"}
    credentials.refuse()
    assert await given(credentials) == {"Authorization": "Bearer token-3"}
    assert credentials.renewable


async def test_endpoint_that_refuses_is_asked_once_a_minute(server: TokenServer, http: Exchange) -> None:
    clock = Clock()
    credentials = timed(server, http, clock)
    server.answer = said({"error": "invalid_client", "error_description": "Okafor s3cret"}, 401)
    outcome = await refused(credentials)
    assert "refused: HTTP 401, invalid_client" in outcome.reason
    assert outcome.after == 60
    clock.now += 30
    assert (await refused(credentials)).after == pytest.approx(30)
    assert len(server.forms) == 1
    server.answer = None
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
    server: TokenServer, http: Exchange, answer: Any, words: str, after: float
) -> None:
    server.answer = answer
    outcome = await refused(build_credentials(by_secret(server), PEER, http))
    assert words in outcome.reason
    assert outcome.after == after


async def test_endpoint_that_cannot_be_reached_lets_deliveries_wait(server: TokenServer, http: Exchange) -> None:
    auth = by_secret(server, token_url=f"http://127.0.0.1:{closed_port()}/token")
    assert "no token (the connection was refused)" in (await refused(build_credentials(auth, PEER, http))).reason


async def test_endpoint_that_hangs_lets_deliveries_wait(server: TokenServer) -> None:
    async def hang(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    server.answer = hang
    exchange = Exchange(PEER, timeout=0.1)
    await exchange.open()
    outcome = await refused(build_credentials(by_secret(server), PEER, exchange))
    await exchange.close()
    assert "no complete answer" in outcome.reason


# ----------------------------------------------------------------------------------------------------- refresh tokens


def kept(data: Path) -> list[int]:
    """Return the modes of the refresh tokens that are kept."""
    return [stat.S_IMODE(path.stat().st_mode) for path in data.glob("tokens/*")]


async def test_refresh_token(server: TokenServer, http: Exchange, tmp_path: Path) -> None:
    credentials = build_credentials(refreshing(server), PEER, http, data=tmp_path)
    assert await given(credentials) == {"Authorization": "Bearer token-1"}
    assert not kept(tmp_path)


async def test_refresh_token_that_changes_is_kept(server: TokenServer, http: Exchange, tmp_path: Path) -> None:
    server.rotates = True
    credentials = build_credentials(refreshing(server), PEER, http, data=tmp_path)
    await given(credentials)
    assert kept(tmp_path) == [0o600]
    credentials.refuse()
    await given(credentials)
    again = build_credentials(refreshing(server), PEER, http, data=tmp_path)  # after a restart
    await given(again)
    assert [form["refresh_token"] for form in server.forms] == ["refresh-0", "refresh-1", "refresh-2"]


async def test_two_destinations_share_what_a_refresh_token_became(
    server: TokenServer, http: Exchange, tmp_path: Path
) -> None:
    server.rotates = True
    both = [build_credentials(refreshing(server), PEER, http, data=tmp_path) for _ in range(2)]
    await asyncio.gather(*(given(one) for one in both))
    assert server.tokens == 2


async def test_another_refresh_token_in_the_configuration_counts(
    server: TokenServer, http: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.rotates = True
    await given(build_credentials(refreshing(server), PEER, http, data=tmp_path))
    monkeypatch.setenv("REFRESH", "from-the-vendor")
    server.refresh = "from-the-vendor"
    await given(build_credentials(refreshing(server), PEER, http, data=tmp_path))
    assert server.forms[-1]["refresh_token"] == "from-the-vendor"


async def test_refresh_token_that_changes_needs_a_place(server: TokenServer, http: Exchange) -> None:
    server.rotates = True
    assert "cannot be kept" in (await refused(build_credentials(refreshing(server), PEER, http))).reason


# ---------------------------------------------------------------------------------------------------- signed assertions


def signed(server: TokenServer, **options: Any) -> AuthSpec:
    return spec(jwt_bearer={"token_url": server.url, "issuer": CLIENT, "subject": "robot@example.org", **options})


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "ES256", "ES384"])
async def test_assertion_as_grant(server: TokenServer, http: Exchange, tmp_path: Path, algorithm: str) -> None:
    key = make_key(algorithm)
    (tmp_path / "key.pem").write_text(key.pem())
    (tmp_path / "key.pem").chmod(0o600)
    server.jwks = {"keys": [{**key.public_jwk(), "kid": "mine"}]}
    auth = signed(
        server, private_key=f"${{file:{tmp_path}/key.pem}}", kid="mine", algorithm=algorithm, claims={"x": "y"}
    )
    assert await given(build_credentials(auth, PEER, http)) == {"Authorization": "Bearer token-1"}
    (header, claims) = server.assertions[0]
    assert header == {"alg": algorithm, "kid": "mine", "typ": "JWT"}
    assert (claims["sub"], claims["x"]) == ("robot@example.org", "y")
    assert claims["exp"] - claims["iat"] == 180


async def test_assertion_with_a_key_of_our_own(server: TokenServer, http: Exchange, tmp_path: Path) -> None:
    key_folder.make(tmp_path, "RS256", time.time())
    server.jwks = key_folder.jwks(tmp_path)
    await given(build_credentials(signed(server), PEER, http, data=tmp_path))
    assert server.assertions


async def test_key_that_cannot_sign_is_found_at_once(server: TokenServer, http: Exchange, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(make_key("ES384").pem())
    (tmp_path / "key.pem").chmod(0o600)
    with pytest.raises(ConfigError, match=r"server ehr, auth.jwt_bearer.private_key: this key cannot sign with RS256"):
        build_credentials(signed(server, private_key=f"${{file:{tmp_path}/key.pem}}"), PEER, http)


# ---------------------------------------------------------------------------------------------------------------- SMART


def smart(**options: Any) -> AuthSpec:
    return spec(smart={"client_id": CLIENT, "scope": "system/Patient.crus", **options})


def connect(server: TokenServer, http: Exchange, data: Path | None, **options: Any) -> Credentials:
    return build_credentials(smart(**options), PEER, http, base=f"{server.base}/fhir", data=data)


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
async def test_smart_backend_services(server: TokenServer, http: Exchange, tmp_path: Path, algorithm: str) -> None:
    made = key_folder.make(tmp_path, algorithm, time.time())
    server.jwks = key_folder.jwks(tmp_path)
    credentials = connect(server, http, tmp_path)
    await given(credentials)
    credentials.refuse()
    await given(credentials)  # with another jti, or the server would refuse
    assert server.looked_up == 1
    assert [form["scope"] for form in server.forms] == ["system/Patient.crus"] * 2
    header, claims = server.assertions[-1]
    assert header == {"alg": algorithm, "kid": made.key.name, "typ": "JWT"}
    assert claims["iss"] == claims["sub"] == CLIENT
    assert claims["exp"] - claims["iat"] <= 300


async def test_smart_with_the_endpoint_named(server: TokenServer, http: Exchange, tmp_path: Path) -> None:
    key_folder.make(tmp_path, "RS384", time.time())
    server.jwks = key_folder.jwks(tmp_path)
    await given(connect(server, http, tmp_path, token_url=server.url, jku="https://us.example/jwks.json"))
    assert server.looked_up == 0
    assert server.assertions[0][0]["jku"] == "https://us.example/jwks.json"


async def test_smart_signs_with_what_the_server_takes(server: TokenServer, http: Exchange, tmp_path: Path) -> None:
    for algorithm in ("RS384", "ES384"):
        key_folder.make(tmp_path, algorithm, time.time())
    server.jwks = key_folder.jwks(tmp_path)
    server.configuration = {
        "token_endpoint": server.url,
        "token_endpoint_auth_signing_alg_values_supported": ["ES384", "PS512", 7],
    }
    await given(connect(server, http, tmp_path))
    assert server.assertions[0][0]["alg"] == "ES384"


async def test_smart_rotates_keys_without_a_gap(server: TokenServer, http: Exchange, tmp_path: Path) -> None:
    """The server keeps a copy of the key set, as servers do: a key it has not seen would be refused."""
    now = time.time()
    old = key_folder.make(tmp_path, "RS384", now - 100_000)
    server.jwks = key_folder.jwks(tmp_path)
    new = key_folder.make(tmp_path, "RS384", now)
    credentials = connect(server, http, tmp_path)
    assert isinstance(credentials, TokenCredentials)
    await given(credentials)
    server.jwks = key_folder.jwks(tmp_path)  # its copy is renewed within the day
    assert len(server.jwks["keys"]) == 2
    key_folder.retire(tmp_path, old.key.name, now + key_folder.ANNOUNCED + 1)
    assert key_folder.choose(tmp_path, now + key_folder.ANNOUNCED + 1, ["RS384"]).name == new.key.name
    assert [header["kid"] for header, _ in server.assertions] == [old.key.name]


async def test_smart_with_another_key_under_the_same_name_is_refused(
    server: TokenServer, http: Exchange, tmp_path: Path
) -> None:
    made = key_folder.make(tmp_path, "RS384", time.time())
    server.jwks = {"keys": [{**make_key("RS384").public_jwk(), "kid": made.key.name}]}
    assert "invalid_client" in (await refused(connect(server, http, tmp_path))).reason


@pytest.mark.parametrize(
    "configuration", [{}, {"token_endpoint": 7}, {"token_endpoint": "ftp://x/"}, {"token_endpoint": "javascript:x"}]
)
async def test_smart_configuration_without_an_endpoint(
    server: TokenServer, http: Exchange, tmp_path: Path, configuration: dict[str, Any]
) -> None:
    server.configuration = configuration
    assert "names no token endpoint" in (await refused(connect(server, http, tmp_path))).reason


async def test_smart_without_a_key_says_how_to_make_one(server: TokenServer, http: Exchange, tmp_path: Path) -> None:
    assert "run `handoff keys make`" in (await refused(connect(server, http, tmp_path))).reason
    assert "needs `private_key`" in (await refused(connect(server, http, None))).reason


async def test_smart_looks_the_endpoint_up_again_after_a_refusal(
    server: TokenServer, http: Exchange, tmp_path: Path
) -> None:
    key_folder.make(tmp_path, "RS384", time.time())
    clock = Clock()
    credentials = connect(server, http, tmp_path, lifetime="60s")  # the server's clock stands still
    assert isinstance(credentials, TokenCredentials)
    credentials._clock = clock
    assert "invalid_client" in (await refused(credentials)).reason  # the server does not know the key yet
    server.jwks = key_folder.jwks(tmp_path)
    clock.now += 61
    await given(credentials)
    assert server.looked_up == 2


async def test_server_that_does_not_answer_the_look_up(http: Exchange, tmp_path: Path) -> None:
    auth = build_credentials(smart(), PEER, http, base=f"http://127.0.0.1:{closed_port()}", data=tmp_path)
    assert "while reading .well-known/smart-configuration" in (await refused(auth)).reason
