"""The other record of an event, as its own messages would have told it."""

from dataclasses import replace

import pytest

from broker.canonical.model import Event, Identifier, Patient
from broker.message import Document
from tests.mapping import PID, PV1, parsed
from transforms.map_message import map_message
from transforms.other_record import other_record

OLD = Identifier(value="00999", system="MERCY", type="MR")


def document(kind: str, *segments: str) -> Document:
    message = parsed(kind, *segments)
    return Document(message=message, received_at=0.0, event=map_message(message))


def other(of: Document) -> Document:
    found = other_record(of)
    assert found is not None
    return found


def event_of(found: Document) -> Event:
    assert found.event is not None
    return found.event


def test_event_about_one_record_has_no_other() -> None:
    assert other_record(document("ADT^A08", PID)) is None
    assert other_record(replace(document("ADT^A08", PID), event=None)) is None


def test_ceasing_record_stands_where_the_other_does() -> None:
    whole = document("ADT^A44", PID, "MRG|00999^^^MERCY^MR~8^^^X^PI|ALT|ACC|PAT|V9|AV9", PV1)
    found = other(whole)
    places = ("PID-3", "PID-3[5=PI].1", "PID-2", "PID-4", "PID-18", "PID-5.1", "PV1-19", "PV1-50", "PV1-2", "MRG-1")
    assert [found.message.get(place) for place in places] == [
        "00999", "8", "PAT", "ALT", "ACC", "Okafor", "V9", "AV9", "O", "00999",
    ]  # fmt: skip
    assert event_of(found).patient.mrn == OLD
    assert whole.message.get("PID-3") == "00123"


@pytest.mark.parametrize(
    ("pid_3", "expected"),
    [
        ("1^^^X^SS~00123^^^MERCY&1.2&ISO^MR", "00999^^^MERCY&1.2&ISO^MR"),
        ("00123", "00999"),
        ("00124^^^MERCY^MR", "00999"),
    ],
)
def test_number_alone_has_authority_and_type_of_the_survivors(pid_3: str, expected: str) -> None:
    whole = document("ADT^A40", f"PID|1||{pid_3}", "MRG|00999")
    survivor = replace(event_of(whole), patient=Patient(mrn=Identifier(value="00123")))
    assert other(replace(whole, event=survivor)).message.first("PID").fields[3] == expected


def test_survivor_without_number_lends_nothing() -> None:
    whole = document("ADT^A40", PID, "MRG|00999")
    nobody = replace(event_of(whole), patient=Patient())
    assert other(replace(whole, event=nobody)).message.first("PID").fields[3] == "00999"


def test_linked_record_stands_in_front() -> None:
    found = other(document("ADT^A24", PID, "PID|2||00999^^^MERCY^MR||Obi"))
    assert (found.message.get("PID-3"), found.message.get("PID-5.1")) == ("00999", "Obi")
    assert event_of(found).patient.family == "Obi"


def test_event_of_another_format_has_the_other_patient() -> None:
    whole = document("ADT^A40", PID, "MRG|00999^^^MERCY^MR")
    found = other(replace(whole, message={"resourceType": "Patient"}))
    assert found.message == {"resourceType": "Patient"}
    assert event_of(found).patient.mrn == OLD
    linked = replace(event_of(document("ADT^A24", PID, "PID|2||9")), merge=None)
    alone = Document(message=parsed("ADT^A24", PID), received_at=0.0, event=linked)
    assert other(alone).message.lines() == alone.message.lines()
