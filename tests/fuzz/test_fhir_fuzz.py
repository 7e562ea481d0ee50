"""Whatever is done to FHIR resources and care summaries, they are mapped or refused in a sentence, and soon."""

import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.canonical.codec import encode
from broker.errors import MessageError, StepError
from broker.fhir import elements
from broker.fhir.check import check, read_resource
from broker.fhir.paths import outline
from tests.cda_documents import SECTIONS, summary
from tests.fhir_resources import KINDS, bundle, resource
from tests.pace import within
from transforms.map_cda import map_cda, read_cda
from transforms.map_fhir import map_fhir, map_resource

SLOWEST = 1.0  # CPU seconds
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
EVERYTHING = bundle("collection", *(resource(kind) for kind in KINDS))
SUMMARY = summary(*SECTIONS)


@pytest.fixture(autouse=True, scope="module")
def _warm() -> None:
    elements.warm(*KINDS, "Bundle")  # loading the models is none of what is measured


def _place(made: Any, choices: st.DataObject) -> tuple[Any, Any]:
    """Return some object or list in a resource, and one of its keys."""
    there = made
    while True:
        keys = list(there) if isinstance(there, dict) else list(range(len(there)))
        key = choices.draw(st.sampled_from(keys))
        if not isinstance(there[key], dict | list) or not there[key] or not choices.draw(st.integers(0, 4)):
            return there, key
        there = there[key]


def _mutated(value: Any, choices: st.DataObject) -> Any:
    """Replace, drop, repeat or move something at random places."""
    made = copy.deepcopy(value)
    for _ in range(choices.draw(st.integers(1, 4))):
        if not made:
            return made
        there, key = _place(made, choices)
        change = choices.draw(st.integers(0, 3))
        if change == 0:
            del there[key]
        elif change == 1:
            there[key] = choices.draw(JUNK)
        elif change == 2:
            there[key] = [copy.deepcopy(there[key])] * 2
        elif isinstance(there, dict):
            there[choices.draw(st.sampled_from(["resourceType", "reference", "contained", "x", "entry"]))] = there[key]
    return made


def _refusal(step: Callable[[], Any]) -> str:
    """Return in which words something is refused, or nothing."""
    try:
        step()
    except (MessageError, StepError) as error:
        return str(error)
    return ""


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.sampled_from([*KINDS, "Bundle"]), st.data())
def test_mutated_resources_are_mapped_or_refused(kind: str, choices: st.DataObject) -> None:
    value = _mutated(EVERYTHING if kind == "Bundle" else resource(kind), choices)
    told: list[str] = []

    def work() -> None:
        told.append(str(check(value)))  # what has faults is mapped all the same, as where a channel does not check
        told.append(_refusal(lambda: encode(map_fhir(value, base="https://ehr.example"))))
        told.append(_refusal(lambda: [encode(event) for event in map_resource(value)]))
        assert sum(1 for _ in outline(value)) < 5000

    assert within(SLOWEST, work)
    assert "Testwood" not in "".join(told)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_mutated_bytes_are_read_or_refused(choices: st.DataObject) -> None:
    for data in (orjson.dumps(resource("Patient")), SUMMARY):
        begin = choices.draw(st.integers(0, len(data)))
        end = choices.draw(st.integers(begin, min(len(data), begin + 40)))
        changed = data[:begin] + choices.draw(st.binary(max_size=6)) + data[end:]
        told = _refusal(lambda changed=changed: map_fhir(read_resource(changed)))  # type: ignore[misc]
        told += _refusal(lambda changed=changed: map_cda(read_cda(changed)))  # type: ignore[misc]
        assert "Testwood" not in told


def _nested(depth: int) -> bytes:
    inner: dict[str, Any] = {"url": "x", "valueCode": "y"}
    for _ in range(depth):
        inner = {"url": "x", "extension": [inner]}
    return orjson.dumps({"resourceType": "Patient", "extension": [inner]})


MANY = 60_000


def _patient(**elements: Any) -> bytes:
    return orjson.dumps({"resourceType": "Patient"} | elements)


BOMBS = {
    "deep objects": b'{"a":' * 300_000,
    "deep arrays": b"[" * 1_000_000 + b"]" * 1_000_000,
    "deep extensions": _nested(60),
    "many names": _patient(name=[{"family": "a"}] * MANY),
    "many empty names": _patient(name=[{}] * MANY),
    "many nulls": _patient(name=[{"given": [None] * 300_000}]),
    "many unknown elements": _patient(**{f"x{number}": 1 for number in range(MANY)}),
    "many entries": orjson.dumps(bundle("collection", *([resource("Practitioner")] * 800))),
    "many types": _patient(contained=[{"resourceType": "X" + "a" * (number % 50)} for number in range(9000)]),
    "a long text": _patient(name=[{"text": "x" * 2_000_000}]),
    "a long code": _patient(gender="a " * 500_000 + " "),
    "a long date": _patient(birthDate="1" * 1_000_000),
    "a long number": b'{"resourceType": "Patient", "multipleBirthInteger": ' + b"1" * 1_000_000 + b"}",
    "a long decimal": b'{"resourceType": "Patient", "multipleBirthInteger": 1.' + b"1" * 1_000_000 + b"}",
    "a long markup": _patient(text={"status": "generated", "div": "<div>" * 200_000}),
    "long base64": _patient(photo=[{"data": "A \n" * 400_000 + "="}]),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_of_json_take_no_time(name: str) -> None:
    def work() -> None:
        assert len(_refusal(lambda: map_resource(read_resource(BOMBS[name])))) < 10_000

    assert within(SLOWEST, work)


XML_BOMBS = {
    "billion laughs": b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>',
    "external entity": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>',
    "deep elements": b"<a>" * 500_000,
    "many elements": b"<a>" + b"<b/>" * 250_000 + b"</a>",
    "many attributes": b"<a " + b" ".join(b'a%d="x"' % n for n in range(20_000)) + b"/>",
    "a long text": b"<a>" + b"x" * 8_000_000 + b"</a>",
    "a long name": b"<" + b"a" * 2_000_000 + b"/>",
}


@pytest.mark.parametrize("name", XML_BOMBS)
def test_bombs_of_xml_take_no_time(name: str) -> None:
    def work() -> None:
        with pytest.raises(MessageError):
            read_cda(XML_BOMBS[name])

    assert within(SLOWEST, work)


def test_a_large_summary_takes_little_time() -> None:
    data = summary(*(SECTIONS * 40))
    root = read_cda(data)
    assert len(map_cda(root).conditions) == 80
    assert within(SLOWEST, lambda: map_cda(root))
