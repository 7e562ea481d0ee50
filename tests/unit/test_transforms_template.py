"""This module tests templates: each kind of output, and that no value breaks out of its hole."""

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.canonical.model import Event, Identifier, Name, Patient, Source
from broker.errors import StepError
from broker.message import Document
from broker.wire.er7 import Message
from transforms.mistakes import ExpressionError
from transforms.template import compile_template, compile_value

RAW = b"MSH|^~\\&|A|B|||20240501||ADT^A04|77|P|2.5.1\rPID|1||123^^^H^MR||O'Hara^Pat||19620910|F\r"
VALUES = st.one_of(
    st.text(max_size=40), st.sampled_from(['"', "\\", '","x":"', "\r\nOBX|1", "}}", "{{ x }}", ", true, "])
)


def document(family: str = "O'Hara", **values: Any) -> Document:
    patient = Patient(
        mrn=Identifier(value="123", system="H", type="MR"),
        names=(Name(family=family, given=("Pat", "Jo")), Name(family="Old", use="maiden")),
        family=family,
        deceased=False,
    )
    event = Event(kind="patient.registered", source=Source(), patient=patient)
    return Document(message=Message.parse(RAW), received_at=0.0, event=event, values=values)


def test_json_values_are_encoded_and_none_is_null() -> None:
    text = (
        '{"resourceType":"Patient","name":[{"family":{{ patient.family }},"given":{{ patient.names[0].given }}}],'
        '"gender":{{ patient.sex }},"deceasedBoolean":{{ patient.deceased }},"identifier":{{ patient.mrn }},'
        '"text":"For {{ patient.family }} of {{ PID-3.4 }}{{ patient.sex }}"}'
    )
    assert json.loads(compile_template(text, "json")(document('A"\\\nB'))) == {
        "resourceType": "Patient",
        "name": [{"family": 'A"\\\nB', "given": ["Pat", "Jo"]}],
        "gender": None,
        "deceasedBoolean": False,
        "identifier": {"value": "123", "system": "H", "type": "MR"},
        "text": 'For A"\\\nB of H',
    }


def test_json_knows_loops_conditions_and_sets() -> None:
    text = """{"names": [
    {% for name in patient.names %}
      {% set family = name.family | upper %}
      {"n": {{ loop.index }}, "family": {{ family }}{% if name.use %}, "use": "{{ name.use }}"{% endif %}}
      {%- if not loop.last %},{% endif %}
    {% endfor %}
    ]}"""
    assert json.loads(compile_template(text, "json")(document())) == {
        "names": [{"n": 1, "family": "O'HARA"}, {"n": 2, "family": "OLD", "use": "maiden"}]
    }


@settings(max_examples=300)
@given(VALUES)
def test_json_is_what_was_put_in_for_any_value(value: str) -> None:
    holes = (
        '"a": {{ value }}, "b": ["<{{ value }}>", "\\"{{ value }}"], "c": {{ {"k": value} }}, "d": {{ value | tojson }}'
    )
    text = "{" + holes + "}"
    found = json.loads(compile_template(text, "json", ["value"])(document(value=value)))
    assert found == {"a": value, "b": [f"<{value}>", f'"{value}'], "c": {"k": value}, "d": value}


@settings(max_examples=300)
@given(VALUES)
def test_hl7_value_stays_in_its_component_for_any_value(value: str) -> None:
    text = "MSH|^~\\&|||||||ADT^A08|1|P|2.5.1\nPID|1||{{ value }}^{{ value }}|x\n"
    rendered = compile_template(text, "hl7", ["value"])(document(value=value))
    message = Message.parse(rendered.encode("utf-8", "surrogatepass"), "utf-8") if _encodable(value) else None
    if message is not None:
        assert [segment.name for segment in message.segments()] == ["MSH", "PID"]
        assert message.get("PID-3.2") == (value or None)
        assert message.get("PID-4") == "x"


def _encodable(value: str) -> bool:
    return value.isprintable() or "\r\n" in value


@given(VALUES)
def test_url_values_are_percent_encoded(value: str) -> None:
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        return
    rendered = compile_template("a={{ value }}&b=1", "url", ["value"])(document(value=value))
    name, _, rest = rendered.partition("=")
    assert (name, unquote(rest.removesuffix("&b=1"))) == ("a", value)
    assert rendered.count("&") == 1


