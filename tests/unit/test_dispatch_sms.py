"""This module tests text messages: what is rendered and frozen, what goes on the wire, and what answers mean."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest
from pydantic import ValidationError

from broker.canonical.model import Event, Patient, Source
from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown
from broker.errors import ConfigError, StepError
from broker.message import Document
from dispatch.http import Answer
from dispatch.sms import PERMANENT, Gateway, SmsSpec, e164, find_gateway, form, outcome
from transforms.template import compile_template, compile_value

SID = "SM" + "0" * 32
GATEWAY = Gateway(name="twilio", base="https://api.twilio.com", account="AC1", token="t", sender="+12025550100")
VENDOR = Path(__file__).parents[2] / "../shared/vendor-specs/twilio/twilio_messages.trimmed.json"
KIT = SimpleNamespace(template=compile_template, value=compile_value)


def document(mobile: str | None = "+12025550123", given: str | None = "Ada") -> Document:
    event = Event(kind="patient.registered", source=Source(), patient=Patient(mobile=mobile, given=given))
    return Document(message=None, received_at=0.0, event=event)


def spec(**options: Any) -> SmsSpec:
    return SmsSpec.model_validate(
        {"gateway": "twilio", "to": "{{ patient.mobile }}", "text": "Welcome, {{ patient.given }}", **options}
    )


def render(found: Document, **options: Any) -> bytes:
    return spec(**options).build_renderer(KIT)(found)


def test_request_is_frozen_as_sorted_json() -> None:
    assert render(document()) == b'{"text":"Welcome, Ada","to":"+12025550123"}'


def test_request_is_the_same_each_time() -> None:
    assert render(document()) == render(document())


@pytest.mark.parametrize(
    ("number", "region", "expected"),
    [
        ("+1 (202) 555-0123", "", "+12025550123"),
        ("(202) 555-0123", "US", "+12025550123"),
        ("+44 20 7946 0958", "US", "+442079460958"),
        ("030 123456", "DE", "+4930123456"),
        (" +15005550006 ", "", "+15005550006"),
    ],
)
def test_number_becomes_e164(number: str, region: str, expected: str) -> None:
    assert e164(number, region) == expected


@pytest.mark.parametrize(
    "number", ["2025550123", "+1202555", "ask the nurse", "+999999999999999999", "+1 202 555 0123 99"]
)
def test_number_is_refused_without_being_shown(number: str) -> None:
    with pytest.raises(StepError) as caught:
        e164(number)
    assert "country code" in str(caught.value)
    assert number not in str(caught.value)


@pytest.mark.parametrize("number", [None, "", "  "])
def test_number_is_refused_when_there_is_none(number: str | None) -> None:
    with pytest.raises(StepError, match="no number"):
        render(document(mobile=number))


def test_text_is_refused_when_empty() -> None:
    with pytest.raises(StepError, match="empty"):
        render(document(given=None), text="{{ patient.given }}")


def test_text_is_refused_when_too_long_and_taken_at_the_limit() -> None:
    assert len(orjson.loads(render(document(given="x" * 1600), text="{{ patient.given }}"))["text"]) == 1600
    with pytest.raises(StepError, match="1601 characters"):
        render(document(given="x" * 1601), text="{{ patient.given }}")


def test_policy_is_to_hold_when_the_outcome_is_unknown() -> None:
    assert spec().unknown_policy() == "hold"


@pytest.mark.parametrize(
    "options", [{"region": "us"}, {"timeout": "0s"}, {"timeout": 5}, {"concurrency": 0}, {"number": "x"}]
)
def test_options_are_refused_when_wrong(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**options)


def delivery() -> Delivery:
    return Delivery(id=64, route=1, key="key/1", request=b'{"text":"Hi \xc3\xb6 & co","to":"+12025550123"}')


def test_form_holds_number_sender_and_text() -> None:
    fields = parse_qs(form(GATEWAY, delivery()).decode(), strict_parsing=True)
    assert fields == {"To": ["+12025550123"], "From": ["+12025550100"], "Body": ["Hi ö & co"]}


def test_form_names_a_messaging_service_when_the_sender_is_one() -> None:
    fields = parse_qs(form(replace(GATEWAY, sender="MG1"), delivery()).decode())
    assert fields["MessagingServiceSid"] == ["MG1"]
    assert "From" not in fields


def test_form_asks_for_a_callback_that_names_the_delivery() -> None:
    fields = parse_qs(form(replace(GATEWAY, callback="https://us.example/twilio"), delivery()).decode())
    assert fields["StatusCallback"] == ["https://us.example/twilio?delivery=key%2F1"]


def test_form_has_only_fields_that_the_vendor_describes() -> None:
    if not VENDOR.exists():
        pytest.skip("the vendor's API description is not here (../shared/vendor-specs)")
    path = "/2010-04-01/Accounts/{AccountSid}/Messages.json"
    body = orjson.loads(VENDOR.read_bytes())["paths"][path]["post"]["requestBody"]["content"]
    described = body["application/x-www-form-urlencoded"]["schema"]["properties"]
    for sender in ("+12025550100", "MG1"):
        fields = parse_qs(form(replace(GATEWAY, sender=sender, callback="https://us.example"), delivery()).decode())
        assert set(fields) <= set(described)


def answer(http: int, **said: Any) -> Outcome:
    return outcome(Answer(http, {}, orjson.dumps(said)), "twilio", 0.0)


def test_text_is_delivered_when_the_gateway_names_it() -> None:
    done = answer(201, sid=SID, status="queued", error_code=None)
    assert isinstance(done, Delivered)
    assert done.reference == SID


@pytest.mark.parametrize("code", sorted(PERMANENT))
def test_text_is_rejected_when_the_code_is_permanent(code: int) -> None:
    done = answer(400, code=code, message="To +12025550123 is bad", status=400)
    assert isinstance(done, Rejected)
    assert done.reason == f"HTTP 400 from gateway twilio (code {code}): {PERMANENT[code]}"


@pytest.mark.parametrize(("status", "code"), [(429, 20429), (400, 20429), (429, None), (503, None), (400, 30001)])
def test_text_is_tried_again_when_the_gateway_did_not_take_it(status: int, code: int | None) -> None:
    assert isinstance(answer(status, code=code), Retry)


@pytest.mark.parametrize(("status", "code"), [(401, 20003), (401, None), (403, 20003)])
def test_reason_says_what_to_mend_when_credentials_are_refused(status: int, code: int | None) -> None:
    done = answer(status, code=code, message="Authenticate")
    assert isinstance(done, Rejected)
    assert "mend gateways.twilio in handoff.yaml, then replay" in done.reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>ok</html>",
        b"[]",
        b'{"code":21211,"message":"no","status":400}',
        b'{"sid":null,"status":"queued"}',
        b'{"sid":"SM 1"}',
    ],
)
def test_outcome_is_unknown_when_success_names_no_text(body: bytes) -> None:
    assert isinstance(outcome(Answer(201, {}, body), "twilio", 0.0), Unknown)


def test_text_is_rejected_when_it_was_given_up_at_once() -> None:
    done = answer(201, sid=SID, status="failed", error_code=30007)
    assert isinstance(done, Rejected)
    assert "the carrier filtered the message" in done.reason


@pytest.mark.parametrize("status", [500, 502, 504])
def test_outcome_is_unknown_when_the_gateway_breaks_down(status: int) -> None:
    assert isinstance(answer(status, code=20500), Unknown)
    assert isinstance(answer(status, code=21211), Unknown)


def test_gateway_is_looked_up_by_name() -> None:
    entry = SimpleNamespace(base="https://api.twilio.com/", account="AC1", token="t", sender="+12025550100")
    assert find_gateway(SimpleNamespace(gateways={"twilio": entry}), "twilio", "adt") == GATEWAY


def test_gateway_is_refused_when_nobody_declared_it() -> None:
    with pytest.raises(ConfigError, match=r"channel adt: gateway 'twillio' is not in handoff.yaml .*\(there: twilio\)"):
        find_gateway(SimpleNamespace(gateways={"twilio": None}), "twillio", "adt")


@pytest.mark.parametrize(("missing", "told"), [("base", "base"), ("account", "`account`"), ("sender", "`from`")])
def test_gateway_is_refused_when_incomplete(missing: str, told: str) -> None:
    whole = {"base": "https://api.twilio.com", "account": "AC1", "token": "t", "sender": "+12025550100"}
    entry = SimpleNamespace(**{name: value for name, value in whole.items() if name != missing})
    with pytest.raises(ConfigError, match=f"handoff.yaml, gateways.twilio.*{told}"):
        find_gateway(SimpleNamespace(gateways={"twilio": entry}), "twilio", "adt")
