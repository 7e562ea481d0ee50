"""Whatever is done to FHIR resources and care summaries, they are mapped or refused in a sentence, and soon."""

import copy
import time
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.canonical.codec import as_json, encode
from broker.errors import MessageError, StepError
from broker.fhir.check import check, read_resource
from broker.fhir.paths import outline
from tests.cda_documents import SECTIONS, summary
from tests.fhir_resources import KINDS, bundle, resource
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


def _mutate(value: Any, choices: st.DataObject) -> Any:
    """Replace, drop, move or repeat something at random places."""
    made = copy.deepcopy(value)
    for _ in range(choices.draw(st.integers(1, 4))):
        there = made
        while True:
            keys = list(there) if isinstance(there, dict) else list(range(len(there)))
            if not keys:
                break
            key = choices.draw(st.sampled_from(keys))
            if isinstance(there[key], dict | list) and there[key] and choices.draw(st.integers(0, 4)):
                there = there[key]
                continue
            change = choices.draw(st.integers(0, 3))
            if change == 0:
                del there[key]
            elif change == 1:
                there[key] = choices.draw(JUNK)
            elif change == 2:
                there[key] = [copy.deepcopy(there[key])] * 2
            elif isinstance(there, dict):
                there[choices.draw(st.sampled_from(["resourceType", "reference", "contained", "x", "entry"]))] = there[
                    key
                ]
            break
    return made


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.sampled_from([*KINDS, "Bundle"]), st.data())
def test_mutated_resources_are_mapped_or_refused(kind: str, choices: st.DataObject) -> None:
    value = _mutate(EVERYTHING if kind == "Bundle" else resource(kind), choices)
    began = time.process_time()
    faults = check(value)
    for read in (map_fhir, map_resource):  # also what was never checked
        if isinstance(value, dict):
            try:
                events = read(value, base="https://ehr.example")
            except StepError as error:
                assert "Testwood" not in str(error)
            else:
                for event in events if isinstance(events, list) else [events]:
                    assert encode(event)
    assert time.process_time() - began < SLOWEST
    assert "Testwood" not in str(faults)
    assert sum(1 for _ in outline(value)) < 5000


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_bytes_are_read_or_refused(choices: st.DataObject) -> None:
    for data, read in ((orjson.dumps(resource("Patient")), read_resource), (SUMMARY, read_cda)):
        begin = choices.draw(st.integers(0, len(data)))
        end = choices.draw(st.integers(begin, min(len(data), begin + 40)))
        changed = data[:begin] + choices.draw(st.binary(max_size=6)) + data[end:]
        try:
            value = read(changed)
            as_json(map_fhir(value) if isinstance(value, dict) else map_cda(value))
        except (MessageError, StepError) as error:
            assert "Testwood" not in str(error)


def _nested(depth: int) -> bytes:
    inner: dict[str, Any] = {"url": "x", "valueCode": "y"}
    for _ in range(depth):
        inner = {"url": "x", "extension": [inner]}
    return orjson.dumps({"resourceType": "Patient", "extension": [inner]})


MANY = 60_000
BOMBS = {
    "deep objects": b'{"a":' * 300_000,
    "deep arrays": b"[" * 1_000_000 + b"]" * 1_000_000,
    "deep extensions": _nested(60),
    "many names": orjson.dumps({"resourceType": "Patient", "name": [{"family": "a"}] * MANY}),
    "many empty names": orjson.dumps({"resourceType": "Patient", "name": [{}] * MANY}),
    "many nulls": orjson.dumps({"resourceType": "Patient", "name": [{"given": [None] * 300_000}]}),
    "many unknown elements": orjson.dumps({"resourceType": "Patient"} | {f"x{n}": 1 for n in range(MANY)}),
    "many entries": orjson.dumps(bundle("collection", *([resource("Practitioner")] * 800))),
    "many types": orjson.dumps({"resourceType": "Patient", "contained": [{"resourceType": f"X{'a' * (n % 50)}"} for n in range(9000)]}),  # fmt: skip  # noqa: E501
    "a long text": orjson.dumps({"resourceType": "Patient", "name": [{"text": "x" * 2_000_000}]}),
    "a long code": orjson.dumps({"resourceType": "Patient", "gender": "a " * 500_000 + " "}),
    "a long date": orjson.dumps({"resourceType": "Patient", "birthDate": "1" * 1_000_000}),
    "a long number": b'{"resourceType": "Patient", "multipleBirthInteger": ' + b"1" * 1_000_000 + b"}",
    "a long decimal": b'{"resourceType": "Patient", "multipleBirthInteger": 1.' + b"1" * 1_000_000 + b"}",
    "a long markup": orjson.dumps({"resourceType": "Patient", "text": {"status": "generated", "div": "<div>" * 200_000}}),
    "long base64": orjson.dumps({"resourceType": "Patient", "photo": [{"data": "A \n" * 400_000 + "="}]}),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_of_json_take_no_time(name: str) -> None:
    check(resource("Patient"))  # the models are loaded once
    check(resource("Practitioner"))
    began = time.process_time()
    try:
        map_resource(read_resource(BOMBS[name]))
    except (MessageError, StepError) as error:
        assert len(str(error)) < 10_000
    assert time.process_time() - began < SLOWEST * 2


XML_BOMBS = {
    "billion laughs": b'<!DOCTYPE a [<!ENTITY a "aaaa">'
    + b"".join(b'<!ENTITY a%d "&a;&a;">' % n for n in range(30))
    + b"]><a>&a29;</a>",  # fmt: skip  # noqa: E501
    "external entity": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>',
    "deep elements": b"<a>" * 500_000,
    "many elements": b"<a>" + b"<b/>" * 250_000 + b"</a>",
    "many attributes": b"<a " + b" ".join(b'a%d="x"' % n for n in range(20_000)) + b"/>",
    "a long text": b"<a>" + b"x" * 8_000_000 + b"</a>",
    "a long name": b"<" + b"a" * 2_000_000 + b"/>",
}


@pytest.mark.parametrize("name", XML_BOMBS)
def test_bombs_of_xml_take_no_time(name: str) -> None:
    began = time.process_time()
    with pytest.raises(MessageError):
        read_cda(XML_BOMBS[name])
    assert time.process_time() - began < SLOWEST * 2


def test_a_large_summary_takes_little_time() -> None:
    data = summary(*(SECTIONS * 40))
    root = read_cda(data)
    began = time.process_time()
    assert len(map_cda(root).conditions) == 80
    assert time.process_time() - began < SLOWEST
