"""This module tests what presets may say, the signature of webhooks, and small readers of answers and batches."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.delivery import Delivered, Rejected, Retry, Unknown
from dispatch.http import Answer
from dispatch.web import odata
from dispatch.web.answers import Reader, Refresh, asked, first_code, fits, look
from dispatch.web.preset import OperationSpec, PresetSpec, WaitSpec, fill, reads, variables_in
from dispatch.web.signature import signed, signing_key


@pytest.mark.parametrize(
    "path", ["https://evil.example/x", "//evil.example/x", "/x", "a b", "a\\b", "a?b=1", "a#b", "../x", "a/../b", "\t"]
)
def test_path_that_may_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="below the base"):
        OperationSpec.model_validate({"path": path})


@pytest.mark.parametrize("path", ["", "a/b", 'a({{ key | replace("\'", "\'\'") }})', "$batch", "externalId={{ key }}"])
def test_path_below_the_base_is_taken(path: str) -> None:
    assert OperationSpec.model_validate({"path": path}).path == path


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"row": {"a": 1}}, "belong together"),
        ({"batch": {"size": 5}}, "belong together"),
        ({"row": {"a": 1}, "body": {"x": "rows"}, "batch": {"size": 5}}, "no place for rows"),
        ({"once": "search"}, "needs `find`"),
        ({"row": {"a": 1}, "body": ["{{ rows }}"], "batch": {"size": 5}, "encoding": "form"}, "are JSON"),
        ({"encoding": "form", "body": "a=b"}, "needs keys and values"),
        ({"rules": [{"then": "retry"}]}, "needs a condition"),
        ({"headers": {"X Y": "a"}}, "should match pattern"),
        ({"success": {"status": [99]}}, "greater than or equal to 100"),
        ({"values": {"Big": {"about": "x"}}}, "should match pattern"),
        ({"batch": {"size": 0}, "row": {}}, "greater than or equal to 1"),
        ({"content_type": "a\r\nb"}, "should match pattern"),
    ],
)
def test_operation_that_cannot_work_is_refused(operation: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OperationSpec.model_validate(operation)


@pytest.mark.parametrize("base", ["ftp://x", "https://x?y", "https://u:p@x", "x.example"])
def test_base_of_a_preset_is_a_plain_address(base: str) -> None:
    with pytest.raises(ValidationError, match="needs an address"):
        PresetSpec.model_validate({"preset": "x", "name": "X", "base": base})


def test_values_of_a_preset_go_to_the_operations_that_read_them() -> None:
    tree = {
        "preset": "x",
        "name": "X",
        "values": {"a": {"about": "A", "default": 1}, "b": {"about": "B", "default": 2}},
        "operations": {
            "one": {"path": "{{ a | urlencode }}"},
            "two": {"body": {"{{ b }}": 1}, "values": {"b": {"about": "own", "default": 3}}},
            "three": {"body": {"x": "a b"}},
        },
    }
    found = PresetSpec.model_validate(tree).operations
    assert {name: {key: value.default for key, value in each.values.items()} for name, each in found.items()} == {
        "one": {"a": 1},
        "two": {"b": 3},
        "three": {},
    }
    assert tree["operations"]["one"] == {"path": "{{ a | urlencode }}"}  # type: ignore[index]  # what was read stays


@pytest.mark.parametrize("tree", [{"operations": []}, {"operations": {"a": 1}, "values": {}}, {"values": 3}, 7])
def test_preset_of_another_form_is_refused_and_does_not_raise_otherwise(tree: Any) -> None:
    with pytest.raises(ValidationError):
        PresetSpec.model_validate(tree)


def test_variables_are_filled_in() -> None:
    tree = {"preset": "x", "name": "X", "variables": {"a": {"about": "A"}, "b": {"about": "B", "default": "bb"}}}
    preset = PresetSpec.model_validate(tree)
    assert variables_in("https://{a}.{b}/x") == ["a", "b"]
    assert fill("https://{a}.{b}/x", preset, {"a": "aa"}) == "https://aa.bb/x"
    with pytest.raises(KeyError, match="a"):
        fill("{a}", preset, {})


def test_names_are_read_in_holes_only() -> None:
    assert reads("x {{ key | upper }}", "key")
    assert reads("{% if key %}x{% endif %}", "key")
    assert not reads("key {{ keys }} {{ a.b }}", "key")


# Signatures


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Connection?", "Expect"])
def test_headers_that_frame_a_request_or_name_its_host_are_not_a_presets_to_write(name: str) -> None:
    for tree in ({"headers": {name: "x"}}, {"operations": {"send": {"headers": {name: "{{ patient.mrn }}"}}}}):
        with pytest.raises(ValidationError, match="the transport writes this header itself"):
            PresetSpec.model_validate({"preset": "own", "name": "Own", **tree})


def test_value_of_a_header_is_one_line() -> None:
    with pytest.raises(ValidationError, match="one line"):
        OperationSpec.model_validate({"headers": {"X-Way": "a\r\nHost: b"}})
    assert OperationSpec.model_validate({"headers": {"X-Way": "a {{\n patient.mrn }}"}}).headers


def test_signature_is_that_of_the_specification() -> None:
    """The example of Standard Webhooks' own libraries."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_secret_is_base64_after_its_prefix() -> None:
    assert signing_key("plain") == b"plain"
    with pytest.raises(ValueError, match="base64") as caught:
        signing_key("whsec_no base64!")
    assert "no base64!" not in str(caught.value)


