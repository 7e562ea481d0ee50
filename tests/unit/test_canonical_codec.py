"""This module tests that canonical events survive as JSON, and that what is none is refused with its place."""

import dataclasses
import typing
from types import GenericAlias, UnionType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.canonical.codec import decode, encode, json_schema
from broker.canonical.model import KINDS, Event, Identifier, Name, Patient, Source
from broker.errors import MessageError

json_schema()  # compiles what reads events, once and outside the time that one example may take

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


def of(hint: Any) -> st.SearchStrategy[Any]:
    """Build values of a type of the model."""
    if isinstance(hint, UnionType):
        return st.one_of(*[st.none() if part is type(None) else of(part) for part in hint.__args__])
    if isinstance(hint, GenericAlias):
        return st.lists(of(hint.__args__[0]), max_size=3).map(tuple)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        strategies = {name: of(part) for name, part in typing.get_type_hints(hint).items()}
        needed = {field.name for field in dataclasses.fields(hint) if field.default is dataclasses.MISSING}
        # What may be left out mostly is, as in messages: whole events would be too large to make many of.
        said = {name: strategies.pop(name) for name in needed}
        return st.fixed_dictionaries(said, optional=strategies).map(lambda values: hint(**values))
    return {str: TEXT, bool: st.booleans(), int: st.integers(-(2**31), 2**31)}[hint]


# An empty text where None is the default says "emptied", so both must come back as they were.
EVENTS = st.builds(lambda event, kind: dataclasses.replace(event, kind=kind), of(Event), st.sampled_from(list(KINDS)))


@given(EVENTS)
def test_event_is_the_same_after_the_way_there_and_back(event: Event) -> None:
    assert decode(encode(event)) == event


def test_what_is_not_said_is_left_out() -> None:
    event = Event(kind="patient.updated", source=Source(facility="M"), patient=Patient(family="A", deceased=False))
    assert orjson.loads(encode(event)) == {
        "kind": "patient.updated",
        "source": {"facility": "M"},
        "patient": {"family": "A", "deceased": False},
    }


def test_fields_of_a_newer_version_are_passed_over() -> None:
    data = b'{"kind":"patient.updated","source":{"x":1},"patient":{"family":"A","aura":{"b":[]}},"mood":3}'
    assert decode(data).patient == Patient(family="A")


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b'{"kind":"patient.updated","source":{},"patient":{"family":5}}', "patient.family"),
        (b'{"kind":"patient.updated","source":{},"patient":{"deceased":"yes"}}', "patient.deceased"),
        (b'{"kind":"patient.updated","source":{},"patient":{"names":[{"given":[1]}]}}', "patient.names.0.given.0"),
        (b'{"kind":"patient.updated","source":{},"patient":{"mrn":{}}}', "patient.mrn.value"),
        (b'{"kind":"patient.updated","source":{}}', "patient"),
        (b'{"kind":"patient.vanished","source":{},"patient":{}}', "kind"),
        (b"[", ""),
        (b"\xff", ""),
        (b"null", ""),
    ],
)
def test_what_is_no_event_is_refused_with_its_place_and_no_value(data: bytes, place: str) -> None:
    with pytest.raises(MessageError, match="not a canonical event") as caught:
        decode(data)
    assert caught.value.location == place
    assert "yes" not in str(caught.value)
    assert "vanished" not in str(caught.value)


def test_schema_describes_every_type_and_kind() -> None:
    schema = json_schema()
    assert schema["properties"]["kind"]["enum"] == list(KINDS)
    assert {"Patient", "Identifier", "Encounter", "Merge"} <= set(schema["$defs"])
    assert schema["required"] == ["kind", "source", "patient"]
    assert set(schema["$defs"]["Patient"]["properties"]) == {field.name for field in dataclasses.fields(Patient)}


def test_encoding_is_the_same_for_equal_events() -> None:
    def make() -> Event:
        patient = Patient(mrn=Identifier(value="1"), names=(Name(family="A", given=("B",)),))
        return Event(kind="patient.updated", source=Source(), patient=patient, cleared=("patient.sex",))

    assert encode(make()) == encode(make())
