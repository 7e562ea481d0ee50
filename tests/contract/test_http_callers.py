"""Listeners over HTTP know who calls, however that is shown, and take nothing from a stranger."""

import asyncio
import base64
import hmac
import json
import ssl
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from broker.errors import NotReady
from broker.notices import HandshakeFailed, PeerRefused
from listeners import http_keys
from listeners.http import HttpSpec
from tests.certificates import Authority
from tests.contract.key_server import publishing
from tests.http_peer import World, serving


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def test_callers_prove_who_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "OLD", "WORD", "KEY"):
        monkeypatch.setenv(name, f"the-{name}")
    callers = {
        "lab": {"bearer": {"token": "${env:TOKEN}", "old_token": "${env:OLD}"}},
        "portal": {"basic": {"user": "portal", "password": "${env:WORD}"}},
        "app": {"api_key": {"secret": "${env:KEY}"}},
        "old-app": {"api_key": {"query": "code", "secret": "${env:KEY}"}},
    }
    async with serving(HttpSpec, callers=callers) as world:
        for headers in (
            {"Authorization": "Bearer the-TOKEN"},
            {"Authorization": "bearer the-OLD"},
            basic("portal", "the-WORD"),
            {"X-API-Key": "the-KEY"},
        ):
            assert (await world.ask("POST", "/", data=b"1", headers=headers))[0] == 202
        assert (await world.ask("POST", "/?code=the-KEY", data=b"1"))[0] == 202
        kept = len(world.kept.messages)
        for headers in (
            {},
            {"Authorization": "Bearer the-TOKEN2"},
            {"Authorization": "Basic the-TOKEN"},
            {"Authorization": "Bearer"},
            basic("portal", "the-TOKEN"),
            basic("other", "the-WORD"),
            {"X-API-Key": "the-TOKEN"},
        ):
            status, body, answered = await world.ask("POST", "/", data=b"1", headers=headers)
            assert status == 401
            assert "Bearer" in answered["www-authenticate"]
            assert b"the-" not in body
        assert (await world.ask("POST", "/?code=the-KEY&code=x", data=b"1"))[0] == 401
        assert len(world.kept.messages) == kept
        assert [notice for notice in world.kept.notices if isinstance(notice, PeerRefused)]


class Issuer:
    """An authorization server with two keys."""

    def __init__(self, folder: Path) -> None:
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP384R1())
        one = json.loads(RSAAlgorithm.to_jwk(self.rsa.public_key())) | {"kid": "one", "use": "sig"}
        two = json.loads(ECAlgorithm.to_jwk(self.ec.public_key())) | {"kid": "two", "use": "sig"}
        (folder / "jwks.json").write_text(json.dumps({"keys": [one, two]}))

    def token(self, key: Any = None, algorithm: str = "RS384", kid: str = "one", **claims: Any) -> dict[str, str]:
        known = {"iss": "https://auth.test", "aud": "https://us.test", "sub": "ehr", "exp": time.time() + 300}
        made = jwt.encode(known | claims, key or self.rsa, algorithm, headers={"kid": kid})
        return {"Authorization": f"Bearer {made}"}


