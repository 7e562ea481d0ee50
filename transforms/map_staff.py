"""This module maps the staff master file (MFN M02) to who works here."""

from dataclasses import replace
from typing import Final

from broker.canonical.model import Concept, Event, Identifier, Patient, Practitioner
from broker.wire.er7 import Message
from transforms.hl7_types import Reader, padded, reader_of
from transforms.map_people import addresses, identifiers, telecom
from transforms.map_subject import fail, occurred_at, source_of, trigger_of

TRIGGERS: Final = {"M02": "staff.updated"}
_SEGMENTS: Final = ("MFE", "STF", "PRA")
_ENDED: Final = frozenset({"MDL", "MDC"})  # HL7 table 0180: delete, deactivate
_ACTIVE: Final = {"A": True, "I": False}  # HL7 table 0183
_STF_FIELDS: Final = 19
_PRA_FIELDS: Final = 6
_MFE_FIELDS: Final = 1


def map_staff(message: Message, without: frozenset[str] = frozenset()) -> Event:  # noqa: ARG001 - there is no patient
    """Return the event that a master file of staff tells; it is about no patient.

    Raises `StepError` when no STF names anybody.
    """
    trigger = trigger_of(message, TRIGGERS)
    staff = _staff(message, reader_of(message))
    if not staff:
        fail("STF", "no STF names anybody, so there is nothing to tell")
    return Event(
        kind=TRIGGERS[trigger],
        occurred_at=occurred_at(message),
        source=source_of(message),
        patient=Patient(),
        staff=staff,
    )


def _staff(message: Message, read: Reader) -> tuple[Practitioner, ...]:
    separator = message.separators.field
    found: list[Practitioner] = []
    change = ""
    for line in message.lines():
        name = line.partition(separator)[0]
        if name not in _SEGMENTS:
            continue
        fields = padded(line.split(separator), _STF_FIELDS)
        if name == "MFE":
            change = read.first(fields[_MFE_FIELDS]) or ""
        elif name == "STF" and (person := _person(fields, read)):
            found.append(replace(person, active=False) if change in _ENDED else person)
        elif name == "PRA" and found:
            found[-1] = _practising(found[-1], fields, read)
    return tuple(found)


def _person(fields: list[str], read: Reader) -> Practitioner | None:
    """Return who an STF is about: STF-1 is the key, STF-2 all their identifiers."""
    known = list(identifiers(fields[2], read))
    key = read.first(fields[1])
    if key and all(identifier.value != key for identifier in known):
        known.insert(0, Identifier(value=key))
    names = [name for part in read.repetitions(fields[3]) if (name := read.name(part))]
    if not known and not names:
        return None
    name = names[0] if names else None
    return Practitioner(
        identifier=known[0] if known else None,
        identifiers=tuple(known),
        family=name.family if name else None,
        given=name.given[0] if name and name.given else None,
        prefix=name.prefix if name else None,
        suffix=name.suffix if name else None,
        role=read.first(fields[18]) or read.first(fields[4]),
        telecom=telecom(read, (fields[10], "work"), (fields[15], "work")),
        addresses=addresses(fields[11], read),
        active=_ACTIVE.get((read.first(fields[7]) or "").upper()),
    )


def _practising(person: Practitioner, fields: list[str], read: Reader) -> Practitioner:
    """Add what PRA says: category, specialty and the numbers of licences."""
    specialty = read.first(fields[5])
    licences = []
    for part in read.repetitions(fields[6]):
        value, kind, authority = read.components(part, 3)
        if value:
            licences.append(Identifier(value=value, system=authority or "", type=kind or ""))
    return replace(
        person,
        identifiers=tuple(dict.fromkeys((*person.identifiers, *licences))),
        role=person.role or read.first(fields[3]),
        specialty=Concept(text=specialty) if specialty else person.specialty,
    )
