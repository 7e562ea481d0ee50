"""This module tests gateways that a site describes as data, from the description to what answers mean."""

from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.delivery import Delivered, Outcome, Rejected, Retry, Suppressed, Unknown
from config.gateways import HttpSpec
from dispatch.http import Answer
from dispatch.texts.gateway import HttpGateway, Text
from dispatch.texts.generic import Generic

BODY = {"to": "{{ to }}", "message": "{{ text }}"}
TEXT = Text(to="+12025550123", body='Hi <ö> & "co"', key="k" * 32)


def gateway(**options: Any) -> Generic:
    declared = {"kind": "http", "base": "https://texts.example/api/", "body": BODY, **options}
    spec = HttpSpec.model_validate_json(orjson.dumps(declared), strict=True)
    tools = cast("Any", SimpleNamespace())
    built = spec.build("local", tools, timeout=1.0, limit=1)
    assert isinstance(built, HttpGateway)
    assert isinstance(built.api, Generic)
    return built.api


def test_json_body_takes_values_wherever_a_hole_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_SECRET", "s3cret")
    body = {
        "messages": [{"to": "{{digits}}", "content": "{{ text }}", "ref": "ref-{{ key }}"}],
        "from": "{{ from }}",
        "flash": False,
        "parts": 2,
    }
    request = gateway(
        path="/v2/{{ account }}/send",
        body=body,
        account="a/b",
        secret="${env:LOCAL_SECRET}",
        headers={"X-Api-Key": "{{ secret }}"},
        **{"from": "Clinic"},
    ).request(TEXT)
    assert (request.method, request.url) == ("POST", "https://texts.example/api/v2/a%2Fb/send")
    assert request.headers["X-Api-Key"] == "s3cret"
    assert request.headers["Content-Type"] == "application/json"
    assert orjson.loads(request.body or b"") == {
        "messages": [{"to": "12025550123", "content": TEXT.body, "ref": "ref-" + "k" * 32}],
        "from": "Clinic",
        "flash": False,
        "parts": 2,
    }


def test_form_query_and_xml_escape_what_they_take() -> None:
    form = gateway(content="form").request(TEXT)
    assert parse_qs((form.body or b"").decode()) == {"to": [TEXT.to], "message": [TEXT.body]}
    query = gateway(method="GET", body=None, query=BODY).request(TEXT)
    assert (query.method, query.body) == ("GET", None)
    assert parse_qs(urlsplit(query.url).query) == {"to": [TEXT.to], "message": [TEXT.body]}
    xml = gateway(content="xml", body='<sms to="{{ to }}"><text>{{ text }}</text></sms>').request(TEXT)
    root = fromstring(xml.body or b"")
    assert (root.get("to"), root.findtext("text")) == (TEXT.to, TEXT.body)


@given(st.text(max_size=200))
def test_no_text_changes_the_form_of_a_request(text: str) -> None:
    one = Text(to="+1202", body=text.encode("utf-8", "replace").decode(), key="k")
    assert orjson.loads(gateway().request(one).body or b"") == {"to": "+1202", "message": one.body}
    xml = gateway(content="xml", body='<sms to="{{ to }}"><text a="{{ text }}"/></sms>').request(one).body or b""
    root = fromstring(xml)
    assert [root.tag, *root.attrib, *(inner.tag for inner in root)] == ["sms", "to", "text"]
    hostile = gateway(path="/{{ text }}/x").request(one).url
    assert urlsplit(hostile).netloc == "texts.example"
    assert hostile.count("/") == 5


