"""This module maps PV1 and PV2 to the canonical encounter."""

from typing import Final

from broker.canonical.model import Encounter, Identifier, Practitioner
from transforms.hl7_codes import first_concept
from transforms.hl7_types import Reader, padded
from transforms.map_patient import Gaps
from transforms.scope import NULL
from transforms.times import fhir_datetime

_PV1_FIELDS: Final = 50
_PV2_FIELDS: Final = 9

# What an ADT trigger says about the encounter's status; the others leave it to PV1.
_STATUSES: Final = {
    **dict.fromkeys(("A01", "A02", "A06", "A07", "A09", "A10", "A12", "A13", "A15", "A16", "A17"), "in-progress"),
    **dict.fromkeys(
        ("A21", "A22", "A25", "A26", "A32", "A33", "A52", "A53", "A54", "A55", "A61", "A62"), "in-progress"
    ),
    "A03": "finished",
    "A04": "arrived",
    **dict.fromkeys(("A05", "A14"), "planned"),
    **dict.fromkeys(("A11", "A23", "A27", "A38"), "cancelled"),
}
_PLANNED: Final = frozenset({"A05", "A14"})
_PREADMIT: Final = "P"  # HL7 table 0004
# What is emptied by an explicit null in a field of PV1, and of PV2.
_CLEARED: Final = (
    (2, "encounter.patient_class"),
    (3, "encounter.location"),
    (4, "encounter.type"),
    (5, "encounter.preadmit"),
    (6, "encounter.prior_location"),
    (7, "encounter.attending"),
    (8, "encounter.referring"),
    (9, "encounter.consulting"),
    (10, "encounter.service"),
    (14, "encounter.origin"),
    (17, "encounter.admitting"),
    (36, "encounter.disposition"),
    (37, "encounter.destination"),
    (44, "encounter.admitted_at"),
    (45, "encounter.discharged_at"),
    (50, "encounter.alternate"),
)
_CLEARED_MORE: Final = (
    (3, "encounter.reason"),
    (8, "encounter.expected_admission_at"),
    (9, "encounter.expected_discharge_at"),
)


def map_encounter(trigger: str, fields: list[str], more: list[str], read: Reader, gaps: Gaps) -> Encounter:
    """Return the encounter of a PV1; ``more`` are the fields of PV2, if there is one.

    A time that is none is left out, and told in ``gaps``.
    """
    fields, more = padded(fields, _PV1_FIELDS), padded(more, _PV2_FIELDS)
    if NULL in fields or NULL in more:
        gaps.cleared.extend(name for number, name in _CLEARED if fields[number] == NULL)
        gaps.cleared.extend(name for number, name in _CLEARED_MORE if more[number] == NULL)
    patient_class = read.first(fields[2])
    expected = _time(more[8], "PV2-8", read, gaps)
    admitted = _time(fields[44], "PV1-44", read, gaps)
    discharged = _time(fields[45], "PV1-45", read, gaps)
    return Encounter(
        identifier=_number(fields[19], read),
        status=_STATUSES.get(trigger) or _status(patient_class, discharged),
        patient_class=patient_class,
        location=read.location(fields[3]) if fields[3] else None,
        prior_location=read.location(fields[6]) if fields[6] else None,
        attending=read.practitioner(fields[7]) if fields[7] else None,
        referring=read.practitioner(fields[8]) if fields[8] else None,
        service=read.first(fields[10]),
        admitted_at=admitted or (expected if trigger in _PLANNED else None),
        discharged_at=discharged,
        disposition=read.first(fields[36]),
        type=first_concept(read, fields[4]),
        reason=first_concept(read, more[3]),
        consulting=_people(fields[9], read) if fields[9] else (),
        admitting=read.practitioner(fields[17]) if fields[17] else None,
        preadmit=_number(fields[5], read),
        alternate=_number(fields[50], read),
        origin=read.first(fields[14]),
        destination=read.first(fields[37]),
        expected_admission_at=expected,
        expected_discharge_at=_time(more[9], "PV2-9", read, gaps),
    )


def _status(patient_class: str | None, discharged: str | None) -> str:
    """Return the status that PV1 shows, where the trigger says nothing of it."""
    if discharged:
        return "finished"
    return "planned" if patient_class == _PREADMIT else "in-progress"


def _number(field: str, read: Reader) -> Identifier | None:
    repetitions = read.repetitions(field)
    return read.identifier(repetitions[0]) if repetitions else None


def _people(field: str, read: Reader) -> tuple[Practitioner, ...]:
    return tuple([person for part in read.repetitions(field) if (person := read.practitioner(part))])


def _time(field: str, location: str, read: Reader, gaps: Gaps) -> str | None:
    value = read.first(field) if field else None
    if value is None:
        return None
    time = fhir_datetime(value)
    if time is None:
        gaps.unread.append(location)
    return time


def time_of(field: str, read: Reader) -> str | None:
    """Return a field as FHIR dateTime, or None when it holds no time."""
    value = read.first(field)
    return fhir_datetime(value) if value else None
