"""This module holds grants to their contract: refresh tokens, assertions that we sign, and SMART Backend Services."""

import asyncio
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from broker.errors import ConfigError
from config.auth import AuthSpec
from dispatch import key_folder
from dispatch.auth import Credentials, build_credentials
from dispatch.grants import _is_safe
from dispatch.http import Exchange
from dispatch.signing import make_key
from dispatch.token import TokenCredentials
from tests.contract.asking import PEER, Clock, given, refused, spec
from tests.contract.scripted_server import ScriptedServer, closed_port, reply
from tests.contract.token_server import CLIENT, TokenServer

pytestmark = pytest.mark.usefixtures("_secrets")


def refreshing(tokens: TokenServer, **options: Any) -> AuthSpec:
    given = {"token_url": tokens.url, "client_id": CLIENT, "client_secret": "${env:CLIENT_SECRET}"}
    return spec(refresh_token={**given, "token": "${env:REFRESH}", **options})


# ----------------------------------------------------------------------------------------------------- refresh tokens


def kept(data: Path) -> list[int]:
    """Return the modes of the refresh tokens that are kept."""
    return [stat.S_IMODE(path.stat().st_mode) for path in data.glob("tokens/*")]


async def test_refresh_token(tokens: TokenServer, http: Exchange, tmp_path: Path) -> None:
    credentials = build_credentials(refreshing(tokens), PEER, http, data=tmp_path)
    assert await given(credentials) == {"Authorization": "Bearer token-1"}
    assert not kept(tmp_path)


async def test_refresh_token_that_changes_is_kept(tokens: TokenServer, http: Exchange, tmp_path: Path) -> None:
    tokens.rotates = True
    credentials = build_credentials(refreshing(tokens), PEER, http, data=tmp_path)
    await given(credentials)
    assert kept(tmp_path) == [0o600]
    credentials.refuse()
    await given(credentials)
    again = build_credentials(refreshing(tokens), PEER, http, data=tmp_path)  # after a restart
    await given(again)
    assert [form["refresh_token"] for form in tokens.forms] == ["refresh-0", "refresh-1", "refresh-2"]


async def test_two_destinations_share_what_a_refresh_token_became(
    tokens: TokenServer, http: Exchange, tmp_path: Path
) -> None:
    tokens.rotates = True
    both = [build_credentials(refreshing(tokens), PEER, http, data=tmp_path) for _ in range(2)]
    await asyncio.gather(*(given(one) for one in both))
    assert tokens.tokens == 2


async def test_another_refresh_token_in_the_configuration_counts(
    tokens: TokenServer, http: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens.rotates = True
    await given(build_credentials(refreshing(tokens), PEER, http, data=tmp_path))
    monkeypatch.setenv("REFRESH", "from-the-vendor")
    tokens.refresh = "from-the-vendor"
    await given(build_credentials(refreshing(tokens), PEER, http, data=tmp_path))
    assert tokens.forms[-1]["refresh_token"] == "from-the-vendor"


async def test_refresh_token_that_changes_needs_a_place(tokens: TokenServer, http: Exchange) -> None:
    tokens.rotates = True
    assert "cannot be kept" in (await refused(build_credentials(refreshing(tokens), PEER, http))).reason


# ---------------------------------------------------------------------------------------------------- signed assertions


def signed(tokens: TokenServer, **options: Any) -> AuthSpec:
    return spec(jwt_bearer={"token_url": tokens.url, "issuer": CLIENT, "subject": "robot@example.org", **options})


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "ES256", "ES384"])
async def test_assertion_as_grant(tokens: TokenServer, http: Exchange, tmp_path: Path, algorithm: str) -> None:
    key = make_key(algorithm)
    (tmp_path / "key.pem").write_text(key.pem())
    (tmp_path / "key.pem").chmod(0o600)
    tokens.jwks = {"keys": [{**key.public_jwk(), "kid": "mine"}]}
    auth = signed(
        tokens, private_key=f"${{file:{tmp_path}/key.pem}}", kid="mine", algorithm=algorithm, claims={"x": "y"}
    )
    assert await given(build_credentials(auth, PEER, http)) == {"Authorization": "Bearer token-1"}
    (header, claims) = tokens.assertions[0]
    assert header == {"alg": algorithm, "kid": "mine", "typ": "JWT"}
    assert (claims["sub"], claims["x"]) == ("robot@example.org", "y")
    assert claims["exp"] - claims["iat"] == 180


async def test_assertion_with_a_key_of_our_own(tokens: TokenServer, http: Exchange, tmp_path: Path) -> None:
    key_folder.make(tmp_path, "RS256", time.time())
    tokens.jwks = key_folder.jwks(tmp_path)
    await given(build_credentials(signed(tokens), PEER, http, data=tmp_path))
    assert tokens.assertions