@pytest.mark.parametrize(
    ("authorization", "expected"), [("basic", "Basic YWNjOnMzY3JldA=="), ("bearer", "Bearer s3cret"), ("none", None)]
)
def test_authorization_is_made_of_account_and_secret(
    authorization: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_SECRET", "s3cret")
    found = gateway(authorization=authorization, account="acc", secret="${env:LOCAL_SECRET}").request(TEXT)
    assert found.headers.get("Authorization") == expected


def meets(status: int, body: bytes | str | dict[str, Any] | list[Any], **options: Any) -> Outcome:
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else orjson.dumps(body)
    return gateway(**options).outcome(Answer(status, {}, data), 0.0)


def test_success_by_default_is_any_2xx() -> None:
    assert meets(204, b"") == Delivered()
    assert isinstance(meets(503, b""), Retry)
    assert isinstance(meets(404, b""), Rejected)
    assert isinstance(meets(500, b""), Unknown)


JSON_ANSWER: dict[str, Any] = {
    "success": {"field": "messages.0.ok", "equals": [True]},
    "reference": "messages.0.id",
    "errors": [
        {"field": "error.code", "equals": [21610, "stop"], "then": "suppress"},
        {"status": [420], "then": "retry", "after": "30s", "reason": "too many"},
        {"field": "error.code", "then": "reject", "reason": "refused"},
    ],
}


def test_json_answers_are_told_apart_by_their_values() -> None:
    done = meets(200, {"messages": [{"ok": True, "id": 17}]}, **JSON_ANSWER)
    assert isinstance(done, Delivered)
    assert done.reference == "17"
    assert isinstance(meets(200, {"error": {"code": 21610}}, **JSON_ANSWER), Suppressed)
    assert isinstance(meets(400, {"error": {"code": "stop"}}, **JSON_ANSWER), Suppressed)
    refused = meets(200, {"error": {"code": 7, "text": "+12025550123"}}, **JSON_ANSWER)
    assert isinstance(refused, Rejected)
    assert refused.reason == "HTTP 200 from gateway local: refused"
    later = meets(420, b"", **JSON_ANSWER)
    assert isinstance(later, Retry)
    assert later.after == 30.0
    # A success without the reference that was promised, an answer that nothing describes, no JSON at all.
    others: list[Any] = [
        {"messages": [{"ok": True}]},
        {"messages": [{"ok": False}]},
        {"messages": {}},
        [],
        "<html>",
        b"\xff",
    ]
    for body in others:
        assert isinstance(meets(200, body, **JSON_ANSWER), Unknown)


def test_text_answers_are_told_apart_by_patterns() -> None:
    options = {
        "success": {"pattern": "^OK "},
        "reference_pattern": r"^OK (\S+)",
        "errors": [{"pattern": "^ERR 13", "then": "reject"}, {"pattern": "^BUSY", "then": "unknown"}],
    }
    done = meets(200, "OK abc-1\n", **options)
    assert isinstance(done, Delivered)
    assert done.reference == "abc-1"
    assert isinstance(meets(200, "ERR 13 bad number", **options), Rejected)
    assert isinstance(meets(200, "BUSY", **options), Unknown)
    assert isinstance(meets(200, "OK ", **options), Unknown)
    assert isinstance(meets(500, "OK abc-1", **options), Unknown)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"body": {"to": "{{ to }}"}}, "it sends no {{ to }} and {{ text }}"),
        ({"body": {"text": "{{ text }}"}}, "it sends no {{ to }} and {{ text }}"),
        ({"body": {**BODY, "x": ["{{ patient.name }}"]}}, "has no value for {{ patient.name }}"),
        ({"headers": {"X-Text": "{{ text }}"}}, "has no value for {{ text }}"),
        ({"headers": {"X Text": "a"}}, "HTTP headers"),
        ({"headers": {"X": "a\r\nY: b"}}, "HTTP headers"),
        ({"content": "xml"}, "'body' is text for xml"),
        ({"body": "{{ to }} {{ text }}"}, "'body' is text for xml"),
        ({"content": "form", "body": {**BODY, "n": 1}}, "put numbers in quotes"),
        ({"authorization": "bearer"}, "it needs `secret`"),
        ({"headers": {"X": "{{ secret }}"}}, "it needs `secret`"),
        ({"success": {}}, "it says nothing of the answer"),
        ({"success": {"equals": ["x"], "status": [200]}}, "add `field`"),
        ({"errors": [{"pattern": "(", "then": "retry"}]}, "needs a regular expression"),
        ({"reference_pattern": "OK"}, "needs a group"),
        ({"reference_pattern": "("}, "needs a regular expression"),
        ({"path": "send"}, "path"),
        ({"path": "/a?b"}, "path"),
    ],
)
def test_description_is_refused_when_it_cannot_work(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        gateway(**options)
    assert told in str(refusal.value)
