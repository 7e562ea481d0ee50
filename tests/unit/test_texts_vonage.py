"""This module tests what goes to Vonage's two APIs and what their answers mean."""

import base64
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.delivery import Delivered, Outcome, Rejected, Retry, Suppressed, Unknown
from dispatch.http import Answer
from dispatch.texts import vonage_messages, vonage_sms
from dispatch.texts.gateway import Text
from dispatch.texts.vonage_messages import VonageMessages
from dispatch.texts.vonage_sms import VonageSms

SMS = VonageSms("vonage", "https://rest.nexmo.com", "abcd1234", "s3cret", "+12025550100")
KEYED = VonageMessages("vonage", "https://api.nexmo.com", "+12025550100", account="abcd1234", secret="s3cret")
TEXT = Text(to="+12025550123", body="Hi ö & co", key="k" * 32)
VENDOR = Path(__file__).parents[2] / "../shared/vendor-specs/vonage/sms.yml"
GOOD = {"to": "12025550123", "message-id": "0C000000217B7F02", "status": "0", "remaining-balance": "15.5"}
UUID = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"


def sms(*parts: dict[str, Any], status: int = 200) -> Outcome:
    said = {"message-count": str(len(parts)), "messages": list(parts)}
    return SMS.outcome(Answer(status, {}, orjson.dumps(said)), 0.0)


def test_form_holds_number_sender_text_and_key() -> None:
    request = SMS.request(TEXT)
    assert request.url == "https://rest.nexmo.com/sms/json"
    assert parse_qs((request.body or b"").decode(), strict_parsing=True) == {
        "api_key": ["abcd1234"],
        "api_secret": ["s3cret"],
        "from": ["12025550100"],
        "to": ["12025550123"],
        "text": ["Hi ö & co"],
        "type": ["text"],
        "client-ref": ["k" * 32],
    }


def test_form_says_unicode_when_the_alphabet_does_not_do() -> None:
    fields = parse_qs((SMS.request(Text("+1202", "“Hi”", "k")).body or b"").decode())
    assert (fields["type"], fields["text"]) == (["unicode"], ["“Hi”"])


def test_form_asks_for_reports_when_there_is_somebody_to_take_them() -> None:
    gateway = VonageSms("vonage", "https://x", "k", "s", "Clinic", "https://us.example/vonage")
    fields = parse_qs((gateway.request(TEXT).body or b"").decode())
    assert (fields["status-report-req"], fields["callback"]) == (["true"], ["https://us.example/vonage"])


def test_form_has_only_fields_that_the_vendor_describes() -> None:
    if not VENDOR.exists():
        pytest.skip("the vendor's API description is not here (../shared/vendor-specs)")
    described = yaml.safe_load(VENDOR.read_text())["components"]["schemas"]["NewMessage"]["properties"]
    gateway = VonageSms("vonage", "https://x", "k", "s", "Clinic", "https://us.example")
    assert set(parse_qs((gateway.request(TEXT).body or b"").decode())) <= set(described)


def test_text_is_delivered_when_every_part_was_taken() -> None:
    """Each part has a receipt of its own, so each id is kept."""
    done = sms(GOOD, GOOD | {"message-id": "0C000000217B7F03"})
    assert isinstance(done, Delivered)
    assert done.reference == "0C000000217B7F02 0C000000217B7F03"


@pytest.mark.parametrize("status", sorted(vonage_sms.PERMANENT))
def test_text_is_rejected_when_the_status_is_permanent(status: str) -> None:
    done = sms({"status": status, "error-text": "to +12025550123"})
    assert isinstance(done, Rejected)
    assert done.reason == f"HTTP 200 from gateway vonage (status {status}): {vonage_sms.PERMANENT[status]}"


@pytest.mark.parametrize(("status", "after"), [("1", None), ("9", 300.0), ("10", None)])
def test_text_is_tried_again_when_it_was_not_taken_for_now(status: str, after: float | None) -> None:
    done = sms({"status": status})
    assert isinstance(done, Retry)
    assert done.after == after


@pytest.mark.parametrize("status", ["4", "14"])
def test_reason_says_what_to_mend_when_credentials_are_refused(status: str) -> None:
    done = sms({"status": status})
    assert isinstance(done, Rejected)
    assert "mend gateways.vonage in handoff.yaml, then replay" in done.reason