async def test_key_that_cannot_sign_is_found_at_once(tokens: TokenServer, http: Exchange, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(make_key("ES384").pem())
    (tmp_path / "key.pem").chmod(0o600)
    with pytest.raises(ConfigError, match=r"server ehr, auth.jwt_bearer.private_key: this key cannot sign with RS256"):
        build_credentials(signed(tokens, private_key=f"${{file:{tmp_path}/key.pem}}"), PEER, http)


# ---------------------------------------------------------------------------------------------------------------- SMART


def smart(**options: Any) -> AuthSpec:
    return spec(smart={"client_id": CLIENT, "scope": "system/Patient.crus", **options})


def connect(tokens: TokenServer, http: Exchange, data: Path | None, **options: Any) -> Credentials:
    return build_credentials(smart(**options), PEER, http, base=f"{tokens.base}/fhir", data=data)


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
async def test_smart_backend_services(tokens: TokenServer, http: Exchange, tmp_path: Path, algorithm: str) -> None:
    made = key_folder.make(tmp_path, algorithm, time.time())
    tokens.jwks = key_folder.jwks(tmp_path)
    credentials = connect(tokens, http, tmp_path)
    await given(credentials)
    credentials.refuse()
    await given(credentials)  # with another jti, or the server would refuse
    assert tokens.looked_up == 1
    assert [form["scope"] for form in tokens.forms] == ["system/Patient.crus"] * 2
    header, claims = tokens.assertions[-1]
    assert header == {"alg": algorithm, "kid": made.key.name, "typ": "JWT"}
    assert claims["iss"] == claims["sub"] == CLIENT
    assert claims["exp"] - claims["iat"] <= 300


async def test_smart_with_the_endpoint_named(tokens: TokenServer, http: Exchange, tmp_path: Path) -> None:
    key_folder.make(tmp_path, "ES384", time.time())
    tokens.jwks = key_folder.jwks(tmp_path)
    await given(connect(tokens, http, tmp_path, token_url=tokens.url, jku="https://us.example/jwks.json"))
    assert tokens.looked_up == 0
    assert tokens.assertions[0][0]["jku"] == "https://us.example/jwks.json"


async def test_smart_signs_with_what_the_server_takes(tokens: TokenServer, http: Exchange, tmp_path: Path) -> None:
    for algorithm in ("RS384", "ES384"):
        key_folder.make(tmp_path, algorithm, time.time())
    tokens.jwks = key_folder.jwks(tmp_path)
    tokens.configuration = {
        "token_endpoint": tokens.url,
        "token_endpoint_auth_signing_alg_values_supported": ["ES384", "PS512", 7],
    }
    await given(connect(tokens, http, tmp_path))
    assert tokens.assertions[0][0]["alg"] == "ES384"


async def test_smart_rotates_keys_without_a_gap(tokens: TokenServer, http: Exchange, tmp_path: Path) -> None:
    """The server keeps a copy of the key set, as servers do: a key it has not seen would be refused."""
    now = time.time()
    old = key_folder.make(tmp_path, "ES384", now - 100_000)
    tokens.jwks = key_folder.jwks(tmp_path)
    new = key_folder.make(tmp_path, "ES384", now)
    credentials = connect(tokens, http, tmp_path)
    assert isinstance(credentials, TokenCredentials)
    await given(credentials)
    tokens.jwks = key_folder.jwks(tmp_path)  # its copy is renewed within the day
    assert len(tokens.jwks["keys"]) == 2
    key_folder.retire(tmp_path, old.key.name, now + key_folder.ANNOUNCED + 1)
    assert key_folder.choose(tmp_path, now + key_folder.ANNOUNCED + 1, ["ES384"]).name == new.key.name
    assert [header["kid"] for header, _ in tokens.assertions] == [old.key.name]


async def test_smart_with_another_key_under_the_same_name_is_refused(
    tokens: TokenServer, http: Exchange, tmp_path: Path
) -> None:
    made = key_folder.make(tmp_path, "ES384", time.time())
    tokens.jwks = {"keys": [{**make_key("ES384").public_jwk(), "kid": made.key.name}]}
    assert "invalid_client" in (await refused(connect(tokens, http, tmp_path))).reason


@pytest.mark.parametrize(
    "configuration", [{}, {"token_endpoint": 7}, {"token_endpoint": "ftp://x/"}, {"token_endpoint": "javascript:x"}]
)
async def test_smart_configuration_without_an_endpoint(
    tokens: TokenServer, http: Exchange, tmp_path: Path, configuration: dict[str, Any]
) -> None:
    tokens.configuration = configuration
    assert "names no token endpoint" in (await refused(connect(tokens, http, tmp_path))).reason


async def test_smart_without_a_key_says_how_to_make_one(tokens: TokenServer, http: Exchange, tmp_path: Path) -> None:
    assert "run `handoff keys make`" in (await refused(connect(tokens, http, tmp_path))).reason
    assert "needs `private_key`" in (await refused(connect(tokens, http, None))).reason


async def test_smart_looks_the_endpoint_up_again_after_a_refusal(
    tokens: TokenServer, http: Exchange, tmp_path: Path
) -> None:
    key_folder.make(tmp_path, "ES384", time.time())
    clock = Clock()
    credentials = connect(tokens, http, tmp_path, lifetime="60s")  # the server's clock stands still
    assert isinstance(credentials, TokenCredentials)
    credentials._clock = clock
    assert "invalid_client" in (await refused(credentials)).reason  # the server does not know the key yet
    tokens.jwks = key_folder.jwks(tmp_path)
    clock.now += 61
    await given(credentials)
    assert tokens.looked_up == 2


async def test_server_that_does_not_answer_the_look_up(http: Exchange, tmp_path: Path) -> None:
    auth = build_credentials(smart(), PEER, http, base=f"http://127.0.0.1:{closed_port()}", data=tmp_path)
    assert "while reading .well-known/smart-configuration" in (await refused(auth)).reason


@pytest.mark.parametrize("body", [b"<html>", b"[]", b""])
async def test_look_up_that_is_answered_with_something_else(http: Exchange, tmp_path: Path, body: bytes) -> None:
    server = ScriptedServer()
    await server.start()
    server.on("GET", reply(200, body))
    outcome = await refused(build_credentials(smart(), PEER, http, base=server.base, data=tmp_path))
    await server.stop()
    assert "names no token endpoint over https; name it with `token_url`" in outcome.reason


async def test_server_over_tls_may_not_name_an_endpoint_without() -> None:
    assert not _is_safe("http://idp.example/token", "https://ehr.example/R4")
    assert _is_safe("https://idp.example/token", "https://ehr.example/R4")
