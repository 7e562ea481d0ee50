"""This module makes, of an event about two records, the document that the other record's own messages would be.

A merge concerns the record that ceases as well, and must keep its place among that one's messages. Which lane those are
in is the channel's to say (`order`), so it is asked about a document in which the other record stands where the first
one does: MRG in the place of PID (HL7 v2.5.1, 3.4.10: MRG-1 is the list that PID-3 was), or the second PID.
"""

from dataclasses import replace
from typing import Final

from broker.canonical.model import Event, Patient
from broker.message import Document
from broker.wire.er7 import Message
from transforms.hl7_types import padded

_MRG_FIELDS: Final = 6
_PID_FIELDS: Final = 18
_PV1_FIELDS: Final = 50
# Field of MRG -> what it was: patient id, alternate id, account; visit and alternate visit.
_OF_PID: Final = ((4, 2), (2, 4), (3, 18))
_OF_PV1: Final = ((5, 19), (6, 50))
_PID_3: Final = 3


def other_record(document: Document) -> Document | None:
    """Return the document of the other record; None where the event is about one."""
    event = document.event
    if event is None or (event.merge is None and event.linked is None):
        return None
    message = document.message
    if isinstance(message, Message):
        message = message.with_lines(_ceased(message, event) if event.linked is None else _linked(message))
    return replace(document, message=message, event=replace(event, patient=_patient(event)))


def _patient(event: Event) -> Patient:
    if event.linked is not None:
        return event.linked
    merge = event.merge
    return event.patient if merge is None else Patient(mrn=merge.mrn, identifiers=merge.identifiers)


def _linked(message: Message) -> list[str]:
    """Return the segments with the second PID in front of the first."""
    lines = message.lines()
    places = [place for place, line in enumerate(lines) if line.startswith("PID")]
    if len(places) > 1:
        first, second = places[:2]
        lines[first], lines[second] = lines[second], lines[first]
    return lines


def _ceased(message: Message, event: Event) -> list[str]:
    """Return the segments with what MRG says in PID and PV1."""
    separator = message.separators.field
    lines = message.lines()
    found = next((line for line in lines if line.startswith("MRG")), "")
    merged = padded(found.split(separator), _MRG_FIELDS)
    for place, line in enumerate(lines):
        if line.startswith("PID"):
            fields = _moved(merged, padded(line.split(separator), _PID_FIELDS), _OF_PID)
            fields[_PID_3] = _completed(message, merged[1] or merged[4], fields[_PID_3], event)
            lines[place] = separator.join(fields)
        elif line.startswith("PV1"):
            lines[place] = separator.join(_moved(merged, padded(line.split(separator), _PV1_FIELDS), _OF_PV1))
    return lines


def _moved(merged: list[str], fields: list[str], places: tuple[tuple[int, int], ...]) -> list[str]:
    for source, target in places:
        fields[target] = merged[source] or fields[target]
    return fields


def _completed(message: Message, number: str, sent: str, event: Event) -> str:
    """Return MRG-1 with the authority and type that it may leave out: those of the survivor's number in PID-3."""
    component, repetition = message.separators.component, message.separators.repetition
    if not number:
        return sent
    if component in number or event.patient.mrn is None:
        return number
    for each in sent.split(repetition) if repetition else [sent]:
        value, mark, rest = each.partition(component)
        if value == event.patient.mrn.value:
            return f"{number}{mark}{rest}"
    return number