async def test_tokens_are_checked_by_the_issuers_keys(tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    declared = {"issuer": "https://auth.test", "audience": "https://us.test", "jwks": "jwks.json", "clients": ["ehr"]}
    async with serving(HttpSpec, callers={"ehr": {"jwt": declared}}, root=tmp_path) as world:
        good = [issuer.token(), issuer.token(issuer.ec, "ES384", "two"), issuer.token(sub="x", client_id="ehr")]
        bad = [
            issuer.token(exp=time.time() - 120),
            issuer.token(nbf=time.time() + 120),
            issuer.token(aud="https://others.test"),
            issuer.token(iss="https://evil.test"),
            issuer.token(sub="stranger"),
            issuer.token(kid="three"),
            issuer.token(issuer.ec, "ES384", "one"),
            issuer.token(rsa.generate_private_key(65537, 2048)),
            issuer.token("x" * 64, "HS384"),
            {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJlaHIifQ."},
            {"Authorization": "Bearer a.b.c"},
        ]
        for headers in good:
            assert (await world.ask("POST", "/", data=b"1", headers=headers))[0] == 202
        for headers in bad:
            assert (await world.ask("POST", "/", data=b"1", headers=headers))[0] == 401
        assert len(world.kept.messages) == len(good)


async def test_keys_are_fetched_kept_and_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = Issuer(tmp_path)
    async with publishing(tmp_path / "jwks.json") as published:
        declared = {"issuer": "https://auth.test", "audience": "https://us.test", "jwks": published.place}
        async with serving(HttpSpec, callers={"ehr": {"jwt": declared}}, root=tmp_path) as world:
            published.status = 500
            for _ in range(2):
                assert (await world.ask("POST", "/", data=b"1", headers=issuer.token()))[0] == 503
            published.status = 200
            monkeypatch.setattr(http_keys, "_AGAIN", 0.0)
            for _ in range(3):
                assert (await world.ask("POST", "/", data=b"1", headers=issuer.token()))[0] == 202
            assert published.asked == 2
            published.status = 500  # the keys from before stay
            monkeypatch.setattr(http_keys, "_FRESH", 0.0)
            assert (await world.ask("POST", "/", data=b"1", headers=issuer.token()))[0] == 202
            monkeypatch.setattr(http_keys, "_AGAIN", 60.0)
            before = published.asked
            for number in range(5):  # ids that nobody has do not make us ask each time
                assert (await world.ask("POST", "/", data=b"1", headers=issuer.token(kid=f"k{number}")))[0] == 401
            assert published.asked == before


async def test_a_signed_request_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORD", "sesame")
    callers = {"them": {"signature": {"secret": "${env:WORD}"}}}
    async with serving(HttpSpec, callers=callers, signature="hmac") as world:
        good = {"X-Signature": "sha256=" + hmac.new(b"sesame", b"1", "sha256").hexdigest()}
        assert (await world.ask("POST", "/", data=b"1", headers=good))[0] == 202
        assert (await world.ask("POST", "/", data=b"2", headers=good))[0] == 401
        assert (await world.ask("POST", "/", data=b"1"))[0] == 401


async def test_tls_certificates_and_their_names(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    own = ca.issue("engine.test")
    tls = {"certificate": str(own.certificate), "key": str(own.key), "ca": str(ca.file)}
    callers = {"lab": {"certificate": ["lab.test"]}}
    async with serving(HttpSpec, callers=callers, tls=tls) as world:
        for name, expected in (("lab.test", 202), ("other.test", 401)):
            client = ssl.create_default_context(cafile=str(ca.file))
            files = ca.issue(name)
            client.load_cert_chain(files.certificate, files.key)
            assert (await world.ask("POST", "/", data=b"1", tls=client))[0] == expected
        with pytest.raises(OSError, match=r"(?s).*"):
            await world.ask("POST", "/", data=b"1", tls=ssl.create_default_context(cafile=str(ca.file)))
        (failed,) = (notice for notice in world.kept.notices if isinstance(notice, HandshakeFailed))
        assert (failed.channel, failed.peer.partition(":")[0]) == ("web", "127.0.0.1")
        assert failed.reason == "TLS could not be set up (it showed no certificate)"
        renewed = ca.issue("engine.test")  # in the same files
        client = ssl.create_default_context(cafile=str(ca.file))
        files = ca.issue("lab.test")
        client.load_cert_chain(files.certificate, files.key)
        _, writer = await asyncio.open_connection("127.0.0.1", world.listener.port, ssl=client)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert ssl.DER_cert_to_PEM_cert(shown) == renewed.certificate.read_text()
        writer.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"endpoint": "0.0.0.0:0"}, "without TLS"),
        ({"endpoint": "0.0.0.0:0", "unprotected": "a VPN"}, "whoever they are"),
        ({"tls": {"ca": "x"}}, "certificate and key"),
        ({"path": "lab"}, "begins with /"),
        ({"path": "/a/../b"}, "begins with /"),
        ({"signature": "nothing"}, "no such signature"),
    ],
)
async def test_what_is_not_safe_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        HttpSpec.model_validate({"endpoint": "127.0.0.1:0", **options})


async def test_a_caller_that_is_not_there_is_named() -> None:
    world = World(HttpSpec, "json", {}, Path())
    spec = HttpSpec.model_validate({"endpoint": "127.0.0.1:0", "callers": ["lab"]})
    with pytest.raises(NotReady, match="no caller lab"):
        spec.build(world.tools)
