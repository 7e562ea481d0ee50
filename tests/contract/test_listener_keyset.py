"""Webhooks that a published key signs keep the contract: keys from a file or fetched, within bounds."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from broker.errors import NotReady
from listeners import http_keys
from listeners.webhook import WebhookSpec
from tests.contract.key_server import publishing
from tests.http_peer import serving

SECRET: Final = "sesame"
CALLERS: Final = {"google": {"bearer": {"token": "${env:HOOK}"}}}


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", SECRET)


class Google:
    """Google Health's signing key, and the keyset that it publishes."""

    def __init__(self, folder: Path, identifier: int = 77) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._identifier = identifier.to_bytes(4)
        numbers = self._key.public_key().public_numbers()
        x, y = numbers.x.to_bytes(33), numbers.y.to_bytes(33)  # with a leading zero, as Tink writes them
        params = b"\x12\x06\x08\x03\x10\x02\x18\x02"
        value = params + b"\x1a" + bytes([len(x)]) + x + b"\x22" + bytes([len(y)]) + y
        data = {
            "typeUrl": "type.googleapis.com/google.crypto.tink.EcdsaPublicKey",
            "value": base64.b64encode(value).decode(),
            "keyMaterialType": "ASYMMETRIC_PUBLIC",
        }
        entry = {"keyData": data, "status": "ENABLED", "keyId": identifier, "outputPrefixType": "TINK"}
        (folder / "keyset.json").write_text(json.dumps({"primaryKeyId": identifier, "key": [entry]}))

    def headers(self, body: bytes, secret: str = SECRET) -> dict[str, str]:
        """Return the headers of a notification."""
        signature = b"\x01" + self._identifier + self._key.sign(body, ec.ECDSA(SHA256()))
        return {"Authorization": f"Bearer {secret}", "X-HEALTHAPI-SIGNATURE": base64.b64encode(signature).decode()}


async def test_google_health_signs_with_a_published_key(tmp_path: Path) -> None:
    google = Google(tmp_path)
    given: dict[str, Any] = {"preset": "google_health", "keyset": "keyset.json", "callers": CALLERS, "root": tmp_path}
    body = b'[{"data": {"healthUserId": "u", "operation": "UPSERT"}}, {"data": {"healthUserId": "v"}}]'
    async with serving(WebhookSpec, **given) as world:
        assert (await world.ask("POST", "/", data=body, headers=google.headers(body)))[:2] == (204, b"")
        assert len(world.kept.messages) == 2
        check = b'{"type": "verification"}'
        assert (await world.ask("POST", "/", data=check, headers=google.headers(check)))[0] == 200
        bad = [
            google.headers(body, "guess"),
            google.headers(b"other"),
            google.headers(body) | {"X-HEALTHAPI-SIGNATURE": "AAAA"},
            google.headers(body) | {"X-HEALTHAPI-SIGNATURE": "%"},
            {"Authorization": f"Bearer {SECRET}"},
        ]
        for headers in bad:
            assert (await world.ask("POST", "/", data=body, headers=headers))[0] == 401
        renewed = Google(tmp_path, 78)
        assert (await world.ask("POST", "/", data=body, headers=renewed.headers(body)))[0] == 204
        assert (await world.ask("POST", "/", data=body, headers=google.headers(body)))[0] == 401
        assert len(world.kept.messages) == 4
    (tmp_path / "keyset.json").write_text('{"key": []}')
    with pytest.raises(NotReady, match="no public keyset"):
        async with serving(WebhookSpec, **given):
            pass


def test_keys_that_anybody_could_send_are_a_mistake() -> None:
    given = {"endpoint": "127.0.0.1:0", "preset": "google_health", "callers": ["google"]}
    with pytest.raises(ValueError, match="needs https"):
        WebhookSpec.model_validate(given | {"keyset": "http://keys.example/keyset.json"})


async def test_published_keys_are_fetched_and_asked_for_again_when_one_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    google, body = Google(tmp_path), b'[{"data": {}}]'
    async with publishing(tmp_path / "keyset.json") as published:
        given: dict[str, Any] = {"preset": "google_health", "keyset": published.place, "callers": CALLERS}
        async with serving(WebhookSpec, **given) as world:

            async def brought(headers: dict[str, str]) -> int:
                return (await world.ask("POST", "/", data=body, headers=headers))[0]

            published.status = 500
            assert await brought(google.headers(body, "guess")) == 401
            assert published.asked == 0  # a stranger does not make us ask
            assert [await brought(google.headers(body)) for _ in range(2)] == [503] * 2
            assert published.asked == 1
            published.status = 200
            monkeypatch.setattr(http_keys, "_AGAIN", 0.0)
            assert [await brought(google.headers(body)) for _ in range(3)] == [204] * 3
            assert published.asked == 2
            renewed = Google(tmp_path, 78)
            monkeypatch.setattr(http_keys, "_AGAIN", 60.0)
            world.listener._keyset._asked -= 61  # as if so much time had passed
            several = await asyncio.gather(*(brought(renewed.headers(body)) for _ in range(3)))
            assert several == [204] * 3
            assert published.asked == 3  # they wait for the same answer
            (tmp_path / "elsewhere").mkdir()
            forged = Google(tmp_path / "elsewhere", 79)
            assert [await brought(forged.headers(body)) for _ in range(5)] == [401] * 5
            assert published.asked == 3
            assert len(world.kept.messages) == 6
