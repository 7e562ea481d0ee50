"""Webhook listeners keep the contract: only what the system signed is taken, once, and answered as it expects."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from typing import Any, Final
from urllib.parse import urlencode

import jwt
import pytest

from broker.errors import NotAccepted
from listeners.signatures import load_preset, presets
from listeners.webhook import WebhookSpec
from tests.http_peer import serving

SECRET: Final = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"  # Base64, as Standard Webhooks wants it
OLD: Final = "b2xk" * 8
GUESS: Final = "Z3Vlc3MtZ3Vlc3MtZ3Vlc3MtZ3Vlc3MtZ3Vlc3M="
URL: Final = "https://hooks.example.org/x"
SIGNING: Final = {"signature": {"secret": "${env:HOOK}", "old_secret": "${env:HOOK_OLD}"}}
KEY: Final = {"api_key": {"query": "code", "secret": "${env:HOOK}"}}
SOAP: Final = b"""<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>
<notifications xmlns="http://soap.sforce.com/2005/09/outbound"><OrganizationId>00D1</OrganizationId>
<ActionId>04k1</ActionId><SessionId/><Notification><Id>04l1</Id>
<sObject xsi:type="sf:Contact" xmlns:sf="urn:sobject.enterprise.soap.sforce.com"><sf:Id>0031</sf:Id>
<sf:LastName>Oka &amp; Co</sf:LastName></sObject></Notification><Notification><Id>04l2</Id>
<sObject xsi:type="sf:Contact" xmlns:sf="urn:sobject.enterprise.soap.sforce.com"><sf:Id>0032</sf:Id></sObject>
</Notification></notifications></soapenv:Body></soapenv:Envelope>"""

BODIES: Final[dict[str, bytes]] = {
    "stripe": b'{"id": "evt_1", "account": "a1"}',
    "twilio": urlencode({"MessageSid": "SM1", "SmsStatus": "received", "Body": "STOP", "AccountSid": "a1"}).encode(),
    "vonage": b'{"message_uuid": "u1", "status": "delivered"}',
    "zendesk": b'{"ticket_id": 1}',
    "hubspot": b'[{"subscriptionId": 1, "objectId": 7, "occurredAt": 9, "portalId": "a1", "n": 1.10}]',
    "zoom": b'{"event": "meeting.ended", "event_ts": 1, "payload": {"account_id": "a1", "object": {"uuid": "m"}}}',
    "salesforce": SOAP,
    "dataverse": b'{"RequestId": "r", "OperationId": "o", "OrganizationId": "a1"}',
    "zoho": b'{"token": "%s", "channel_id": "a1"}',
    "kustomer": b'{"id": "e1", "org": "a1"}',
    "iterable": b'{"eventName": "smsReceived", "dataFields": {"messageId": "m"}}',
}


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", SECRET)
    monkeypatch.setenv("HOOK_OLD", f"whsec_{OLD}")


def hexed(key: str, data: bytes) -> str:
    return hmac.new(key.encode(), data, "sha256").hexdigest()


def b64(key: str, data: bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(hmac.digest(key.encode(), data, algorithm)).decode()


def _stripe(body: bytes, secret: str, at: float) -> dict[str, str]:
    stamp = str(int(at)).encode()
    return {"Stripe-Signature": f"t={int(at)},v1={hexed(secret, stamp + b'.' + body)}"}


def _twilio(body: bytes, secret: str, _at: float) -> dict[str, str]:
    fields = dict(pair.split("=") for pair in body.decode().split("&")) if body else {}
    text = URL + "".join(name + fields[name] for name in sorted(fields))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    return form | {"X-Twilio-Signature": b64(secret, text.encode(), "sha1")}


def _vonage(body: bytes, secret: str, at: float) -> dict[str, str]:
    claims = {"iat": int(at), "payload_hash": hashlib.sha256(body).hexdigest()}
    return {"Authorization": "Bearer " + jwt.encode(claims, secret, "HS256")}


def _zendesk(body: bytes, secret: str, at: float) -> dict[str, str]:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    return {
        "X-Zendesk-Webhook-Signature": b64(secret, when.encode() + body),
        "X-Zendesk-Webhook-Signature-Timestamp": when,
        "X-Zendesk-Webhook-Invocation-Id": "i1",
    }


def _hubspot(body: bytes, secret: str, at: float) -> dict[str, str]:
    stamp = str(int(at * 1000))
    signature = b64(secret, f"POST{URL}".encode() + body + stamp.encode())
    return {"X-HubSpot-Request-Timestamp": stamp, "X-HubSpot-Signature-v3": signature}


def _zoom(body: bytes, secret: str, at: float) -> dict[str, str]:
    signature = hexed(secret, f"v0:{int(at)}:".encode() + body)
    return {"x-zm-request-timestamp": str(int(at)), "x-zm-signature": f"v0={signature}"}


def _standard(body: bytes, secret: str, at: float) -> dict[str, str]:
    digest = hmac.digest(base64.b64decode(secret), f"e1.{int(at)}.".encode() + body, "sha256")
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": "e1", "webhook-timestamp": str(int(at)), "webhook-signature": signature}


def _hmac(body: bytes, secret: str, _at: float) -> dict[str, str]:
    return {"X-Signature": f"sha256={hexed(secret, body)}"}


def _servicenow(_body: bytes, _secret: str, _at: float) -> dict[str, str]:
    return {"Idempotency-Key": "INC0010001-2"}


SIGNERS: Final = {
    "servicenow": _servicenow,
    "stripe": _stripe,
    "twilio": _twilio,
    "vonage": _vonage,
    "zendesk": _zendesk,
    "hubspot": _hubspot,
    "zoom": _zoom,
    "standard": _standard,
    "hmac": _hmac,
}


def signed(preset: str, body: bytes, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """Return the headers with which a system sends a body; none where it signs nothing."""
    signer = SIGNERS.get(preset)
    return signer(body, secret, time.time() if at is None else at) if signer is not None else {}


def body_of(preset: str) -> bytes:
    body = BODIES.get(preset, b'{"a": 1}')
    return body.replace(b"%s", SECRET.encode())


def options(preset: str) -> dict[str, Any]:
    kinds = load_preset(preset).callers
    return {"preset": preset, "url": URL, "callers": {"them": SIGNING if "signature" in kinds else KEY}}


NAMES: Final = [name for name in presets() if name not in {"google_health", "garmin", "vonage_sms"}]


@pytest.mark.parametrize("preset", NAMES)
async def test_what_a_system_sends_is_taken_once_and_answered_as_it_expects(preset: str) -> None:
    body, known = body_of(preset), load_preset(preset)
    path = "/" if "signature" in known.callers else f"/?code={SECRET}"
    async with serving(WebhookSpec, **options(preset)) as world:
        for _ in range(2):  # it sends again what it has no answer to
            status, answer, _ = await world.ask("POST", path, data=body, headers=signed(preset, body))
            assert status == known.status
            if preset == "twilio":
                assert answer == b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
        count = 2 if preset == "salesforce" else 1
        assert len(world.kept.messages) == count * (1 if known.key else 2)
        for kept in world.kept.bodies:
            json.loads(kept)


@pytest.mark.parametrize(("preset", "status"), [("zendesk", 200), ("stripe", 400)])
async def test_event_without_a_body_is_taken_where_its_system_sends_such(preset: str, status: int) -> None:
    async with serving(WebhookSpec, **options(preset)) as world:
        assert (await world.ask("POST", "/", data=b"", headers=signed(preset, b"")))[0] == status
        assert world.kept.bodies == ([b"{}"] if status == 200 else [])


RETRIED: Final[dict[str, tuple[bytes, bytes]]] = {  # an event, and what its sender may make of it when it tries again
    "stripe": (b'{"id": "evt_1", "pending_webhooks": 1}', b'{"id": "evt_1", "pending_webhooks": 0}'),
    "vonage": (b'{"message_uuid": "u", "status": "read"}', b'{"message_uuid": "u", "status": "read", "attempt": 2}'),
    "hubspot": (b'[{"eventId": 5, "attemptNumber": 0}]', b'[{"eventId": 5, "attemptNumber": 1}]'),
    "standard": (b'{"attempt": 1}', b'{"attempt": 2}'),
    "zendesk": (b'{"attempt": 1}', b'{"attempt": 2}'),
}


@pytest.mark.parametrize("preset", RETRIED)
async def test_an_event_with_an_id_is_the_same_even_if_its_body_is_not(preset: str) -> None:
    async with serving(WebhookSpec, **options(preset)) as world:
        for body in RETRIED[preset]:
            assert (await world.ask("POST", "/", data=body, headers=signed(preset, body)))[0] == 200
        assert len(world.kept.messages) == 1


@pytest.mark.parametrize(
    ("preset", "one", "other"),
    [
        ("vonage", b'{"status": "started", "uuid": "1"}', b'{"status": "started", "uuid": "2"}'),  # a call, no text
        ("hubspot", b'[{"eventId": 5, "propertyValue": "a"}]', b'[{"eventId": 5, "propertyValue": "b"}]'),
        ("zoom", b'{"event": "joined", "event_ts": 1, "who": "a"}', b'{"event": "joined", "event_ts": 1, "who": "b"}'),
    ],
)
async def test_events_that_share_all_but_an_id_are_two(preset: str, one: bytes, other: bytes) -> None:
    async with serving(WebhookSpec, **options(preset)) as world:
        for body in (one, other):
            assert (await world.ask("POST", "/", data=body, headers=signed(preset, body)))[0] == 200
        assert len(world.kept.messages) == 2


async def test_two_callers_may_use_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_2", GUESS)
    callers = {"one": SIGNING, "two": {"signature": {"secret": "${env:HOOK_2}"}}}
    body = b'{"a": 1}'
    async with serving(WebhookSpec, preset="standard", callers=callers) as world:
        for secret in (SECRET, GUESS, SECRET):
            assert (await world.ask("POST", "/", data=body, headers=signed("standard", body, secret)))[0] == 200
        assert len(world.kept.messages) == 2


@pytest.mark.parametrize("preset", NAMES)
async def test_what_a_system_did_not_send_is_refused(preset: str) -> None:
    body, known = body_of(preset), load_preset(preset)
    if preset == "zoho":  # the secret is in the body
        body = body.replace(SECRET.encode(), GUESS.encode())
    async with serving(WebhookSpec, **options(preset)) as world:
        forged = [
            await world.ask("POST", "/", data=body),
            await world.ask("POST", "/?code=guess", data=body, headers=signed(preset, body, GUESS)),
        ]
        if preset != "zoho":
            good = signed(preset, body)
            forged.append(await world.ask("POST", "/", data=body.replace(b"1", b"2", 1), headers=good))
            forged.append(await world.ask("POST", "/", data=b"", headers=good))
        if known.signature is not None and preset not in {"twilio", "zoho", "hmac"}:
            for late in (-400, 400):
                headers = signed(preset, body, at=time.time() + late)
                forged.append(await world.ask("POST", "/", data=body, headers=headers))
        assert {found[0] for found in forged} == {401}
        assert not world.kept.messages


async def test_two_secrets_live_while_one_replaces_the_other() -> None:
    body = b'{"a": 1}'
    async with serving(WebhookSpec, **options("standard")) as world:
        for secret, expected in ((SECRET, 200), (OLD, 200), ("bmV4dA==", 401)):
            assert (await world.ask("POST", "/", data=body, headers=signed("standard", body, secret)))[0] == expected


async def test_a_thousand_replays_are_one_message() -> None:
    body = b'{"a": 1}'
    headers = signed("standard", body)
    async with serving(WebhookSpec, **options("standard")) as world:
        for _ in range(10):
            found = await asyncio.gather(*(world.ask("POST", "/", data=body, headers=headers) for _ in range(100)))
            assert {status for status, _, _ in found} == {200}
        assert world.kept.bodies == [body]


async def test_zooms_validation_of_the_address_is_answered_and_not_kept() -> None:
    body = b'{"event":"endpoint.url_validation","payload":{"plainToken":"abc"}}'
    async with serving(WebhookSpec, **options("zoom")) as world:
        status, answer, _ = await world.ask("POST", "/", data=body, headers=signed("zoom", body))
        wanted = hmac.new(SECRET.encode(), b"abc", "sha256").hexdigest()
        assert (status, json.loads(answer)) == (200, {"plainToken": "abc", "encryptedToken": wanted})
        assert (await world.ask("POST", "/", data=body))[0] == 401
        empty = b'{"event":"endpoint.url_validation"}'
        assert (await world.ask("POST", "/", data=empty, headers=signed("zoom", empty)))[0] == 400
        assert not world.kept.messages


async def test_events_of_an_array_are_messages_each_byte_for_byte() -> None:
    one = b'{"subscriptionId":1,"objectId":1,"n":1.10}'
    two = b'{"subscriptionId":1,"objectId":2,"n":12345678901234567890123}'
    body = b" [ " + one + b" ,\n" + two + b"]"
    async with serving(WebhookSpec, **options("hubspot")) as world:
        assert (await world.ask("POST", "/", data=body, headers=signed("hubspot", body)))[0] == 200
        assert sorted(world.kept.bodies) == [one, two]


async def test_texts_that_came_in_are_json_of_their_fields() -> None:
    body = body_of("twilio")
    async with serving(WebhookSpec, **options("twilio")) as world:
        assert (await world.ask("POST", "/", data=body, headers=signed("twilio", body)))[0] == 200
        assert json.loads(world.kept.bodies[0])["Body"] == "STOP"


async def test_salesforce_gets_ack_true_or_false() -> None:
    async with serving(WebhookSpec, **options("salesforce"), accounts=["00D1"]) as world:
        path = f"/?code={SECRET}"
        status, answer, headers = await world.ask("POST", path, data=SOAP)
        assert (status, headers["content-type"]) == (200, "text/xml")
        assert b"<Ack>true</Ack>" in answer
        assert json.loads(world.kept.bodies[0]) == {
            "organization_id": "00D1",
            "action_id": "04k1",
            "id": "04l1",
            "type": "Contact",
            "fields": {"Id": "0031", "LastName": "Oka & Co"},
        }
        other = SOAP.replace(b"00D1", b"00D2")
        assert (await world.ask("POST", path, data=other))[0] == 403
        for bad in (b"<a/>", SOAP[:-9], b'<!DOCTYPE a [<!ENTITY b "c">]>' + SOAP, SOAP.replace(b"2005/09", b"2004/09")):
            assert (await world.ask("POST", path, data=bad))[0] == 400
        world.kept.refusal = NotAccepted("busy", code="AE", condition=207)
        status, answer, _ = await world.ask("POST", path, data=SOAP)
        assert (status, b"<Ack>false</Ack>" in answer) == (503, True)
        assert len(world.kept.messages) == 2


@pytest.mark.parametrize("body", [b"{", b'{"a": 1, "a": 2}', b"\xff", b"[" * 1000])
async def test_what_is_no_json_is_refused_without_repeating_it(body: bytes) -> None:
    async with serving(WebhookSpec, **options("hmac")) as world:
        assert (await world.ask("POST", "/", data=body, headers=signed("hmac", body)))[0] == 400
        assert not world.kept.messages


async def test_garmin_is_known_by_its_client_id_and_a_key_in_the_address() -> None:
    async with serving(WebhookSpec, preset="garmin", callers={"garmin": KEY}, accounts=["c1"]) as world:
        for client, expected in (("c1", 200), ("c2", 403)):
            headers = {"garmin-client-id": client}
            assert (await world.ask("POST", f"/?code={SECRET}", data=b'{"dailies": []}', headers=headers))[
                0
            ] == expected


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"preset": "strip"}, "no preset 'strip'"),
        ({"preset": "stripe"}, "needs `callers`"),
        ({"preset": "twilio", "callers": ["x"]}, "say it in `url`"),
        ({"preset": "hubspot", "callers": ["x"], "url": "hooks"}, "needs the address"),
        ({"preset": "google_health", "callers": ["x"]}, "in `keyset`"),
        ({"preset": "zendesk", "callers": ["x"], "accounts": ["a"]}, "leave `accounts` out"),
    ],
)
def test_what_is_missing_is_told_before_the_start(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        WebhookSpec.model_validate({"endpoint": "127.0.0.1:0", **given})


async def test_our_fault_is_told_to_come_again() -> None:
    body = b'{"a": 1}'
    async with serving(WebhookSpec, **options("standard")) as world:
        world.kept.refusal = NotAccepted("busy", code="AE", condition=207)
        status, _, headers = await world.ask("POST", "/", data=body, headers=signed("standard", body))
        assert (status, headers["retry-after"]) == (503, "5")
        world.kept.refusal = None
        assert (await world.ask("POST", "/", data=body, headers=signed("standard", body)))[0] == 200
