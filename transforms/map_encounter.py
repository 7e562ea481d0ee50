"""This module maps PV1 and PV2 to the canonical encounter."""

from typing import Final

from broker.canonical.model import Encounter
from transforms.hl7_types import Reader
from transforms.scope import NULL
from transforms.times import fhir_datetime

PV1_FIELDS: Final = 45
PV2_FIELDS: Final = 8

# What a trigger says about the encounter's status; A08 and its like do not say.
_STATUSES: Final = {
    "A01": "in-progress",
    "A02": "in-progress",
    "A03": "finished",
    "A04": "arrived",
    "A05": "planned",
    "A11": "cancelled",
    "A13": "in-progress",
}
# What is emptied by an explicit null in a field of PV1.
_CLEARED: Final = (
    (2, "encounter.patient_class"),
    (3, "encounter.location"),
    (6, "encounter.prior_location"),
    (7, "encounter.attending"),
    (8, "encounter.referring"),
    (10, "encounter.service"),
    (36, "encounter.disposition"),
    (44, "encounter.admitted_at"),
    (45, "encounter.discharged_at"),
)


def map_encounter(
    trigger: str, fields: list[str], planned: list[str] | None, read: Reader, cleared: list[str]
) -> Encounter:
    """Return the encounter of a PV1 (padded to `PV1_FIELDS`); ``planned`` are the fields of PV2, if there is one.

    ``cleared`` takes the fields sent as explicit null. A time that is none is left out.
    """
    if NULL in fields:
        cleared.extend(name for number, name in _CLEARED if fields[number] == NULL)
    admitted = fields[44]
    if not admitted and planned and trigger == "A05":
        admitted = planned[8]  # PV2-8, the expected time of admission
    return Encounter(
        identifier=read.identifier(read.repetitions(fields[19])[0]) if fields[19] and fields[19] != NULL else None,
        status=_STATUSES.get(trigger),
        patient_class=read.first(fields[2]),
        location=read.location(fields[3]) if fields[3] else None,
        prior_location=read.location(fields[6]) if fields[6] else None,
        attending=read.practitioner(fields[7]) if fields[7] else None,
        referring=read.practitioner(fields[8]) if fields[8] else None,
        service=read.first(fields[10]),
        admitted_at=time_of(admitted, read),
        discharged_at=time_of(fields[45], read),
        disposition=read.first(fields[36]),
    )


def time_of(field: str, read: Reader) -> str | None:
    """Return a field as FHIR dateTime, or None when it holds no time."""
    value = read.first(field)
    return fhir_datetime(value) if value else None
