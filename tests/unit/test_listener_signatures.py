"""Signatures of webhooks: what the systems' own libraries signed is taken, and nothing else is."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from broker.spec import Spec
from listeners.http_request import Request
from listeners.signatures import FOLDER, load_preset, presets

VECTORS: Final = Path(__file__).parents[2].parent / "shared" / "vendor-specs" / "webhook-vectors.json"
NOW: Final = 1767225600.0  # 2026-01-01, when they were made

# Which preset a vector is of, and under which name it has its secret.
OF: Final = {
    "stripe": ("stripe", "secret"),
    "twilio_form_sha1": ("twilio", "auth_token"),
    "twilio_form_sha256": ("twilio", "secret"),
    "twilio_json": ("twilio", "auth_token"),
    "hubspot_v3": ("hubspot", "client_secret"),
    "zoom_v0": ("zoom", "secret"),
    "zendesk": ("zendesk", "secret"),
    "vonage_signed": ("vonage", "secret"),
}
# Fitbit's own API was switched off; its signature is HMAC-SHA1, which no preset has.
DEAD: Final = {"fitbit_legacy"}

# The Standard Webhooks specification's own example (spec/standard-webhooks.md, "Signature scheme", symmetric).
STANDARD: Final = (
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "1614265330",
    b'{"test": 2432232314}',
    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
)


def vectors() -> dict[str, Any]:
    if not VECTORS.exists():
        return {}
    found: dict[str, Any] = json.loads(VECTORS.read_text())
    return found


def request(url: str, headers: dict[str, str], method: str = "POST") -> Request:
    lower = {name.lower(): value for name, value in headers.items()}
    return Request(method=method, path="/", rest="", headers=lower, url=url, read=lambda *_: None)  # type: ignore[arg-type]


def parts(vector: dict[str, Any]) -> tuple[str, bytes]:
    body = urlencode(vector["params"]) if "params" in vector else vector["body"]
    return vector.get("url") or vector.get("uri") or "https://hooks.example.org/x", body.encode()


def verified(name: str, url: str, headers: dict[str, str], body: bytes, secrets: list[str], now: float = NOW) -> bool:
    signature = load_preset(name).signature
    assert signature is not None
    return signature.verify(request(url, headers), body, secrets, now)


@pytest.mark.skipif(not VECTORS.exists(), reason="needs ../shared/vendor-specs/webhook-vectors.json")
def test_every_vector_is_tried() -> None:
    assert set(vectors()) == set(OF) | DEAD
    by_library = {OF[case][0] for case in OF if not vectors()[case]["by"].startswith("computed")}
    assert by_library == {name for name in presets() if load_preset(name).tested == "library"}


@pytest.mark.skipif(not VECTORS.exists(), reason="needs ../shared/vendor-specs/webhook-vectors.json")
@pytest.mark.parametrize("case", sorted(OF))
def test_what_the_vendors_library_signed_is_taken_and_nothing_near_it(case: str) -> None:
    vector, (name, key) = vectors()[case], OF[case]
    (url, body), headers, secret = parts(vector), vector["header"], vector[key]
    assert verified(name, url, headers, body, [secret])
    assert verified(name, url, headers, body, ["another-secret-while-it-changes--", secret])  # while the secret changes
    assert not verified(name, url, headers, body, [secret + "x"])
    assert not verified(name, url, headers, body, [])
    assert not verified(name, url, headers, body + b"&x=1", [secret])
    assert not verified(name, url, {}, body, [secret])
    for header, value in headers.items():
        for wrong in ("", value[:-4] + "AAAA", value[1:], value.upper() + "x", "\xff"):
            if "settings" not in header.lower() or not wrong:
                changed = headers | {header: wrong}
                assert not verified(name, url, changed, body, [secret]), (header, wrong)


@pytest.mark.skipif(not VECTORS.exists(), reason="needs ../shared/vendor-specs/webhook-vectors.json")
@pytest.mark.parametrize("case", sorted(set(OF) - {"twilio_form_sha1", "twilio_form_sha256", "twilio_json"}))
def test_an_old_request_and_one_of_the_future_are_refused(case: str) -> None:
    vector, (name, key) = vectors()[case], OF[case]
    url, body = parts(vector)
    for now in (NOW - 301, NOW + 301, NOW + 1e9):
        assert not verified(name, url, vector["header"], body, [vector[key]], now)
    for now in (NOW - 299, NOW + 299):
        assert verified(name, url, vector["header"], body, [vector[key]], now)


@pytest.mark.skipif(not VECTORS.exists(), reason="needs ../shared/vendor-specs/webhook-vectors.json")
@pytest.mark.parametrize("case", ["hubspot_v3", "twilio_form_sha1", "twilio_json"])
def test_an_address_that_is_not_the_one_signed_is_refused(case: str) -> None:
    vector, (name, key) = vectors()[case], OF[case]
    url, body = parts(vector)
    assert not verified(name, url.replace("hooks", "evil"), vector["header"], body, [vector[key]])
    if name == "twilio":
        with_port = url.replace("example.org", "example.org:443")
        assert verified(name, with_port, vector["header"], body, [vector[key]])
        assert not verified(name, url.replace("example.org", "example.org:444"), vector["header"], body, [vector[key]])


def test_twilio_with_an_algorithm_that_nobody_knows_is_refused() -> None:
    headers = {"X-Twilio-Signature": "x", "X-Twilio-Webhooks-Signature-Settings": "key=k,algorithm=NONE"}
    assert not verified("twilio", "https://x.test/", headers, b"a=1", ["s"])
    assert not verified("twilio", "https://x.test/", {"X-Twilio-Signature": "x"}, b"\xff", ["s"])


def test_standard_webhooks_example_is_taken() -> None:
    secret, identifier, stamp, body, signature = STANDARD
    headers = {"webhook-id": identifier, "webhook-timestamp": stamp, "webhook-signature": f"v1,AAAA v1a,x {signature}"}
    assert verified("standard", "", headers, body, [secret], 1614265330.0)
    assert not verified("standard", "", headers | {"webhook-id": "msg_2"}, body, [secret], 1614265330.0)
    assert not verified("standard", "", headers | {"webhook-timestamp": "x"}, body, [secret], 1614265330.0)


def test_hubspot_may_sign_an_address_with_fewer_characters_encoded() -> None:
    signed = b"POSThttps://x.test/a?b=c:d{}1767225600000"
    headers = {
        "X-HubSpot-Request-Timestamp": "1767225600000",
        "X-HubSpot-Signature-v3": base64.b64encode(hmac.digest(b"s", signed, hashlib.sha256)).decode(),
    }
    assert verified("hubspot", "https://x.test/a?b=c%3Ad", headers, b"{}", ["s"])


def test_a_secret_in_the_body_is_compared() -> None:
    assert verified("zoho", "", {}, b'{"token": "s", "ids": [1]}', ["s"])
    assert not verified("zoho", "", {}, b'{"token": "t"}', ["s"])
    assert not verified("zoho", "", {}, b'{"other": "s"}', ["s"])


def test_a_time_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        for stamp in ("2026-01-01T00:00:00", "2026-01-01T00:00:00Z", "2025-12-31T19:00:00-05:00"):
            signature = base64.b64encode(hmac.digest(b"s", f"{stamp}{{}}".encode(), "sha256")).decode()
            headers = {"X-Zendesk-Webhook-Signature": signature, "X-Zendesk-Webhook-Signature-Timestamp": stamp}
            assert verified("zendesk", "", headers, b"{}", ["s"])
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_whole(name: str) -> None:
    preset = load_preset(name)
    assert isinstance(preset, Spec)
    assert preset.source.startswith("https://")
    assert preset.note
    assert preset.key or not preset.key_decides
    # A secret in the body is compared, nothing is signed.
    assert (preset.tested == "requests") == (preset.signature is None or preset.signature.kind == "field")
    assert ("signature" in preset.callers) == (preset.signature is not None and preset.signature.kind != "tink")
    if preset.body == "json":
        assert not preset.answer or preset.answer_type


def test_presets_that_are_not_there_are_named() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(presets())
    with pytest.raises(ValueError, match="no preset 'strip'"):
        load_preset("strip")
