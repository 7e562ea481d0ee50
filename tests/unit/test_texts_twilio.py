"""This module tests what goes to Twilio and what its answers mean."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest

from broker.delivery import Delivered, Outcome, Rejected, Retry, Suppressed, Unknown
from dispatch.http import Answer
from dispatch.texts.gateway import Text
from dispatch.texts.twilio import PERMANENT, Twilio

SID = "SM" + "0" * 32
TWILIO = Twilio(name="twilio", base="https://api.twilio.com", account="AC1", token="t", sender="+12025550100")
TEXT = Text(to="+12025550123", body="Hi ö & co", key="key/1")
VENDOR = Path(__file__).parents[2] / "../shared/vendor-specs/twilio/twilio_messages.trimmed.json"


def test_request_goes_to_the_account_with_its_token() -> None:
    request = TWILIO.request(TEXT)
    assert (request.method, request.url) == ("POST", "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages.json")
    assert request.headers["Authorization"] == "Basic QUMxOnQ="
    assert request.headers["X-Request-Id"] == "key/1"
    assert "555" not in repr(request)
    assert "555" not in repr(TEXT)


def test_form_holds_number_sender_and_text() -> None:
    fields = parse_qs(TWILIO.form(TEXT).decode(), strict_parsing=True)
    assert fields == {"To": ["+12025550123"], "From": ["+12025550100"], "Body": ["Hi ö & co"]}


def test_form_names_a_messaging_service_when_the_sender_is_one() -> None:
    fields = parse_qs(replace(TWILIO, sender="MG1").form(TEXT).decode())
    assert fields["MessagingServiceSid"] == ["MG1"]
    assert "From" not in fields


def test_form_asks_for_a_callback_that_names_the_delivery() -> None:
    fields = parse_qs(replace(TWILIO, callback="https://us.example/twilio").form(TEXT).decode())
    assert fields["StatusCallback"] == ["https://us.example/twilio?delivery=key%2F1"]


def test_form_has_only_fields_that_the_vendor_describes() -> None:
    if not VENDOR.exists():
        pytest.skip("the vendor's API description is not here (../shared/vendor-specs)")
    path = "/2010-04-01/Accounts/{AccountSid}/Messages.json"
    body = orjson.loads(VENDOR.read_bytes())["paths"][path]["post"]["requestBody"]["content"]
    described = body["application/x-www-form-urlencoded"]["schema"]["properties"]
    for sender in ("+12025550100", "MG1"):
        fields = parse_qs(replace(TWILIO, sender=sender, callback="https://us.example").form(TEXT).decode())
        assert set(fields) <= set(described)


def answer(http: int, **said: Any) -> Outcome:
    return TWILIO.outcome(Answer(http, {}, orjson.dumps(said)), 0.0)


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
    assert isinstance(TWILIO.outcome(Answer(201, {}, body), 0.0), Unknown)


def test_text_is_rejected_when_it_was_given_up_at_once() -> None:
    done = answer(201, sid=SID, status="failed", error_code=30007)
    assert isinstance(done, Rejected)
    assert "the carrier filtered the message" in done.reason


@pytest.mark.parametrize("status", [500, 502, 504])
def test_outcome_is_unknown_when_the_gateway_breaks_down(status: int) -> None:
    assert isinstance(answer(status, code=20500), Unknown)
    assert isinstance(answer(status, code=21211), Unknown)


def test_text_is_suppressed_when_the_recipient_opted_out() -> None:
    done = answer(400, code=21610, message="Attempt to send to unsubscribed recipient +12025550123", status=400)
    assert isinstance(done, Suppressed)
    assert done.reason == "HTTP 400 from gateway twilio (code 21610): the recipient has opted out"
    assert isinstance(answer(201, sid=SID, status="failed", error_code=21610), Suppressed)
    assert isinstance(answer(500, code=21610), Unknown)