# Answers


def test_path_leads_through_mappings_and_lists() -> None:
    said = {"a": [{"b": 1}, {"b": 2}], "c": None}
    assert look(said, "a.1.b") == 2
    assert look(said, "a.*.b") == [1, 2]
    assert look(said, "") is said
    assert [look(said, path) for path in ("a.2.b", "a.x", "c.d", "z", "a.b")] == [None] * 5
    assert look(said, "c.*.b") == []


@pytest.mark.parametrize(
    ("value", "code"),
    [("INVALID_FIELD", "INVALID_FIELD"), (21211, "21211"), ("0x80072322", "0x80072322"), (True, ""), (None, "")],
)
def test_code_is_a_word_or_a_number(value: object, code: str) -> None:
    assert first_code({"code": value}, ["nowhere", "code"]) == code


@given(st.text(alphabet="abc O'-é\n", min_size=1))
def test_what_has_blanks_or_is_long_is_no_code(text: str) -> None:
    found = first_code({"code": text}, ["code"])
    assert found in {"", text}
    assert " " not in found
    assert first_code({"code": text * 70}, ["code"]) in {"", text * 70 if len(text * 70) <= 64 else ""}


def test_statuses_are_numbers_or_classes() -> None:
    assert fits(201, ["2xx"])
    assert fits(429, [400, 429])
    assert not fits(500, ["4xx", 501])


@pytest.mark.parametrize(
    ("headers", "unit", "seconds"),
    [
        ({"x-wait": "12"}, "seconds", 12.0),
        ({"x-wait": "1500"}, "milliseconds", 1.5),
        ({"x-wait": "soon"}, "seconds", None),
        ({}, "seconds", None),
        ({"x-wait": "2020-01-01T00:00:00Z"}, "time", 0.0),
        ({"x-wait": "2020-01-01T00:00:00"}, "time", None),
        ({"x-wait": "9999999999"}, "epoch", 86_400.0),
        ({"x-wait": "7", "retry-after": "3"}, "seconds", 3.0),
    ],
)
def test_wait_is_read_from_headers(headers: dict[str, str], unit: str, seconds: float | None) -> None:
    wait = WaitSpec.model_validate({"header": "X-Wait", "unit": unit})
    assert asked(headers, [wait]) == seconds


def reader(success: dict[str, Any] | None = None, errors: dict[str, Any] | None = None) -> Reader:
    preset = PresetSpec.model_validate({"preset": "x", "name": "X", "errors": errors or {}})
    return Reader("system x", preset, OperationSpec.model_validate({"success": success or {}}))


def test_first_rule_that_fits_decides() -> None:
    rules = [
        {"status": [400], "code": ["A"], "then": "retry", "wait": "5s"},
        {"code": ["B"], "then": "done"},
        {"status": ["4xx"], "says": ["Locked"], "then": "unknown"},
        {"status": [499], "then": "refresh"},
    ]
    found = reader(errors={"codes": ["code"], "messages": ["text"], "rules": rules})

    def means(status: int, body: bytes) -> Any:
        return found.read(Answer(status, {}, body), [b""])[0]

    assert means(400, b'{"code":"A"}') == Retry("HTTP 400 from system x (code A)", 5.0, b'{"code":"A"}')
    assert isinstance(means(500, b'{"code":"A"}'), Unknown)
    assert isinstance(means(409, b'{"code":"B"}'), Delivered)
    assert isinstance(means(409, b'{"code":"C","text":"it is LOCKED by O\'Hara"}'), Unknown)
    assert isinstance(means(409, b'{"code":"C"}'), Rejected)
    assert isinstance(means(499, b""), Refresh)
    assert isinstance(means(401, b""), Refresh)


def test_2xx_that_is_none_of_the_good_ones_is_unknown() -> None:
    (outcome,) = reader({"status": [201]}).read(Answer(200), [b""])
    assert isinstance(outcome, Unknown)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b'{"ok":[true,true]}', Delivered),
        (200, b'{"ok":[true,1]}', Rejected),
        (200, b'{"ok":[]}', Rejected),
        (200, b"", Unknown),
        (204, b"", Delivered),
    ],
)
def test_success_is_what_the_predicate_says(status: int, body: bytes, kind: type[object]) -> None:
    (outcome,) = reader({"is": {"ok.*": [True]}}).read(Answer(status, {}, body), [b""])
    assert type(outcome) is kind


def test_batch_whose_answer_has_no_boundary_holds_nothing() -> None:
    for content_type in ("", "multipart/mixed", "application/json; boundary"):
        assert odata.answers(Answer(200, {"content-type": content_type}, b"--r\r\n")) == []