def test_text_is_suppressed_when_the_number_is_barred() -> None:
    assert isinstance(sms({"status": "7"}), Suppressed)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b'{"messages":[]}',
        b'{"messages":{}}',
        b'{"messages":[1]}',
        b'{"messages":[{}]}',
        b'{"messages":[{"status":"5"}]}',  # an error while it was being processed: nobody knows
        b'{"messages":[{"status":"4711"}]}',
        b'{"messages":[{"status":"+12025550123"}]}',
        b'{"messages":[{"status":"0"}]}',
        b'{"messages":[{"status":"0","message-id":"a b"}]}',
        b'{"messages":[{"status":"0","message-id":"a"},{"status":"9"}]}',  # half a text is no text, and was sent
    ],
)
def test_outcome_is_unknown_when_nobody_can_tell(body: bytes) -> None:
    done = SMS.outcome(Answer(200, {}, body), 0.0)
    assert isinstance(done, Unknown)
    assert "555" not in done.reason


@pytest.mark.parametrize(("status", "kind"), [(401, Rejected), (429, Retry), (500, Unknown), (503, Retry)])
def test_status_decides_when_it_is_no_success(status: int, kind: type[Outcome]) -> None:
    assert isinstance(sms(GOOD, status=status), kind)
    assert isinstance(KEYED.outcome(Answer(status, {}, b""), 0.0), kind)


def test_json_holds_number_sender_text_and_key() -> None:
    request = KEYED.request(TEXT)
    assert request.url == "https://api.nexmo.com/v1/messages"
    assert request.headers["Authorization"] == "Basic YWJjZDEyMzQ6czNjcmV0"
    assert orjson.loads(request.body or b"") == {
        "message_type": "text",
        "channel": "sms",
        "from": "12025550100",
        "to": "12025550123",
        "text": "Hi ö & co",
        "client_ref": "k" * 32,
    }


def verified(token: str, key: RSAPrivateKey) -> dict[str, Any]:
    """Return what a token claims, once its signature has been checked (RS256)."""
    signed, _, signature = token.rpartition(".")
    key.public_key().verify(decoded(signature), signed.encode(), PKCS1v15(), SHA256())
    return dict(orjson.loads(decoded(signed.partition(".")[2])))


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_token_is_signed_with_the_applications_key() -> None:
    key = generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    gateway = VonageMessages(
        "v", "https://x", "Clinic", application="app", private_key=pem, callback="https://us.example"
    )
    first, second = gateway.request(TEXT), gateway.request(TEXT)
    assert first.body == second.body
    assert orjson.loads(first.body or b"")["webhook_url"] == "https://us.example"
    claims = [verified(one.headers["Authorization"].removeprefix("Bearer "), key) for one in (first, second)]
    assert claims[0]["application_id"] == "app"
    assert claims[0]["exp"] - claims[0]["iat"] == 300
    assert claims[0]["jti"] != claims[1]["jti"]


def messages(status: int, **said: Any) -> Outcome:
    return KEYED.outcome(Answer(status, {"retry-after": "9"}, orjson.dumps(said)), 0.0)


def problem(status: int, code: str) -> Outcome:
    return messages(status, type=f"https://developer.nexmo.com/api-errors/messages#{code}", title="to +12025550123")


def test_text_is_delivered_when_the_gateway_names_it() -> None:
    done = messages(202, message_uuid=UUID)
    assert isinstance(done, Delivered)
    assert done.reference == UUID


@pytest.mark.parametrize("code", sorted(vonage_messages.PERMANENT))
def test_text_is_rejected_when_the_code_is_permanent(code: str) -> None:
    done = problem(422, code)
    assert isinstance(done, Rejected)
    assert done.reason == f"HTTP 422 from gateway vonage (code {code}): {vonage_messages.PERMANENT[code]}"


def test_codes_of_problems_tell_throttled_and_barred_apart() -> None:
    throttled = problem(429, "1000")
    assert isinstance(throttled, Retry)
    assert throttled.after == 9.0
    assert isinstance(problem(422, "1050"), Suppressed)
    assert isinstance(problem(500, "1050"), Unknown)
    assert isinstance(problem(500, "1030"), Unknown)
    unauthorized = messages(401, type="https://developer.nexmo.com/api-errors/#unauthorized")
    assert isinstance(unauthorized, Rejected)
    assert "mend gateways.vonage" in unauthorized.reason


@pytest.mark.parametrize("said", [{}, {"message_uuid": ""}, {"message_uuid": "a b"}, {"message_uuid": ["x"]}])
def test_outcome_is_unknown_when_success_names_no_text(said: dict[str, Any]) -> None:
    assert isinstance(messages(202, **said), Unknown)
    assert isinstance(messages(200, message_uuid=UUID), Unknown)
