"""Callbacks of gateways keep the contract: what is signed as they say is kept once, what nobody signed is refused.

The requests are signed here, by the formulas that Twilio and Vonage publish; none is one that they sent.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlencode

import jwt
import pytest

from broker.errors import NotReady
from listeners.callbacks import CallbacksSpec
from tests import http_peer
from tests.http_peer import World

URL: Final = "https://hooks.example.org/texts"
SECRET: Final = "secret-of-thirty-two-characters!"
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", SECRET)


@contextlib.asynccontextmanager
async def serving(kind: str, **options: Any) -> AsyncIterator[World]:
    """Run the listener of a gateway on a free port."""
    gateways = {"carrier": SimpleNamespace(kind=kind, callback=URL)}
    given = {"gateway": "carrier", **options}
    signing = {"them": {"signature": {"secret": "${env:HOOK}"}}}
    async with http_peer.serving(CallbacksSpec, "text", signing, gateways=gateways, **given) as world:
        yield world


def twilio(fields: dict[str, str], secret: str = SECRET) -> dict[str, Any]:
    text = URL + "".join(name + fields[name] for name in sorted(fields))
    signature = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1")).decode()
    return {"data": urlencode(fields), "headers": FORM | {"X-Twilio-Signature": signature}}


def vonage_sms(fields: dict[str, str], secret: str = SECRET, late: float = 0) -> dict[str, Any]:
    """Sign by the formula that Vonage publishes ("Signing messages")."""
    fields = fields | {"timestamp": str(int(time.time() - late)), "nonce": str(time.time_ns())}
    hasher = hmac.new(secret.encode(), digestmod=hashlib.sha256)
    for name in sorted(fields):
        hasher.update(f"&{name}={fields[name].replace('&', '_').replace('=', '_')}".encode())
    return {"json": fields | {"sig": hasher.hexdigest()}}


def vonage(fields: dict[str, Any], secret: str = SECRET) -> dict[str, Any]:
    body = json.dumps(fields).encode()
    claims = {"iat": int(time.time()), "payload_hash": hashlib.sha256(body).hexdigest()}
    headers = {"Authorization": f"Bearer {jwt.encode(claims, secret, 'HS256')}", "Content-Type": "application/json"}
    return {"data": body, "headers": headers}


SIGN: Final[dict[str, Any]] = {"twilio": twilio, "vonage-sms": vonage_sms, "vonage-messages": vonage}
PROBLEM: Final = "https://developer.vonage.com/api-errors/messages#1260"
REPORTS: Final = [
    ("twilio", {"MessageSid": "m1", "MessageStatus": "sent"}, ("sent", "")),
    ("twilio", {"MessageSid": "m1", "MessageStatus": "delivered", "To": "+1202"}, ("delivered", "")),
    ("twilio", {"MessageSid": "m1", "MessageStatus": "undelivered", "ErrorCode": "30005"}, ("undeliverable", "30005")),
    ("twilio", {"MessageSid": "m1", "MessageStatus": "queued"}, None),
    ("vonage-sms", {"messageId": "m1", "status": "expired", "err-code": "1"}, ("expired", "1")),
    ("vonage-sms", {"messageId": "m1", "status": "delivered", "err-code": "0"}, ("delivered", "")),
    ("vonage-messages", {"message_uuid": "m1", "status": "submitted"}, ("sent", "")),
    (
        "vonage-messages",
        {"message_uuid": "m1", "status": "rejected", "error": {"type": PROBLEM}},
        ("rejected", "1260"),
    ),
]
SAID: Final = {"gateway": "carrier", "kind": "reply", "from": "+12025550123", "to": "+12055550100", "text": "a&b = c"}
REPLIES: Final = [
    ("twilio", {"MessageSid": "m2", "From": "+12025550123", "To": "+12055550100", "Body": "a&b = c"}, {}),
    (
        "twilio",
        {
            "MessageSid": "m2",
            "From": "+12025550123",
            "To": "+12055550100",
            "Body": "a&b = c",
            "OptOutType": "STOP",
        },
        {"wish": "stop"},
    ),
    (
        "vonage-sms",
        {
            "messageId": "m2",
            "msisdn": "12025550123",
            "to": "12055550100",
            "text": "a&b = c",
            "message-timestamp": "2026-11-28 01:00:00",
            "concat": "true",
            "concat-ref": "7",
            "concat-total": "2",
            "concat-part": "1",
        },
        {"at": "2026-11-28T01:00:00.000+00:00", "part": {"reference": 7, "total": 2, "number": 1}},
    ),
    (
        "vonage-messages",
        {
            "message_uuid": "m2",
            "from": "12025550123",
            "to": "12055550100",
            "text": "a&b = c",
            "timestamp": "2026-11-28T01:00:00Z",
        },
        {"at": "2026-11-28T01:00:00.000+00:00"},
    ),
]


@pytest.mark.parametrize(("kind", "fields", "expected"), REPORTS)
async def test_what_became_of_a_text_is_reported(kind: str, fields: Any, expected: Any) -> None:
    async with serving(kind) as world:
        assert (await world.ask("POST", "/", **SIGN[kind](fields)))[0] == 200
        reported = [(one.reference, one.state, one.code) for one in world.kept.reports]
        assert reported == ([] if expected is None else [("carrier/m1", *expected)])
        assert not world.kept.messages


@pytest.mark.parametrize(("kind", "fields", "more"), REPLIES)
async def test_a_reply_is_one_message_however_often_it_is_brought(kind: str, fields: Any, more: Any) -> None:
    async with serving(kind) as world:
        for _ in range(2):
            assert (await world.ask("POST", "/", **SIGN[kind](fields)))[0] == 200
        assert [json.loads(body) for body in world.kept.bodies] == [SAID | more]


async def test_a_text_that_failed_because_of_an_opt_out_is_an_opt_out() -> None:
    fields = {"MessageSid": "m1", "MessageStatus": "failed", "ErrorCode": "21610", "To": "+12025550123"}
    async with serving("twilio") as world:
        for _ in range(2):
            assert (await world.ask("POST", "/", **twilio(fields)))[0] == 200
        assert [json.loads(body)["kind"] for body in world.kept.bodies] == ["opted_out"]


@pytest.mark.parametrize("kind", SIGN)
async def test_what_the_gateway_did_not_sign_is_refused(kind: str) -> None:
    fields: Any = next(fields for name, fields, _ in REPORTS if name == kind)
    good = SIGN[kind](fields)
    forged = [SIGN[kind](fields, "guess-of-thirty-two-characters!!"), {"json": fields}]
    if "json" in good:
        forged += [{"json": good["json"] | {"messageId": "m2"}}, vonage_sms(fields, late=400), {"data": b"\xff"}]
        forged += [vonage_sms(fields, late=-400), {"json": [1]}, {"json": good["json"] | {"sig": "é"}}]
    else:
        changed = good["data"].replace(*(("m1", "m2") if isinstance(good["data"], str) else (b"m1", b"m2")))
        forged.append(good | {"data": changed})
    async with serving(kind) as world:
        for request in forged:
            assert (await world.ask("POST", "/", **request))[0] == 401
        assert not world.kept.reports
        assert not world.kept.messages


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("twilio", {"MessageStatus": "sent"}),
        ("twilio", {"MessageSid": "m1"}),
        ("vonage-messages", {"message_uuid": ["m1"], "status": "delivered"}),
        ("vonage-messages", [1]),
    ],
)
async def test_what_is_neither_report_nor_text_is_refused(kind: str, fields: Any) -> None:
    async with serving(kind) as world:
        assert (await world.ask("POST", "/", **SIGN[kind](fields)))[0] == 400


async def test_a_report_that_cannot_be_kept_is_asked_for_again() -> None:
    async with serving("twilio") as world:
        world.kept.full = True
        status, _, headers = await world.ask("POST", "/", **twilio({"MessageSid": "m1", "MessageStatus": "sent"}))
        assert (status, headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize(
    ("gateway", "text"),
    [
        (SimpleNamespace(kind="smpp"), "no Twilio or Vonage gateway carrier"),
        (SimpleNamespace(kind="twilio", callback=None), "say in `url`"),
    ],
)
async def test_what_is_missing_is_told(gateway: Any, text: str) -> None:
    signing = {"them": {"signature": {"secret": "${env:HOOK}"}}}
    with pytest.raises(NotReady, match=text):
        async with http_peer.serving(CallbacksSpec, "text", signing, gateways={"carrier": gateway}, gateway="carrier"):
            pass


def test_callbacks_without_callers_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="name the caller"):
        CallbacksSpec.model_validate({"endpoint": "127.0.0.1:0", "gateway": "carrier"})


async def test_reports_are_taken_while_the_disk_is_nearly_full() -> None:
    async with serving("twilio") as world:
        world.tools.pressure.look(0)
        request = twilio({"MessageSid": "m1", "MessageStatus": "delivered"})
        assert (await world.ask("POST", "/", **request))[0] < 300
        assert [report.state for report in world.kept.reports] == ["delivered"]