def test_search_value_stays_one_value() -> None:
    rendered = compile_template("identifier={{ s }}|{{ v }}", "search", ["s", "v"])(
        document(s="urn:oid:1", v="1,2|3$\\&x")
    )
    assert rendered == "identifier=urn%3Aoid%3A1|1%5C%2C2%5C%7C3%5C%24%5C%5C%26x"


def test_text_writes_values_as_people_do() -> None:
    text = "Hello {{ patient.names[0].given | join(' ') }}{{ patient.mobile }}, {{ patient.deceased }} {{ 3 }}\n"
    assert compile_template(text)(document()) == "Hello Pat Jo, false 3"


def test_text_refuses_a_structure() -> None:
    with pytest.raises(StepError, match=r"^template:2: an identifier is not text"):
        compile_template("a\n{{ patient.mrn }}")(document())


def test_location_in_text_around_holes_stays_text() -> None:
    assert compile_template("PID-3 is {{ PID-3.1 }} {# PID-3 #}{% raw %}{{ PID-3 }}{% endraw %}")(document()) == (
        "PID-3 is 123 {{ PID-3 }}"
    )


def test_value_that_is_one_whole_hole_keeps_its_type() -> None:
    assert compile_value(" {{ patient.names }} ")(document()) == document().event.patient.names  # type: ignore[union-attr]
    assert compile_value("{{ patient.deceased }}")(document()) is False
    assert compile_value("{{ PID-99 }}")(document()) is None
    assert compile_value("{{ PID-3.1 }}{{ PID-8 }}")(document()) == "123F"
    assert compile_value("as it is")(document()) == "as it is"
    assert compile_value("{{ '}' ~ '{' }}")(document()) == "}{"


@pytest.mark.parametrize(
    ("kind", "text", "line", "says"),
    [
        ("text", "a\n{{ patient.famly }}", 2, "did you mean family?"),
        ("text", "a\n\n{{ PID-0 }}", 3, "numbered from 1"),
        ("text", "a\r\nb {{ x }}", 2, "x is not defined"),
        ("text", "{% for n in patient.names %}\n{{ n.famly }}{% endfor %}", 2, "did you mean family?"),
        ("text", "{% for patient in [1] %}{% endfor %}", 1, "has a meaning already"),
        ("text", "{% for _a in [1] %}{% endfor %}", 1, "has a meaning already"),
        ("text", "{% set a = a ~ 'x' %}", 1, "cannot use a itself"),
        ("text", "{{ loop.index }}", 1, "loop is not defined"),
        ("text", "{% if PID-8 %}", 1, "it ends too early"),
        ("text", "{{ PID-8", 1, "it ends too early"),
        ("text", "{{ PID-8 | tojson }}", 1, "tojson is not a filter"),
        ("text", "{% block x %}{% endblock %}", 1, "not allowed"),
        ("text", "{% set ns.x = 1 %}", 1, "not allowed"),
        ("json", '{"a": "{% if PID-8 %}"{% endif %}}', 1, "same branch"),
        ("json", '{"a": "{% for n in patient.names %}"{% endfor %}}', 1, "same branch"),
        ("json", '{"a": "{{ PID-8 }}}', 1, "not closed"),
        ("text", "x" * 262_145, 1, "at most"),
    ],
)
def test_mistake_in_a_template_is_found_at_its_line(kind: str, text: str, line: int, says: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_template(text, kind)
    assert says in str(caught.value)
    assert caught.value.line == line


def test_mistake_in_a_whole_hole_points_into_the_value() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_value("{{ patient.moblie }}")
    assert (caught.value.position, caught.value.length) == (11, 6)
    assert caught.value.source == "{{ patient.moblie }}"


def test_failure_names_the_line_and_no_value() -> None:
    with pytest.raises(StepError) as caught:
        compile_template("a\n{% if PID-8 %}\n{{ PID-5.1 | int }}\n{% endif %}")(document())
    assert str(caught.value) == "template:3: is not a whole number"
    assert caught.value.__suppress_context__


def test_json_that_is_none_is_refused() -> None:
    with pytest.raises(StepError, match="does not give JSON"):
        compile_template('{"a": {{ PID-8 }},}', "json")(document())


def test_template_without_event_asks_for_a_canonical_step() -> None:
    bare = Document(message=Message.parse(RAW), received_at=0.0)
    with pytest.raises(StepError, match="put a canonical step before"):
        compile_template("{{ patient.family }}")(bare)
    assert compile_template("{{ PID-3.1 }}")(bare) == "123"
