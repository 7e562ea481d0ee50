"""This module tests what the http destination freezes: typed holes, what may be missing, what cannot break out."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import StepError
from broker.message import Document
from dispatch.web.preset import OperationSpec
from dispatch.web.rendering import KEY_MARK, Frozen, RequestRenderer
from tests.contract.systems import EVENT, KEY, PATIENT
from transforms.kit import Kit


def document(**patient: Any) -> Document:
    return Document(message=None, received_at=0.0, event=replace(EVENT, patient=replace(PATIENT, **patient)))


def frozen(operation: dict[str, Any], values: dict[str, Any] | None = None, **patient: Any) -> Frozen:
    declared = OperationSpec.model_validate(operation)
    renderer = RequestRenderer(Kit(Path("channels")), "crm.test", declared, values or {})
    return Frozen.unpacked(renderer(document(**patient)), KEY)


def body(tree: Any, **patient: Any) -> Any:
    return orjson.loads(frozen({"body": tree}, **patient).body)


def test_whole_hole_keeps_its_type_and_others_become_text() -> None:
    tree = {"a": "{{ 1 + 1 }}", "b": "{{ patient.given }}!", "c": "{{ patient.given == 'Ngozi' }}", "d": 4, "e": None}
    assert body(tree) == {"a": 2, "b": "Ngozi!", "c": True, "d": 4, "e": None}
    assert body(["x", "{{ patient.given }}"]) == ["x", "Ngozi"]
    assert body("{{ patient.mrn }}") == {"value": "0012", "system": "MERCY", "type": "MR"}


def test_key_with_a_question_mark_is_left_out_when_it_gives_nothing() -> None:
    tree = {"a?": "{{ patient.mobile }}", "b?": {"c": "{{ patient.mobile }}"}, "d?": "{{ patient.given }}"}
    assert body(tree, mobile=None) == {"d": "Ngozi"}
    assert body(tree, mobile="") == {"d": "Ngozi"}


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"a": {"b": "{{ patient.mobile }}"}}, "body.a.b gives nothing for this message; write `b?`"),
        ({"a": ["x", "{{ patient.mobile }}"]}, "body.a.1 gives nothing"),
        ({"a": "{% if patient.mobile %}x{% endif %}"}, "body.a gives nothing"),
        ({"a": "Dear {{ patient.mobile }}"}, "a hole gives nothing; write `| default('')`"),
        ({"{{ patient.mobile }}": 1}, "body gives nothing"),
    ],
)
def test_what_gives_nothing_is_an_error_with_its_place(tree: Any, words: str) -> None:
    with pytest.raises(StepError) as caught:
        body(tree, mobile=None)
    assert str(caught.value).startswith("http: crm.test: ")
    assert words in str(caught.value)
    assert "Ngozi" not in str(caught.value)


def test_star_takes_in_the_keys_of_a_mapping_and_keys_may_have_holes() -> None:
    values = {"fields": {"about": "x", "default": {"a": 1, "b?": "{{ patient.mobile }}"}}}
    operation = {"body": {"*": "{{ fields }}", "{{ patient.given }}": 2}, "values": values}
    assert orjson.loads(frozen(operation, mobile=None).body) == {"a": 1, "Ngozi": 2}


def test_values_of_the_channel_go_on_top_of_those_of_the_preset() -> None:
    values = {"fields": {"about": "x", "default": {"a": 1, "b?": 2, "c": 3}}, "one": {"about": "x", "default": "x"}}
    operation = {"body": {"*": "{{ fields }}", "one": "{{ one }}"}, "values": values}
    given_ = {"fields": {"b": "{{ patient.given }}", "c": None, "d": 4}, "one": "y"}
    assert orjson.loads(frozen(operation, given_).body) == {"a": 1, "b": "Ngozi", "d": 4, "one": "y"}


def test_optional_value_may_give_nothing_and_another_may_not() -> None:
    value = {"about": "x", "default": "{{ patient.mobile }}"}
    operation = {"body": {"a?": "{{ v }}"}, "values": {"v": {**value, "optional": True}}}
    assert frozen(operation, mobile=None).body == b"{}"
    with pytest.raises(StepError, match=r"values\.v gives nothing"):
        frozen({**operation, "values": {"v": value}}, mobile=None)


def test_key_of_the_delivery_is_filled_in_when_it_is_sent_and_the_same_each_time() -> None:
    operation = {
        "path": "events/{{ delivery_key }}",
        "body": {"id": "{{ delivery_key }}"},
        "headers": {"X-Key": "{{ delivery_key }}"},
    }
    declared = OperationSpec.model_validate(operation)
    request = RequestRenderer(Kit(Path("channels")), "crm.test", declared, {})(document())
    assert KEY_MARK.encode() in request
    sent = Frozen.unpacked(request, KEY)
    assert (sent.path, sent.body, sent.headers) == (f"events/{KEY}", f'{{"id":"{KEY}"}}'.encode(), {"X-Key": KEY})


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "\0", "é", "a\x7f"])
def test_header_takes_no_line_end_and_nothing_beyond_ascii(value: str) -> None:
    with pytest.raises(StepError, match=r"headers\.X-Name: its value has line ends or letters") as caught:
        frozen({"headers": {"X-Name": "x{{ patient.given }}"}}, given=value)
    assert value not in str(caught.value)


def test_path_and_query_percent_encode_what_holes_give() -> None:
    operation = {
        "path": "p/{{ patient.given }}/x",
        "query": {"q": "{{ patient.given }}", "none?": "{{ patient.mobile }}"},
    }
    sent = frozen(operation, given="a/../b?c=d&e#f%20 é", mobile=None)
    assert sent.path == "p/a%2F..%2Fb%3Fc%3Dd%26e%23f%2520%20%C3%A9/x?q=a%2F..%2Fb%3Fc%3Dd%26e%23f%2520%20%C3%A9"


@pytest.mark.parametrize("value", ["..", "."])
def test_path_does_not_lead_elsewhere(value: str) -> None:
    with pytest.raises(StepError, match="would lead elsewhere"):
        frozen({"path": "p/{{ patient.given }}/x"}, given=value)


@pytest.mark.parametrize("value", [None, ""])
def test_path_needs_every_part(value: str | None) -> None:
    with pytest.raises(StepError, match=r"path: .*a part of a path must be something"):
        frozen({"path": "p/{{ patient.given }}/x"}, given=value)


@given(st.text())
def test_no_value_breaks_out_of_json_a_form_a_path_or_a_query(value: str) -> None:
    if not value.strip() or value in {".", ".."} or any("\ud800" <= letter <= "\udfff" for letter in value):
        return
    operation = {
        "path": "p/{{ patient.given }}",
        "query": {"q": "{{ patient.given }}"},
        "body": {"a": "{{ patient.given }}"},
    }
    sent = frozen(operation, given=value)
    path, _, query = sent.path.partition("?")
    assert orjson.loads(sent.body) == {"a": value}
    assert [unquote(part) for part in path.split("/")] == ["p", value]
    assert parse_qsl(query, keep_blank_values=True) == [("q", value)]
    form = frozen({"encoding": "form", "body": {"a": "{{ patient.given }}", "b": True}}, given=value)
    assert parse_qsl(form.body.decode(), keep_blank_values=True) == [("a", value), ("b", "true")]


def test_text_body_is_what_the_template_gives() -> None:
    assert frozen({"encoding": "text", "body": "Hello {{ patient.given }}"}).body == b"Hello Ngozi"
    assert frozen({"method": "GET"}).body == b""


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"encoding": "form", "body": {"a": {"b": 1}}}, r"body\.a: needs a text or number, not a structure"),
        ({"query": {"a": "{{ patient.mrn }}"}}, r"query\.a: needs a text or number"),
        ({"headers": {"A": "{{ patient.mobile }}"}}, "A gives nothing"),
        ({"body": {"*": "{{ patient.given }}"}}, r"body: what \* takes in"),
    ],
)
def test_structures_do_not_go_where_text_belongs(operation: dict[str, Any], words: str) -> None:
    with pytest.raises(StepError, match=words):
        frozen(operation, mobile=None)


def test_rows_stand_apart_from_what_is_around_them() -> None:
    operation = {
        "body": {"x": 1, "rows": "{{ rows }}", "y": "z"},
        "row": {"a": "{{ patient.given }}"},
        "batch": {"size": 5},
    }
    sent = frozen(operation)
    assert sent.around == ('{"x":1,"rows":', ',"y":"z"}')
    assert sent.body == b'{"a":"Ngozi"}'


def test_text_that_looks_like_the_place_of_rows_stays_text() -> None:
    """A patient called like our own mark cannot move the rows elsewhere."""
    operation = {"body": {"who": "{{ patient.given }}", "rows": "{{ rows }}"}, "row": {"a": 1}, "batch": {"size": 5}}
    sent = frozen(operation, given="{{ rows }}")
    assert sent.around is not None
    assert orjson.loads(sent.around[0] + "[1]" + sent.around[1]) == {"who": "{{ rows }}", "rows": [1]}


def test_names_of_the_channel_are_known_to_its_own_values_and_requests_only() -> None:
    kit = Kit(Path("channels"))
    kit.declare("ward")
    found = document()
    found.values = {"ward": "4E"}
    values = {"v": {"about": "x"}}
    declared = OperationSpec.model_validate({"body": {"a": "{{ v }}"}, "values": values})
    request = RequestRenderer(kit, "crm.test", declared, {"v": "{{ ward }}"})(found)
    assert Frozen.unpacked(request, KEY).body == b'{"a":"4E"}'
    own = OperationSpec.model_validate({"body": {"a": "{{ ward }}"}})
    assert Frozen.unpacked(RequestRenderer(kit, "crm.test", own, {}, own=True)(found), KEY).body == b'{"a":"4E"}'
